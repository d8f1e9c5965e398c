"""Layers of a language model that are trained as a whole: one tier reads words, one reads items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from onoma.neural.attention import attend_in_float32
from onoma.neural.blocks import Trunk
from onoma.neural.frozen import by_length
from onoma.neural.shallow import keep_layers

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from onoma.language.torch_model import TorchModel

_TOKENS = 4096  # of a batch of texts, padding included


class Tier(Trunk):
    """The layers of a causal model of transformers, fed with vectors.

    Args:
        body: the model without its head; its table of words is dropped.

    Attributes:
        centre: float32[d], taken off every state.
        spread: float32[d], what the rest is divided by; see :meth:`settle`.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        body.set_input_embeddings(nn.Identity())  # type: ignore[operator]
        self.body = body.float().requires_grad_(True)
        attend_in_float32(cast("PreTrainedModel", body))
        width = int(cast("PreTrainedModel", body).config.hidden_size)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def forward(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] to the states, left aligned: nothing looks at what stands behind."""
        out: Tensor = self.body(inputs_embeds=vectors, use_cache=False).last_hidden_state
        return (out - self.centre) / self.spread

    @torch.no_grad()
    def settle(self, states: Tensor) -> None:
        """Make the mean 0 and the deviation 1 of what float[n, d] states stand for, from now on.

        The states of a pretrained tier nearly all point the same way, and a short training would
        have to undo that first (data-dependent initialisation: Krähenbühl et al., ICLR 2016).
        """
        states = states.float()
        self.centre += self.spread * states.mean(0)
        spread = states.std(0, correction=0)
        self.spread *= torch.where(spread > 1e-6, spread, 1.0)


class TextTier(nn.Module):
    """Texts to vectors: a tier, the words that it knows, and a learnt mark behind every text.

    The mean of the states, the mark's among them, is the vector. Only words that are given have a
    place in the table, which keeps it small enough to be trained.

    Args:
        body: as of :class:`Tier`.
        table: float32[v, d], vectors of the words to start from.
    """

    def __init__(self, body: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.tier = Tier(body)
        self.words = nn.Embedding(*table.shape)
        self.words.weight.data.copy_(table)
        spread = float(table.float().std()) if len(table) > 1 else 0.02
        self.mark = nn.Parameter(torch.randn(table.shape[1]) * spread)

    def forward(self, texts: Tensor) -> Tensor:
        """float[n, d] of int[n, l] words, -1 behind them; those of like length go together."""
        lengths = (texts >= 0).sum(1)
        parts, rows = [], []
        for part in by_length((lengths + 1).tolist(), _TOKENS):
            row = torch.tensor(part, device=texts.device)
            ends = lengths[row]
            words = nn.functional.pad(texts[row, : int(ends.max())].long(), (0, 1))
            inputs = self.words(words.clamp(min=0))
            at = torch.arange(words.shape[1], device=texts.device)
            inputs = torch.where((at == ends[:, None])[:, :, None], self.mark, inputs)
            states = self.tier(inputs) * (at <= ends[:, None])[:, :, None]
            parts.append(states.sum(1) / (ends + 1)[:, None])
            rows += part
        if not parts:
            return self.mark.new_zeros(0, len(self.mark))
        back = torch.empty(len(rows), dtype=torch.long, device=texts.device)
        back[torch.tensor(rows, device=texts.device)] = torch.arange(len(rows), device=texts.device)
        return torch.cat(parts)[back]


def pretrained(model: TorchModel, layers: int) -> tuple[nn.Module, Tensor]:
    """The first layers of a language model, and float[vocabulary, d], its table of words.

    Raises:
        OnomaError: it has fewer layers, or cannot be loaded.
    """
    network = model.fresh()
    keep_layers(network, layers)
    return cast(nn.Module, network.base_model), network.get_input_embeddings().weight.detach()


def fresh(config: PreTrainedConfig, layers: int) -> nn.Module:
    """A model of so many layers with weights drawn from torch's stream, without a head."""
    from transformers import AutoModel

    about: dict[str, Any] = {"num_hidden_layers": layers, "vocab_size": 1}  # words stay out
    about |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    own: Any = config.__class__.from_dict({**config.to_dict(), **about})
    return cast(nn.Module, AutoModel.from_config(own))
