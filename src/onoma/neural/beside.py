"""Tokens beside a sequence: each reads the sequence and itself, and the sequence reads none."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from onoma.neural.blocks import CausalBlock, SequenceEncoder
from onoma.neural.noise import Noise
from onoma.neural.rotary import Turn


class Kept(NamedTuple):
    """What one layer keeps of a sequence for the tokens beside it.

    Attributes:
        keys: float[b, heads, l, c].
        values: float[b, heads, l, c].
    """

    keys: Tensor
    values: Tensor

    def take(self, rows: Tensor) -> Kept:
        """Those of int64[a] rows."""
        return Kept(self.keys[rows], self.values[rows])

    def at(self, rows: Tensor, columns: Tensor) -> Kept:
        """Of one token a row, at int64[a] rows and columns: l is 1."""
        return Kept(self.keys[rows, :, columns, None], self.values[rows, :, columns, None])

    def then(self, other: Kept) -> Kept:
        """With what another keeps behind it."""
        return Kept(
            torch.cat([self.keys, other.keys], dim=2), torch.cat([self.values, other.values], dim=2)
        )


class HostBlock(CausalBlock):
    """A causal block whose keys and values tokens beside the sequence may read."""

    def keep(self, x: Tensor, turn: Turn | None = None) -> Kept:
        """The keys and values of float[b, l, width]."""
        _, k, v = self._placed(x, turn)
        return Kept(k, v)

    def host(self, x: Tensor, turn: Turn | None = None) -> tuple[Tensor, Kept]:
        """What ``forward`` gives for float[b, l, width], and the keys and values on the way."""
        q, k, v = self._placed(x, turn)
        return self._close(x, self.attend(q, k, v, None)), Kept(k, v)

    def beside(
        self, tokens: Tensor, kept: Kept, seen: Tensor, turn: Turn | None = None
    ) -> tuple[Tensor, Kept]:
        """Tokens through the block.

        Their attention has two parts, token to sequence and token to itself, under one softmax;
        token to token is never computed, so the work grows with l n and not with (l + n) squared.

        Args:
            tokens: float[b, n, width].
            kept: of the sequences.
            seen: bool, broadcast to [b, n, l]: the places that each token reads.
            turn: of the tokens, where the sequences were turned.

        Returns:
            float[b, n, width], and what the tokens themselves keep.
        """
        q, own_k, own_v = self._placed(tokens, turn)
        scale = q.shape[3] ** -0.5
        among = (q @ kept.keys.transpose(2, 3)).float() * scale
        own = (q.float() * own_k.float()).sum(3, keepdim=True) * scale
        among = among.masked_fill(~seen.unsqueeze(-3), -torch.inf)
        weights = torch.cat([among, own], dim=3).softmax(3).to(q.dtype)
        mixed = weights[..., :-1] @ kept.values + weights[..., -1:] * own_v
        return self._close(tokens, mixed), Kept(own_k, own_v)

    def _placed(self, x: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned where there is a turn, and values."""
        q, k, v = self._split(x)
        if turn is not None:
            q, k = turn.of(torch.stack([q, k]))
        return q, k, v


class Host(SequenceEncoder):
    """Causal blocks over a sequence, which tokens beside it go through as well.

    A token that stands behind place t sees the places up to t and itself, as the last of a longer
    sequence would; any number of them cost the sequence one pass. Without blocks tokens see
    nothing but themselves.

    Args:
        width: model width d.
        blocks: number of blocks, may be 0.
        heads: attention heads.
        length: longest sequence.
        dropout: rate inside the blocks.
        input_dropout: rate on what enters.
        noise: the model's randomness.
        positions: whether learned absolute positions are added; else turns say where tokens stand.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        length: int,
        dropout: float,
        input_dropout: float,
        noise: Noise,
        *,
        positions: bool = True,
    ) -> None:
        # One place more than a sequence has: a token stands behind it.
        super().__init__(
            width, blocks, heads, length + 1, dropout, input_dropout, noise,
            block=HostBlock, positions=positions,
        )  # fmt: skip

    def keep(self, vectors: Tensor, turn: Turn | None = None) -> list[Kept]:
        """What every block keeps of float[b, l, d] vectors, left aligned."""
        kept: list[Kept] = []
        if not self.blocks:
            return kept
        x = self.enter(vectors)
        *before, final = (cast(HostBlock, block) for block in self.blocks)
        for block in before:
            x, found = block.host(x, turn)
            kept.append(found)
        return [*kept, final.keep(x, turn)]

    def beside(self, tokens: Tensor, kept: list[Kept], seen: Tensor, places: Tensor) -> Tensor:
        """Tokens through all blocks.

        Args:
            tokens: float[b, n, d].
            kept: of b sequences, from :meth:`keep`.
            seen: bool, broadcast to [b, n, l].
            places: int64, broadcast to [b, n]: where each token stands, from 0.

        Returns:
            float[b, n, d] states.
        """
        assert self.positions is not None
        return self.join(tokens + self.positions[places], kept, seen)[0]

    def join(
        self, tokens: Tensor, kept: list[Kept], seen: Tensor, turn: Turn | None = None
    ) -> tuple[Tensor, list[Kept]]:
        """Tokens, placed already or turned, through all blocks.

        Args:
            tokens: float[b, n, d].
            kept: of b sequences, from :meth:`keep`.
            seen: bool, broadcast to [b, n, l].
            turn: of the tokens, where the sequences were turned.

        Returns:
            float[b, n, d] states, and what every block keeps of the tokens, for others to read.
        """
        x, own = self.input_dropout(tokens), []
        for block, found in zip(self.blocks, kept, strict=True):
            x, mine = cast(HostBlock, block).beside(x, found, seen, turn)
            own.append(mine)
        return self.norm(x), own
