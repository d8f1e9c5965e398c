"""A history, tokens that ask beside it, and candidates that are judged in view of both."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onoma.neural.beside import Host, Kept
from onoma.neural.noise import Noise
from onoma.neural.rotary import Rotary, Turn


class Read(NamedTuple):
    """Histories that were read once, for any number of tokens.

    Attributes:
        kept: the keys and values of each block.
        hours: float32[b, l], when events were, of :func:`onoma.neural.rotary.hours_of`.
    """

    kept: list[Kept]
    hours: Tensor


class Asked(NamedTuple):
    """Tokens that asked.

    Attributes:
        states: float[b, n, d].
        kept: the keys and values of each block.
        turn: what turned them.
    """

    states: Tensor
    kept: list[Kept]
    turn: Turn


class Contextual(Host):
    """Who reads whom: a causal history, retrieval tokens beside it, ranking tokens beside both.

    A token behind place t stands in the place after it, at the time of its event: when the next
    event came is part of the answer. It reads the places up to t and itself; a ranking token also
    the retrieval token it belongs to. No token is read by the history, and no ranking token by
    another.

    Args:
        width: model width d.
        blocks: number of blocks.
        heads: attention heads.
        length: longest history.
        dropout: rate inside the blocks.
        input_dropout: rate on what enters.
        noise: the model's randomness.
        rotary: where and when tokens stand.
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
        rotary: Rotary,
    ) -> None:
        super().__init__(
            width, blocks, heads, length, dropout, input_dropout, noise, positions=False
        )
        self.rotary = rotary

    def read(self, events: Tensor, hours: Tensor) -> Read:
        """Float[b, l, d] events, left aligned, and float32[b, l] hours."""
        place = torch.arange(events.shape[1], device=events.device)
        return Read(self.keep(events, self.rotary(place[None], hours)), hours)

    def ask(self, read: Read, tokens: Tensor, ends: Tensor) -> Asked:
        """Retrieval tokens, each behind a place.

        Args:
            read: b histories.
            tokens: float[b, n, d].
            ends: int64[b, n], the place of the last event that each one reads.
        """
        turn = self.rotary(ends + 1, read.hours.gather(1, ends))
        place = torch.arange(read.hours.shape[1], device=ends.device)
        states, kept = self.join(tokens, read.kept, place <= ends[:, :, None], turn)
        return Asked(states, kept, turn)

    def judge(
        self, read: Read, asked: Asked, rows: Tensor, columns: Tensor, ends: Tensor, tokens: Tensor
    ) -> Tensor:
        """Ranking tokens, which reuse the keys and values of the history and of who asked.

        Args:
            read: b histories.
            asked: their retrieval tokens.
            rows: int64[a], of the histories.
            columns: int64[a], of the retrieval tokens.
            ends: int64[a], the place of the last event.
            tokens: float[a, m, d].

        Returns:
            float[a, m, d] states.
        """
        both = [
            history.take(rows).then(own.at(rows, columns))
            for history, own in zip(read.kept, asked.kept, strict=True)
        ]
        place = torch.arange(read.hours.shape[1], device=ends.device)
        own = torch.ones(len(rows), 1, dtype=torch.bool, device=ends.device)
        seen = torch.cat([place <= ends[:, None], own], dim=1)
        return self.join(tokens, both, seen[:, None], asked.turn.at(rows, columns))[0]
