"""What recommenders that name items share: the names, new items, unseen items, storage."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from onoma import encoding, indexing
from onoma.dataset import Ragged, Split
from onoma.encoding import Encoder
from onoma.indexing import ItemIndex
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.base import Ranking, Requests, forbid, top_k
from onoma.recommenders.generative.unseen import UnseenItems
from onoma.recommenders.trained import TrainedModule, TrainedRecommender

# From int64[m] rows, a beam and what those rows pass over: int64[m, beam] items and their scores.
Find = Callable[[NDArray[np.int64], int, Ragged | None], tuple[Tensor, Tensor]]


class NameSettings(BaseModel):
    """The names and how lists are made of them.

    Attributes:
        encoder: what turns item text into vectors: a name of ``encoding.ENCODERS`` or a mapping
            with ``name`` and settings.
        index: how items are named: a mapping with ``method``, ``encoder`` (the vectors that are
            quantised) and settings of the method.
        beam: names kept while spelling.
        unseen: share of a spelled list, at most, for items that training does not hold; where 0
            they have to be spelled, which is as good as never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Any = "tfidf"
    index: dict[str, Any] = {"method": "rqkmeans"}
    beam: int = Field(default=50, ge=1)
    unseen: float = Field(default=0.0, ge=0, lt=1)


class NamesModule(TrainedModule):
    """A module that knows items by their names.

    Attributes:
        seen: bool[n_items], the items that training holds.
    """

    seen: Tensor


