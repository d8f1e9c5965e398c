"""An encoder-decoder that reads tokens and spells names; states of a user serve all its beams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
            codes: int64[m, depth]; -1 after the end of a name, where the logits mean nothing.

        Returns:
            One float[m, size] a level.
        """
        depth = len(self.sizes)
        starts = torch.tensor(self.offsets[: depth - 1], device=codes.device)
        before = codes[:, :-1]
        said = torch.where(before < 0, self.offsets[-1] + 1, before + starts)
        said = F.pad(said, (1, 0), value=self.offsets[-1])
        places = torch.arange(depth, device=codes.device)
        later = places[None, :] > places[:, None]
        bias = self.bias(places, places).masked_fill(later, -torch.inf)
        x, hidden = self.dropout(F.embedding(said, self.vocabulary)), context.padding()
        for block in self.blocks:
            x = block(x, bias, context.states, hidden)
        x = self.dropout(self.norm(x))
        return [self._logits(x[:, level], level) for level in range(depth)]

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
        if codes is None:
            x = self.vocabulary[self.offsets[-1]].expand(state.users, 1, -1)
        else:
            x = F.embedding(codes + self.offsets[level - 1], self.vocabulary)
        here = torch.tensor([level], device=x.device)
        bias = self.bias(here, torch.arange(level + 1, device=x.device))[:, 0]
        for number, block in enumerate(self.blocks):
            block = cast(DecoderBlock, block)
            qkv = F.linear(block.before_attention(x), block.attention.qkv)
            inner = block.attention.inner
            queries, keys = qkv[..., :inner], qkv[..., inner:]
            state.said[number].append(keys)
            x = block.say(x, queries, state.path(number), bias)
            x = block.finish(x, *state.read[number], state.padding)
        return self._logits(self.norm(x), level), state

    def reorder(self, state: Said, parents: Tensor) -> Said:
        """See :class:`onoma.neural.beam.Speller`; moves columns, no keys."""
        ancestors = [columns.gather(1, parents) for columns in state.ancestors]
        return Said(
            state.read, state.padding, [list(x) for x in state.said],
            [*ancestors, parents], state.users,
        )  # fmt: skip


@dataclass
class Said:
    """What the beams of n users said and read.

    Attributes:
        read: keys and values of the encoder's states, a pair a block.
        padding: of those.
        said: per block and level, float[n, b, 2 * inner]: keys and values of the beams of the time.
        ancestors: int64[n, b] a level, the column that each beam of now had there.
        users: n.
    """

    read: list[tuple[Tensor, Tensor]]
    padding: Tensor | None
    said: list[list[Tensor]]
    ancestors: list[Tensor]
    users: int

    def path(self, block: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of every beam's codes, a level a turn, each float[n, b or 1, inner]."""
        for level, keys in enumerate(self.said[block]):
            if level < len(self.ancestors) and keys.shape[1] > 1:
                n, b, width = keys.shape
                columns = self.ancestors[level]
                at = columns + torch.arange(n, device=columns.device)[:, None] * b
                keys = keys.reshape(-1, width).index_select(0, at.view(-1)).view(n, -1, width)
            k, v = keys.chunk(2, dim=-1)
            yield k, v
