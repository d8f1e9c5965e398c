"""What recommenders that name items share: the names, new items, unseen items, storage."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from onoma import encoding, indexing
from onoma.dataset import Split
from onoma.encoding import Encoder
from onoma.indexing import ItemIndex
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.generative.unseen import UnseenItems
from onoma.recommenders.trained import TrainedModule, TrainedRecommender


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

    def beams(self, requests: Requests, k: int) -> NDArray[np.int64]:
        """int64[n], the beam of each request.

        Seen and excluded items are spelled too and masked afterwards, so the beam is that wider.
        """
        assert self.index is not None
        spare = np.minimum(-(-requests.forbidden().lengths // 16) * 16, 64)
        return np.minimum(np.maximum(self.settings.beam, k + spare), self.index.n_items)

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
