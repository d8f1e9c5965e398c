"""An encoder-decoder that reads tokens and spells names; states of a user serve all its beams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.noise import Dropout, Noise
from onoma.neural.t5 import DecoderBlock, Norm, RelativeBias


@dataclass(frozen=True)
class Encoded:
    """What an encoder read for n users; a context of :func:`onoma.neural.beam.beam_search`.

    Attributes:
        states: float[n, l, d], left aligned.
        lengths: int64[n], states in use.
    """

    states: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.states)

    @property
    def device(self) -> torch.device:
        """Where the states lie."""
        return self.states.device

    def __getitem__(self, rows: slice | Tensor) -> Encoded:
        """Some users, with no more padding than they need."""
        lengths = self.lengths[rows]
        longest = int(lengths.max()) if len(lengths) else 0
        return Encoded(self.states[rows, :longest], lengths)

    @classmethod
    def stack(cls, parts: Sequence[Encoded]) -> Encoded:
        """The users of all parts, one after the other."""
        longest = max(part.states.shape[1] for part in parts)
        states = [F.pad(p.states, (0, 0, 0, longest - p.states.shape[1])) for p in parts]
        return cls(torch.cat(states), torch.cat([part.lengths for part in parts]))

    def padding(self) -> Tensor | None:
        """float32[n, 1, 1, l], -inf behind a row's end; None where rows are full."""
        return padding(self.lengths, self.states.shape[1])


def padding(lengths: Tensor, width: int) -> Tensor | None:
    """float32[n, 1, 1, width], -inf from int64[n] lengths on; None where all are ``width``."""
    if bool((lengths == width).all()):
        return None
    behind = torch.arange(width, device=lengths.device) >= lengths[:, None]
    return torch.zeros(behind.shape, device=lengths.device).masked_fill_(behind, -torch.inf)[
        :, None, None, :
    ]


