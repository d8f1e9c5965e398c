"""Towers over long histories of unlike events: one asks at every place, one reads the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from onoma.neural.blocks import CausalBlock, check_heads
from onoma.neural.clock import Clock, Told
from onoma.neural.noise import Dropout, Noise
from onoma.recommenders.ranking.clicks import ClickSettings, head

_START = 0.05  # standard deviation of fresh embeddings


class TowerSettings(ClickSettings):
    """A tower.

    Attributes:
        blocks: of the transformer.
        heads: of its attention; they divide ``width``.
        time: what times say: ``calendar``, ``gap`` (since the event before), ``age`` (at the time
            of the request; only of a tower that reads the whole). Nothing: the order alone.
        encoding: of gaps and ages: ``buckets``, or learned ``waves``.
    """

    width: int = Field(default=64, ge=2)
    length: int = Field(default=100, ge=1)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    time: tuple[Told, ...] = ("calendar", "gap", "age")
    encoding: Literal["buckets", "waves"] = "buckets"

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.width, self.heads)
        return self


@dataclass(frozen=True)
class Events:
    """N histories, oldest event first, left aligned.

    Attributes:
        fields: int64[n, l, f] codes of every event, 0 for a field that says nothing.
        times: int64[n, l] Unix seconds, -1 where unknown.
        known: bool[n, l], whether there is an event.
    """

    fields: Tensor
    times: Tensor
    known: Tensor

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, rows: slice | Tensor) -> Events:
        return Events(self.fields[rows], self.times[rows], self.known[rows])

    def to(self, where: torch.device) -> Events:
        """The same on a device."""
        return Events(self.fields.to(where), self.times.to(where), self.known.to(where))


@dataclass(frozen=True)
class Asked:
    """M requests, each about one candidate.

    Attributes:
        fields: int64[m, g]; the first of them are fields of events, too.
        dense: float32[m, k], what else is known: of the user, and of his activity before.
        now: int64[m], when the request came, -1 where unknown.
        before: int64[m], when the last event was, -1 where unknown.
    """

    fields: Tensor
    dense: Tensor
    now: Tensor
    before: Tensor

    def __len__(self) -> int:
        return len(self.now)

    def __getitem__(self, rows: slice | Tensor) -> Asked:
        return Asked(self.fields[rows], self.dense[rows], self.now[rows], self.before[rows])

    def to(self, where: torch.device) -> Asked:
        """The same on a device."""
        parts = (self.fields, self.dense, self.now, self.before)
        return Asked(*(part.to(where) for part in parts))


class Tower(nn.Module):
    """Events to a state, then state, candidate, context and profile to a logit.

    The vector of an event is the sum of its fields' and of what its time says.

    Args:
        sizes: codes of each field of events, the 0 of nothing included.
        asked: codes of each field of a candidate; those of the first ``shared`` are fields of
            events, whose vectors they have.
        shared: how many.
        dense: numbers that are known besides.
        causal: a state after every event; otherwise one state, of all events read both ways.
        settings: of the tower.
        noise: the model's randomness.
    """

    def __init__(
        self, sizes: list[int], asked: list[int], shared: int, dense: int, causal: bool,
        settings: TowerSettings, noise: Noise,
    ) -> None:  # fmt: skip
        super().__init__()
        width, self.causal, self.shared = settings.width, causal, shared
        self.fields = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.context = nn.ModuleList(nn.Embedding(size, width) for size in asked[shared:])
        for table in (*self.fields, *self.context):
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=_START)
            with torch.no_grad():
                table.weight[0] = 0
        told = [name for name in settings.time if not (causal and name == "age")]
        waves = settings.encoding == "waves"
        self.clock = Clock(width, told, waves)
        self.moment = Clock(width, [name for name in settings.time if name != "age"], waves)
        self.places = nn.Parameter(torch.randn(settings.length, width) * 0.02)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.drop = Dropout(settings.dropout, noise)
        self.blocks = nn.ModuleList(
            CausalBlock(width, settings.heads, 4, settings.dropout, noise)
            for _ in range(settings.blocks)
        )
        self.norm = nn.LayerNorm(width)
        inputs = (4 + len(self.context)) * width + dense
        self.head = head(inputs, settings.dropout, noise)

    def states(self, events: Events, now: Tensor | None = None) -> Tensor:
        """What has been read.

        Args:
            events: n histories of at most ``length``.
            now: int64[n], when the requests came, for the ages of events.

        Returns:
            float32[n, l + 1, d], the j-th after j events, of a causal tower; else float32[n, d].
        """
        vectors = self.clock(events.times, now)
        for table, codes in zip(self.fields, events.fields.unbind(2), strict=True):
            vectors = vectors + table(codes)
        # Places count from the newest event where all of a history is there to be read.
        place = torch.arange(events.known.shape[1], device=vectors.device).expand(len(events), -1)
        if not self.causal:
            place = (events.known.sum(1, keepdim=True) - 1 - place).clamp(min=0)
        vectors = (vectors + self.places[place]) * events.known[:, :, None]
        first = self.start.expand(len(events), 1, -1)
        x = self.drop(torch.cat([first, vectors], dim=1))
        mask: Tensor | None = None
        if not self.causal:
            mask = torch.nn.functional.pad(events.known, (1, 0), value=True)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        if self.causal:
            return x
        there = torch.nn.functional.pad(events.known, (1, 0), value=True)[:, :, None]
        mean: Tensor = (x * there).sum(1) / there.sum(1)
        return mean

    def logits(self, states: Tensor, asked: Asked) -> Tensor:
        """float32[m] of float32[m, d] states and as many requests."""
        tables = list(self.fields)[: self.shared]
        told = asked.fields.unbind(1)
        candidate = torch.zeros_like(states)
        for table, codes in zip(tables, told[: self.shared], strict=True):
            candidate = candidate + table(codes)
        context = [table(codes) for table, codes in
                   zip(self.context, told[self.shared :], strict=True)]  # fmt: skip
        moment = self.moment(torch.stack([asked.before, asked.now], dim=1))[:, 1]
        parts = [states, candidate, states * candidate, moment, *context, asked.dense]
        out: Tensor = self.head(torch.cat(parts, dim=1))[:, 0]
        return out
