"""Where items and words lie side by side: content vectors for search, likeness and variety."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma import encoding
from onoma.encoding import Encoder, LogEncoder
from onoma.encoding.text import item_texts
from onoma.encoding.tfidf import TfIdf
from onoma.errors import OnomaError
from onoma.recommenders import Recommender

_log = logging.getLogger(__name__)
_ENCODING = threading.Lock()  # an encoder may be fitted by the first who asks it


@dataclass(frozen=True)
class Space:
    """Vectors of the catalogue, and the encoder that places what is new.

    Attributes:
        encoder: made them.
        catalogue: the items that it was fitted on.
        vectors: float32[n_items, dim], unit or zero rows.
    """

    encoder: Encoder
    catalogue: pl.DataFrame
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, recommender: Recommender, items: pl.DataFrame) -> Space:
        """The recommender's own content vectors, or TF-IDF of the texts where it has none."""
        kept = recommender.content()
        if kept is not None:
            encoder = encoding.build(kept[0])
            if not isinstance(encoder, LogEncoder):
                return cls(encoder, items, kept[1])
        made = TfIdf(dim=min(128, max(items.height // 4, 1)), pairs=False)
        texts = item_texts(items)
        return cls(made, items, made.fit(texts).encode_texts(texts))

    def place(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """float32[m, dim]: new items; zero rows where the encoder cannot say."""
        width = self.vectors.shape[1]
        try:
            with _ENCODING:
                return self.encoder.encode_new(self.catalogue, items, width)
        except OnomaError as error:
            _log.warning("no vectors for %d items: %s", items.height, error)
            return np.zeros((items.height, width), dtype=np.float32)

    def placed(self, codes: NDArray[np.integer], items: pl.DataFrame) -> NDArray[np.float32]:
        """float32[m, dim]: items of the catalogue as it says now; those it places as before stay.

        Args:
            codes: int[m] of the items.
            items: m rows, what is said of them.
        """
        vectors, said = self.vectors[codes], self.catalogue[codes]
        rows = np.arange(len(codes))
        if (fields := getattr(self.encoder, "fields", None)) is not None:
            texts = item_texts(said, fields), item_texts(items, fields)
            rows = np.flatnonzero([before != after for before, after in zip(*texts, strict=True)])
        if len(rows):
            # A vector may hold more than words: what the log knows, where words are not read.
            before, after = self.place(said[rows]), self.place(items[rows])
            vectors[rows] = np.where((before != after).any(1)[:, None], after, vectors[rows])
        return vectors

    def words(self, text: str) -> NDArray[np.float32]:
        """float32[dim], where a query lies; zeros where nothing of it is known."""
        field: Any = getattr(self.encoder, "fields", ("title",))
        name = "title" if "title" in field or not isinstance(field, Sequence) else field[0]
        return self.place(pl.DataFrame({name: [text]}))[0]

    def moved(self, codes: NDArray[np.integer], vectors: NDArray[np.float32]) -> Space:
        """With other vectors for items that it has."""
        all_ = self.vectors.copy()
        all_[codes] = vectors
        return replace(self, vectors=all_)

    def extended(self, vectors: NDArray[np.float32]) -> Space:
        """With the vectors of new items after those it has."""
        return replace(self, vectors=np.concatenate([self.vectors, vectors]))