class NameDecoder(nn.Module):
    """Spells a name code by code from what an encoder read.

    One table holds the codes of all levels, each with rows of its own, and serves input and
    output; a step answers over the rows of its own level alone. Is a
    :class:`onoma.neural.beam.Speller` whose contexts are :class:`Encoded`. Keys and values of the
    codes that beams said stay where they were computed; a beam remembers the columns of its
    ancestors, and those of the encoder's states are computed once for all beams of a user.

    Args:
        sizes: vocabulary of each level.
        width: model width d.
        layers: number of blocks.
        heads: attention heads.
        head_width: of each.
        inner: of the feed-forward.
        dropout: as for :class:`onoma.neural.t5.Encoder`.
        noise: the model's randomness.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        layers: int,
        heads: int,
        head_width: int,
        inner: int,
        dropout: float,
        noise: Noise,
    ) -> None:
        super().__init__()
        self.sizes, self.width = tuple(int(size) for size in sizes), width
        self.offsets = [0, *(int(x) for x in np.cumsum(self.sizes))]
        # Two rows more: what is said first, and what stands after the end of a shorter name.
        self.vocabulary = nn.Parameter(torch.randn(self.offsets[-1] + 2, width))
        self.bias = RelativeBias(heads, False, width**-0.5)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, heads, head_width, inner, dropout, noise) for _ in range(layers)
        )
        self.norm = Norm(width)
        self.dropout = Dropout(dropout, noise)

    def rows(self, codes: NDArray[np.integer]) -> Tensor:
        """int64[n, depth], the vocabulary's row of each code; the last row after an end."""
        places = codes.astype(np.int64) + np.asarray(self.offsets[:-1])
        return torch.from_numpy(np.where(codes < 0, self.offsets[-1] + 1, places))

    def forward(self, context: Encoded, codes: Tensor) -> list[Tensor]:
        """Logits of every level in one pass, each given the true codes before it.

        Args:
            context: m users.
            codes: int64[m, depth], or int64[m, names, depth] for names said one after the other;
                -1 after the end of a name, where the logits mean nothing.

        Returns:
            One float[m, size] or float[m, names, size] a level.
        """
        names = codes[:, None] if codes.dim() == 2 else codes
        starts = torch.tensor(self.offsets[:-1], device=codes.device)
        said = torch.where(names < 0, self.offsets[-1] + 1, names + starts)
        # Every name begins anew; nothing reads the last code of the last.
        said = F.pad(said, (1, 0), value=self.offsets[-1]).flatten(1)[:, :-1]
        places = torch.arange(said.shape[1], device=codes.device)
        later = places[None, :] > places[:, None]
        bias = self.bias(places, places).masked_fill(later, -torch.inf)
        x, hidden = self.dropout(F.embedding(said, self.vocabulary)), context.padding()
        for block in self.blocks:
            x = block(x, bias, context.states, hidden)
        x, stride = self.dropout(self.norm(x)), len(self.sizes) + 1
        levels = [self._logits(x[:, n::stride], n) for n in range(len(self.sizes))]
        return levels if codes.dim() == 3 else [level[:, 0] for level in levels]

    def loss(self, context: Encoded, codes: Tensor) -> Tensor:
        """Mean over names that are not all -1 of the cross-entropy of their codes."""
        count = (codes[..., 0] >= 0).sum()
        total = [
            F.cross_entropy(
                logits.float().flatten(0, -2), codes[..., level].flatten(), ignore_index=-1,
                reduction="sum",
            )
            for level, logits in enumerate(self(context, codes))
        ]  # fmt: skip
        return torch.stack(total).sum() / count.clamp(min=1)

    def _logits(self, x: Tensor, level: int) -> Tensor:
        table = self.vocabulary[self.offsets[level] : self.offsets[level + 1]]
        return F.linear(x * self.width**-0.5, table)

    def begin(self, context: Encoded) -> Said:
        """See :class:`onoma.neural.beam.Speller`."""
        blocks = [cast(DecoderBlock, block) for block in self.blocks]
        read = [block.read.keys(context.states) for block in blocks]
        return Said(read, context.padding(), [[] for _ in blocks], [], len(context))

    def step(self, state: Said, level: int, codes: Tensor | None) -> tuple[Tensor, Said]:
        """See :class:`onoma.neural.beam.Speller`."""
        x, state = self._place(state, level, codes)
        return self._logits(self.norm(x), level), state

    def _place(self, state: Said, level: int, codes: Tensor | None) -> tuple[Tensor, Said]:
        """One more place: what is said first, or the codes of the level before."""
        if codes is None:
            x = self.vocabulary[self.offsets[-1]].expand(state.users, 1, -1)
        else:
            rows = torch.where(codes < 0, self.offsets[-1] + 1, codes + self.offsets[level - 1])
            x = F.embedding(rows, self.vocabulary)
        place, said = len(state.said[0]), []
        here = torch.tensor([place], device=x.device)
        bias = self.bias(here, torch.arange(place + 1, device=x.device))[:, 0]
        for number, block in enumerate(self.blocks):
            block = cast(DecoderBlock, block)
            qkv = F.linear(block.before_attention(x), block.attention.qkv)
            inner = block.attention.inner
            said.append([*state.said[number], qkv[..., inner:]])
            x = block.say(x, qkv[..., :inner], state.path(said[-1]), bias)
            x = block.finish(x, *state.read[number], state.padding)
        return x, replace(state, said=said)

    def reorder(self, state: Said, parents: Tensor) -> Said:
        """See :class:`onoma.neural.beam.Speller`; moves columns, no keys."""
        ancestors = [columns.gather(1, parents) for columns in state.ancestors]
        return replace(state, ancestors=[*ancestors, parents])

    def hear(self, state: Said, codes: Tensor) -> Said:
        """The state after whole names int64[n, depth], -1 after an end; what follows comes next."""
        alone = torch.zeros(state.users, 1, dtype=torch.int64, device=codes.device)
        for level in range(len(self.sizes) + 1):
            before = codes[:, level - 1 : level] if level else None
            _, state = self._place(state, level, before)
            state = self.reorder(state, alone)
        return state


@dataclass(frozen=True)
class Said:
    """What the beams of n users said and read.

    Attributes:
        read: keys and values of the encoder's states, a pair a block.
        padding: of those.
        said: per block and place, float[n, b, 2 * inner]: keys and values of the beams of the time.
        ancestors: int64[n, b] a place, the column that each beam of now had there.
        users: n.
    """

    read: list[tuple[Tensor, Tensor]]
    padding: Tensor | None
    said: list[list[Tensor]]
    ancestors: list[Tensor]
    users: int

    def path(self, said: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of every beam's codes in a block, a place a turn.

        Args:
            said: float[n, b, 2 * inner] a place, the last one's of the beams of now.

        Yields:
            Two of float[n, b or 1, inner].
        """
        for place, keys in enumerate(said):
            if place < len(self.ancestors) and keys.shape[1] > 1:
                n, b, width = keys.shape
                columns = self.ancestors[place]
                at = columns + torch.arange(n, device=columns.device)[:, None] * b
                keys = keys.reshape(-1, width).index_select(0, at.view(-1)).view(n, -1, width)
            k, v = keys.chunk(2, dim=-1)
            yield k, v


class Resumed:
    """A speller that goes on from a state; for :func:`onoma.neural.beam.beam_search`."""

    def __init__(self, decoder: NameDecoder, state: Said) -> None:
        self.decoder, self.state = decoder, state
        self.step, self.reorder = decoder.step, decoder.reorder

    def begin(self, context: Encoded) -> Said:
        """The state, whatever the context."""
        return self.state