class NamesItems(TrainedRecommender):
    """Names the items before it trains."""

    settings: NameSettings
    module: NamesModule

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(train=train, seed=seed, folder=folder, quiet=quiet, **settings)
        self.index: ItemIndex | None = None
        self._unseen: UnseenItems | None = None
        self._agreement: dict[str, Any] | None = None
        self._encoders: dict[str, Encoder] = {}

    @property
    def exact(self) -> bool:
        """Not where names are spelled first: a longer list takes a wider beam."""
        return self.modes[0] != "generate"

    def beams(self, requests: Requests, k: int) -> NDArray[np.int64]:
        """int64[n], the beam of each request.

        Seen and excluded items are spelled too and masked afterwards, so the beam is wider by
        their number, up to 64; where that leaves too few, :meth:`search` passes over them.
        """
        assert self.index is not None
        spare = np.minimum(-(-requests.forbidden().lengths // 16) * 16, 64)
        return np.minimum(np.maximum(self.settings.beam, k + spare), self.index.n_items)

    def search(self, requests: Requests, k: int, find: Find) -> tuple[Tensor, Tensor]:
        """The names found for each request, k that may be answered where there are as many.

        Rows whose beam holds too few are searched again among what is allowed them alone, as are
        all where candidates are named.

        Args:
            requests: n of them.
            k: answers wanted.
            find: searches some of them.

        Returns:
            int64[n, b] items, -1 where there are no more; float32[n, b] scores.
        """
        beams = self.beams(requests, k)
        items = torch.full((len(requests), int(beams.max(initial=1))), -1)
        scores = torch.full(items.shape, -torch.inf)

        def put(rows: NDArray[np.int64], without: Ragged | None) -> None:
            for beam in np.unique(beams[rows]):
                some = rows[beams[rows] == beam]
                found = find(some, int(beam), None if without is None else without.take(some))
                at = torch.from_numpy(some)
                items[at, : int(beam)], scores[at, : int(beam)] = (x.cpu() for x in found)

        again = np.arange(len(requests))
        if requests.candidates is None:
            put(again, None)
            again = self._few(items, requests, k)
        if len(again):
            put(again, self.barred(requests))
        return items, scores

    def _few(self, items: Tensor, requests: Requests, k: int) -> NDArray[np.int64]:
        """The rows of int64[n, b] items that hold fewer to answer than k and than there are."""
        forbidden = requests.forbidden()
        count = (items >= 0).sum(1).numpy()
        doubtful = np.flatnonzero(count - forbidden.lengths < k)
        if not len(doubtful):
            return doubtful
        forbidden, items = forbidden.take(doubtful), items[torch.from_numpy(doubtful)]
        found = torch.zeros(items.shape).masked_fill_(items < 0, -torch.inf)
        forbid(found, forbidden, items)
        held = (found == 0).sum(1).numpy()
        return doubtful[held < np.minimum(k, self.allowed(forbidden))]

    def allowed(self, forbidden: Ragged) -> NDArray[np.int64]:
        """int64[n], the items that n rows of forbidden ones leave."""
        assert self.index is not None
        n_items = self.index.n_items
        keys = np.unique(forbidden.rows() * n_items + forbidden.values)
        return n_items - np.bincount(keys // n_items, minlength=len(forbidden))

    def barred(self, requests: Requests) -> Ragged:
        """N rows of items to pass over: the forbidden and, beside candidates, all others."""
        assert self.index is not None
        if requests.candidates is None:
            return requests.forbidden()
        others = np.ones((len(requests), self.index.n_items + 1), dtype=bool)
        np.put_along_axis(others, requests.candidates.astype(np.int64), False, axis=1)
        rows, items = np.nonzero(others[:, :-1])  # the last column takes the padding
        return Ragged.from_groups(rows, items, len(requests)).concat(requests.forbidden())

    def _name_items(self, split: Split) -> NDArray[np.float32]:
        """Content vectors of the items, once they have names."""
        began = time.monotonic()
        vectors = encoding.cached(encoding.build(self.settings.encoder), split)
        how = dict(self.settings.index)
        named_by = how.pop("encoder", self.settings.encoder)
        views = (
            vectors
            if named_by == self.settings.encoder
            else encoding.cached(encoding.build(named_by), split)
        )
        self.seconds["encode"] = time.monotonic() - began
        began = time.monotonic()
        method = indexing.build(how.pop("method"), **how)
        self.index = method.build(split, views, self.seed)
        self.seconds["index"] = time.monotonic() - began
        self._agreement = indexing.Agreement.of(self.index, split, views).to_dict()
        return vectors

    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """Names by :meth:`ItemIndex.assign`, and vectors as the module makes them.

        Raises:
            OnomaError: the encoder knows no new items, or no free name is left.
        """
        assert self.index is not None
        named_by = self.settings.index.get("encoder", self.settings.encoder)
        told = replace(self.index, codes=self.index.codes[:1]).reconstruct()
        width = None if told is None else told.shape[1]
        codes = self.index.assign(self._encode_new(named_by, catalogue, items, width))
        more = self._with_items(codes, catalogue, items)
        more.index, more._unseen = self.index.extended(codes), None
        _ = more.index.trie  # built now, not by the first request
        return more

    @abstractmethod
    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        """A copy whose module knows the new items by int32[m, depth] names; see :meth:`extend`."""

    def _encode_new(
        self, how: Any, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        key = repr(how)
        if key not in self._encoders:  # fitted or loaded once, for all new items to come
            self._encoders[key] = encoding.build(how)
        return self._encoders[key].encode_new(catalogue, items, width)

    def health(self) -> dict[str, Any]:
        """The health report of the names, after a fit with what they know of the data."""
        assert self.index is not None
        found = {} if self._agreement is None else {"agreement": self._agreement}
        return {**self.index.health().to_dict(), **found}

    def join_unseen(self, items: Tensor, scores: Tensor, requests: Requests, k: int) -> Ranking:
        """The k best of a beam, unseen items among them as the settings say."""
        forbidden = requests.forbidden()
        if not self.settings.unseen:
            return top_k(scores, k, forbidden=forbidden, items=items)
        assert self.index is not None
        if self._unseen is None:
            self._unseen = UnseenItems(self.index, self.module.seen.cpu().numpy())
        return self._unseen.join(items, scores, k, self.settings.unseen, forbidden)

    def save(self, folder: str | Path) -> None:
        """Write weights, settings and the index."""
        assert self.index is not None
        super().save(folder)
        self.index.save(Path(folder) / "index")
