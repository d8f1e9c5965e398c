"""Layers of a frozen language model as the trunk of a sequence, behind an instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from onoma.neural.blocks import Trunk
from onoma.neural.frozen import FrozenModule, LoraSettings

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

_Read = list[tuple[Tensor, Tensor]]  # keys and values of each layer


class Instructed(Trunk):
    """Reads vectors of a word's size behind an instruction; trains low-rank updates alone.

    The instruction is read once for all rows of a batch and, while nothing is trained, once for
    all batches: a row costs what its own vectors do.

    Args:
        model: the language model.
        instruction: what stands before every row, of one token or more.
        layers: so many are kept.
        spread: they are spread over the depth; else they are the first ones.
        lora: the updates.

    Attributes:
        inside: the language model and its updates.
    """

    def __init__(
        self,
        model: TorchModel,
        instruction: str,
        layers: int,
        *,
        spread: bool = False,
        lora: LoraSettings | None = None,
    ) -> None:
        super().__init__()
        self.inside = FrozenModule(model, layers=layers, spread=spread, lora=lora)
        self._said = torch.tensor(model.tokenizer(instruction).input_ids)
        self._kept: _Read | None = None

    def train(self, mode: bool = True) -> Self:
        """As torch's; what was kept of the instruction is dropped."""
        self._kept = None
        return super().train(mode)

    def forward(self, vectors: Tensor) -> Tensor:
        """float[b, l, width], left aligned, to the float32 states of the last layer, normed."""
        found: Tensor = self._read(vectors).last_hidden_state
        return found.float()

    def depths(self, vectors: Tensor, blocks: int) -> list[Tensor]:
        """The states at the ends of equal blocks of layers.

        Args:
            vectors: as of :meth:`forward`.
            blocks: whose number divides that of the layers.

        Returns:
            One float32[b, l, width] a block; the last is what :meth:`forward` gives.
        """
        found = self._read(vectors, output_hidden_states=True).hidden_states
        layers = len(found) - 1  # the first are the vectors themselves
        return [found[layers * end // blocks].float() for end in range(1, blocks + 1)]

    def _read(self, vectors: Tensor, **how: Any) -> Any:
        from transformers import DynamicCache

        rows, network = len(vectors), self.inside.lm
        # A cache takes what is read; the keys of the instruction stay as they are for the next.
        kept = [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in self._front()]
        vectors = vectors.to(network.get_input_embeddings().weight.dtype)
        return network.base_model(
            inputs_embeds=vectors, past_key_values=DynamicCache(kept), use_cache=True, **how
        )

    def _front(self) -> _Read:
        """Keys and values of the instruction in every layer, each [1, heads, tokens, size]."""
        if self._kept is not None:
            return self._kept
        if self.training:
            return self._instruct()
        with torch.no_grad():
            self._kept = self._instruct()
        return self._kept

    def _instruct(self) -> _Read:
        from transformers import DynamicCache

        cache = DynamicCache()
        words = self.inside.embed(self._said)[None]
        self.inside.lm.base_model(inputs_embeds=words, past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]
