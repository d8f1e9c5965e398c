"""SynerGen's network: purchases, retrieval tokens of searches and of none, ranking tokens."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import Trunk
from onoma.neural.contextual import Asked, Contextual, Read
from onoma.neural.rotary import Rotary, hours_of
from onoma.recommenders.retrieval.searches import FIELDS
from onoma.recommenders.sequential.identity import IdModule, IdSettings


class SynerGenSettings(IdSettings):
    """The tasks, what trains them, and where and when tokens stand.

    Attributes:
        recommend: weight of the next purchase without a query; 0 leaves the task out.
        search: weight of the next purchase with a query; 0 leaves the task out.
        point: weight of the ranker's binary loss, beside the retriever's.
        pair: weight of the ranker's loss over pairs; with ``point`` at 0, too, there is no ranker.
        positions: ``time`` turns half of a head by place and half by time, ``order`` all by place.
        shortest: hours of the fastest turn by time; below twice what the times are rounded to
            turns are noise.
        longest: hours of the slowest turn by time.
        encoder: a text encoder, of items and of queries; its vectors stay as they are.
        queries: columns whose words make the query of an item; without the first there is none.
        searched: share of the purchases that were searches.
        shortlist: items that are ranked in the second pass.
        anchors: places a step whose candidates are ranked.
        against: other targets of the batch that each place's own is ranked against.
        in_batch: with ``sampled``, half of the negatives are targets of the batch and half are
            drawn from the catalogue.
    """

    loss: Literal["full", "sampled", "bpr", "bpr-max", "top1", "top1-max"] = "sampled"
    negatives: int = Field(default=512, ge=2)
    in_batch: bool = True
    scale: float | None = Field(default=20.0, gt=0)
    recommend: float = Field(default=1.0, ge=0)
    search: float = Field(default=1.0, ge=0)
    point: float = Field(default=1.0, ge=0)
    pair: float = Field(default=0.5, ge=0)
    positions: Literal["time", "order"] = "time"
    shortest: float = Field(default=48.0, gt=0)
    longest: float = Field(default=17_520.0, gt=0)
    encoder: Any = "sentence"
    queries: tuple[str, ...] = Field(default=FIELDS, min_length=1)
    searched: float = Field(default=0.5, ge=0, le=1)
    shortlist: int = Field(default=50, ge=1)
    anchors: int = Field(default=32, ge=1)
    against: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.recommend and not self.search:
            raise ValueError("recommend and search are both 0: nothing is left to learn")
        if self.longest < self.shortest:
            raise ValueError("longest is below shortest")
        if self.width % (4 * self.heads):
            raise ValueError(f"width must be a multiple of four times the heads ({4 * self.heads})")
        return self


class Told(NamedTuple):
    """What the module is told of b histories.

    Attributes:
        items: int64[b, l] item codes, left aligned, n_items behind them.
        actions: bool[b, l], which purchases were searches.
        times: int64[b, l] Unix seconds, -1 where unknown.
    """

    items: Tensor
    actions: Tensor
    times: Tensor


class SynerGenModule(IdModule):
    """The trunk, texts as they are, and what a purchase, a question and a candidate enter as.

    Args:
        n_items: size of the catalogue.
        settings: of :class:`SynerGenSettings`.
        counts: int64[n_items] training interactions.
        content: float32[n_items, w] vectors of the items' texts.
        words: float32[m, v] vectors of the queries.
        query_of: int64[n_items], the query of each item, -1 where it has none.
    """

    encoder: Contextual
    content: Tensor
    words: Tensor
    query_of: Tensor

    def __init__(
        self,
        n_items: int,
        settings: SynerGenSettings,
        counts: NDArray[np.int64] | None,
        content: Tensor,
        words: Tensor,
        query_of: Tensor,
    ) -> None:
        super().__init__(n_items, settings, counts)
        width = settings.width
        self.register_buffer("content", F.pad(content, (0, 0, 0, 1)))
        self.register_buffer("words", words)
        self.register_buffer("query_of", query_of)
        self.describe = nn.Linear(content.shape[1], width)
        # What searches are made of, and how the other purchases differ from them.
        self.say = nn.Linear(words.shape[1], width) if settings.search else None
        self.no_query = nn.Parameter(torch.randn(width) * 0.02)
        self.action = nn.Parameter(torch.randn(2, width) * 0.02)
        self.enlist = self.head = None
        if settings.point or settings.pair:
            self.enlist = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            self.head = nn.Linear(width, 1)
            # One item of a catalogue is the next one: nothing has to be learnt to know that.
            nn.init.constant_(self.head.bias, -math.log(max(n_items, 1)))

    @property
    def how(self) -> SynerGenSettings:
        """The settings."""
        assert isinstance(self.settings, SynerGenSettings)
        return self.settings

    def trunk(self) -> Trunk:
        """The blocks, and who reads whom in them."""
        s = self.how
        rotary = Rotary(s.width // s.heads, s.positions == "time", s.shortest, s.longest)
        return Contextual(
            s.width, s.blocks, s.heads, s.length, s.dropout, s.input_dropout, self.noise, rotary
        )

    def table(self) -> Tensor:
        """float32[n_items + 1, d]: what the texts say, moved, and what is learnt of each item."""
        out: Tensor = self.ids + self.describe(self.content)
        return out

    def questions(self) -> Tensor:
        """float32[m + 1, d], a token of each query, and behind them that of no query."""
        nothing = self.no_query[None]
        return nothing if self.say is None else torch.cat([self.say(self.words), nothing])

    def read(self, told: Told, table: Tensor, questions: Tensor) -> Read:
        """Purchases: the item, how it came, and the query where it was searched for."""
        events = F.embedding(told.items, table) + F.embedding(told.actions.long(), self.action)
        if self.say is not None and len(questions) > 1:
            query = self.query_of[told.items.clamp(max=self.n_items - 1)].clamp(min=0)
            events = events + F.embedding(query, questions) * told.actions[..., None]
        return self.encoder.read(events, hours_of(told.times))

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] behind every place of item vectors whose times nobody knows."""
        b, length, _ = vectors.shape
        hours = torch.zeros(b, length, device=vectors.device)
        read = self.encoder.read(vectors + self.action[0], hours)
        return self.everywhere(read, self.no_query.expand(b, length, -1)).states

    def last(self, items: Tensor, ends: Tensor, table: Tensor) -> Tensor:
        """int64[b, l] item codes to float[b, d] at int64[b] places."""
        rows = torch.arange(len(ends), device=ends.device)
        return self.states(items, table)[rows, ends]

    def everywhere(self, read: Read, tokens: Tensor) -> Asked:
        """A retrieval token behind every place: float[b, l, d]."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return self.encoder.ask(read, tokens, place.expand(len(tokens), -1))

    def ranked(
        self, read: Read, asked: Asked, rows: Tensor, columns: Tensor, ends: Tensor, items: Tensor
    ) -> Tensor:
        """float32[a, m] logits of candidates, one by one whatever the others are.

        Args:
            read: b histories.
            asked: their retrieval tokens.
            rows: int64[a], of the histories.
            columns: int64[a], of the retrieval tokens.
            ends: int64[a], the place of the last event.
            items: float[a, m, d] vectors.
        """
        assert self.enlist is not None and self.head is not None
        states = self.encoder.judge(read, asked, rows, columns, ends, self.enlist(items))
        logits: Tensor = self.head(states)[..., 0].float()
        # The retriever has a loss of its own: nothing flows back through what it found.
        query = asked.states[rows, columns].detach().float()
        vectors = items.detach().float()
        if (scale := self.settings.scale) is not None:
            query, vectors = F.normalize(query, dim=1) * scale, F.normalize(vectors, dim=2)
        return logits + (vectors @ query[:, :, None])[..., 0]

    def _sample(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`IdModule._sample`; in the batch, half are drawn from the catalogue."""
        if not self.settings.in_batch:
            return super()._sample(targets)
        size, where = self.settings.negatives, targets.device
        known = targets[targets >= 0]
        half = size // 2
        met = known[self.noise.integers(len(known), half).to(where)]
        drawn = torch.cat([met, self.noise.integers(self.n_items, size - half).to(where)])
        often = torch.bincount(known, minlength=self.n_items)[drawn] * (half / len(known))
        return drawn, (often + (size - half) / self.n_items).log()
