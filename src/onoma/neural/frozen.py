"""A language model that stays as it is, and what is trained around and inside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma.neural.lowrank import inject, write_adapter
from onoma.neural.narrow import Narrow
from onoma.neural.noise import GlobalNoise, Noise
from onoma.neural.shallow import keep_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from onoma.language.torch_model import TorchModel


class LoraSettings(BaseModel):
    """Low-rank updates of a language model's matrices (Hu et al., LoRA, ICLR 2022).

    Attributes:
        rank: of an update.
        alpha: an update counts alpha / rank.
        dropout: rate on what enters an update.
        targets: last parts of the names of the matrices that have one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "v_proj")


class FrozenModule(nn.Module):
    """Holds a language model outside its own parameters.

    Only what a subclass registers, and the low-rank updates, is trained, kept in checkpoints and
    saved; the language model's weights are neither. A subclass sets ``n_items``.

    Args:
        model: whose weights are read from its folder, anew for each module, in float32 on a
            processor; see :class:`onoma.neural.narrow.Narrow` for what it learns in.
        layers: so many are kept, see :func:`onoma.neural.shallow.keep_layers`; None keeps all.
        spread: they are spread over the depth; else they are the first ones.
        lora: the updates; None trains nothing inside the model. Their weights are drawn from
            torch's stream; those of equal seeds are equal.

    Attributes:
        width: dimensions of a state.
        lm: the transformers model.

    Raises:
        OnomaError: no such matrices or layers, or peft is not installed.
    """

    n_items: int
    lm: PreTrainedModel

    def __init__(
        self,
        model: TorchModel,
        *,
        layers: int | None = None,
        spread: bool = False,
        lora: LoraSettings | None = None,
    ) -> None:
        super().__init__()
        self.noise: Noise = GlobalNoise()
        network = model.fresh()
        if layers is not None:
            keep_layers(network, layers, spread=spread)
        self.settings_of_lora, self.source = lora, model.identity
        if lora is not None:
            inject(network, lora)
        self._narrow = Narrow(network)
        object.__setattr__(self, "lm", network)  # no submodule: its weights are not ours
        self.width = int(network.config.hidden_size)
        self.updates = nn.ParameterDict(
            {name.replace(".", "/"): p for name, p in network.named_parameters() if p.requires_grad}
        )
        self.register_load_state_dict_pre_hook(_slashed)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """As torch's; the language model drops out where its updates do, and learns in bf16."""
        self._narrow.learn(mode)
        self.lm.train(mode)
        return super().train(mode)

    @property
    def device(self) -> torch.device:
        """Where the language model computes."""
        return self.lm.device

    def embed(self, tokens: Tensor) -> Tensor:
        """float[..., width], the model's own vectors of int64 tokens."""
        found: Tensor = self.lm.get_input_embeddings()(tokens.to(self.device))
        return found

    @torch.no_grad()
    def like_words(self, bridge: nn.Sequential, sample: Tensor) -> None:
        """Set a bridge's last layer so that what comes out has the mean and spread of words.

        A language model makes little of vectors whose size it has never seen.

        Args:
            bridge: ends in a linear layer.
            sample: float[n, d] of what goes in.
        """
        words = self.lm.get_input_embeddings().weight.detach().float().to(sample.device)
        last, out = bridge[-1], bridge(sample)
        assert isinstance(last, nn.Linear)
        factor = words.std(0).mean() / out.std(0).mean().clamp(min=1e-6)
        last.weight.mul_(factor)
        last.bias.copy_(words.mean(0) - factor * (out.mean(0) - last.bias))

    def read(self, prompts: Mixed, soft: Tensor | None = None) -> Tensor:
        """The states of prompts.

        Args:
            prompts: n of them.
            soft: float[m, width], the vectors that stand in the m slots, in reading order.

        Returns:
            float[n, l, width]; what stands behind a prompt's end means nothing.
        """
        inputs = self._inputs(prompts, soft)
        # Padding stands behind everything, where a causal model never looks.
        found: Tensor = self.lm.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return found

    def _inputs(self, prompts: Mixed, soft: Tensor | None) -> Tensor:
        inputs = self.embed(prompts.tokens)
        if soft is None:
            return inputs
        rows, columns = prompts.slots.to(self.device).unbind(1)
        return inputs.index_put((rows, columns), soft.to(inputs.dtype))

    def last(self, prompts: Mixed, soft: Tensor | None = None) -> Tensor:
        """float[n, width], the states at the prompts' last places; see :meth:`read`."""
        states = self.read(prompts, soft)
        rows = torch.arange(len(states), device=states.device)
        return states[rows, prompts.lengths.to(states.device) - 1]

    def logits(self, states: Tensor) -> Tensor:
        """float32[..., vocabulary] of states."""
        head = self.lm.get_output_embeddings()
        found: Tensor = head(states).float()
        return found

    def answer_loss(
        self, prompts: Mixed, soft: Tensor | None = None, states: Tensor | None = None
    ) -> Tensor:
        """Mean cross-entropy over the tokens of the answers, from ``prompts.answers`` on.

        Only those places are multiplied with the vocabulary. ``states`` are the prompts', where
        they have been read.
        """
        states = self.read(prompts, soft) if states is None else states
        at = torch.arange(states.shape[1])
        said = (at >= prompts.answers[:, None]) & (at < prompts.lengths[:, None])
        rows, columns = said.nonzero(as_tuple=True)
        wanted = prompts.tokens[rows, columns].to(states.device)
        before = states[rows.to(states.device), columns.to(states.device) - 1]
        return nn.functional.cross_entropy(self.logits(before), wanted)

    @torch.no_grad()
    def write(
        self,
        prompts: Mixed,
        ends: Collection[int],
        longest: int,
        *,
        beam: int = 1,
        soft: Tensor | None = None,
    ) -> list[list[int]]:
        """The tokens that the model goes on with, greedily or by a beam; keys are kept meanwhile.

        Args:
            prompts: n of them, without answers.
            ends: tokens that end an answer; they are left out.
            longest: tokens of an answer at most.
            beam: answers followed at a time, of which the likeliest is returned.
            soft: as of :meth:`read`.

        Returns:
            n rows of tokens.
        """
        from transformers import GenerationConfig

        inputs = self._inputs(prompts, soft)
        # What is said stands behind each prompt's own end, so padding moves to the front here.
        width = inputs.shape[1]
        place = torch.arange(width)[None, :] - (width - prompts.lengths)[:, None]
        known = (place >= 0).to(inputs.device)
        at = place.clamp(min=0).to(inputs.device)[:, :, None].expand_as(inputs)
        end = sorted(ends)
        how = GenerationConfig(
            max_new_tokens=longest, num_beams=beam, do_sample=False, use_cache=True,
            eos_token_id=end, pad_token_id=end[0], bos_token_id=end[0],
        )  # fmt: skip
        generate: Any = self.lm.generate
        said = generate(
            inputs_embeds=inputs.gather(1, at), attention_mask=known.long(), generation_config=how
        ).tolist()
        stops = [next((n for n, t in enumerate(row) if t in ends), len(row)) for row in said]
        return [row[:stop] for row, stop in zip(said, stops, strict=True)]

    @contextmanager
    def untuned(self) -> Iterator[None]:
        """Leaves the updates out meanwhile; for one thread at a time."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        tuned = [part for part in self.lm.modules() if isinstance(part, BaseTunerLayer)]
        for part in tuned:
            part.enable_adapters(False)
        try:
            yield
        finally:
            for part in tuned:
                part.enable_adapters(True)

    def save_adapter(self, folder: str | Path, about: str) -> None:
        """Write the low-rank updates as peft reads them, with a model card.

        Args:
            folder: of :func:`onoma.neural.lowrank.write_adapter`.
            about: paragraphs of the card: what it was trained on and how well it does.

        Raises:
            ValueError: there are no updates.
        """
        if self.settings_of_lora is None:
            raise ValueError("no low-rank updates to save")
        updates = {name.replace("/", "."): value for name, value in self.updates.items()}
        write_adapter(folder, updates, self.settings_of_lora, self.source, about)


@dataclass(frozen=True)
class Mixed:
    """Prompts of words and of places for vectors, left aligned.

    Attributes:
        tokens: int64[n, l]; 0 where a vector stands and behind a prompt's end.
        lengths: int64[n].
        slots: int64[m, 2], row and column of each vector, in reading order.
        answers: int64[n], where the answer begins; the length where there is none.
    """

    tokens: Tensor
    lengths: Tensor
    slots: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


class Composer:
    """Turns pieces of text and places for vectors into prompts; pieces are read once.

    Words do not grow together across the border of two pieces.

    Args:
        tokenizer: of the language model.
    """

    def __init__(self, tokenizer: Callable[..., Any]) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """The tokens of one piece, nothing put before or behind it."""
        if text not in self._known:
            self._known[text] = list(self._tokenizer(text, add_special_tokens=False).input_ids)
        return self._known[text]

    def compose(
        self,
        prompts: Sequence[Sequence[str | int | None]],
        answers: Sequence[Sequence[str | int]] | None = None,
    ) -> Mixed:
        """One row a prompt.

        Args:
            prompts: n sequences of texts, tokens (int) and places for a vector (None).
            answers: n sequences of texts and tokens that follow the prompts.
        """
        rows: list[list[int]] = []
        slots: list[tuple[int, int]] = []
        begins: list[int] = []
        for row, pieces in enumerate(prompts):
            line: list[int] = []
            for piece in pieces:
                if piece is None:
                    slots.append((row, len(line)))
                    line.append(0)
                else:
                    line += [piece] if isinstance(piece, int) else self.tokens(piece)
            begins.append(len(line))
            for piece in answers[row] if answers is not None else ():
                line += [piece] if isinstance(piece, int) else self.tokens(piece)
            rows.append(line)
        lengths = np.array([len(line) for line in rows], dtype=np.int64)
        table = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.int64)
        for row, line in enumerate(rows):
            table[row, : len(line)] = line
        return Mixed(
            torch.from_numpy(table),
            torch.from_numpy(lengths),
            torch.tensor(slots, dtype=torch.long).reshape(-1, 2),
            torch.tensor(begins, dtype=torch.long),
        )


def by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows in batches of like length, longest first, so that little is padding.

    Args:
        lengths: of n rows.
        tokens: a batch's rows times its longest are at most this many; at least one row.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    begin = 0
    while begin < len(order):
        size = max(1, tokens // max(lengths[order[begin]], 1))
        batches.append(order[begin : begin + size])
        begin += size
    return batches


def _slashed(module: FrozenModule, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Saved recommenders have full stops all through the names of updates."""
    own = f"{prefix}updates."
    for name in [name for name in weights if name.startswith(own)]:
        weights[own + name.removeprefix(own).replace(".", "/")] = weights.pop(name)
