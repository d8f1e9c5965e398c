"""Search by words: BM25 over texts as one sparse matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.encoding.text import words_of

_K1, _B = 1.2, 0.75


class BM25:
    """Weights of every term of every text, computed once.

    Robertson and Zaragoza, Foundations and Trends in Information Retrieval, 2009, with the
    inverse document frequency ``ln(1 + (n - d + 0.5) / (d + 0.5))``, which is never negative.

    Args:
        texts: n of them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.n = len(texts)
        words = words_of(texts)
        counts = words.group_by("term", "row").agg(pl.len().alias("count")).sort("term", "row")
        lengths = np.zeros(self.n, dtype=np.float32)
        by_row = counts.group_by("row").agg(pl.col("count").sum())
        lengths[by_row["row"].to_numpy()] = by_row["count"].to_numpy()
        terms = counts.group_by("term", maintain_order=True).agg(pl.len().alias("df"))
        found = terms["df"].to_numpy().astype(np.float64)
        self._starts = np.concatenate([[0], np.cumsum(terms["df"].to_numpy())]).astype(np.int64)
        self._term = {term: place for place, term in enumerate(terms["term"])}
        self._rows = counts["row"].to_numpy().astype(np.int64)
        rarity = np.log1p((self.n - found + 0.5) / (found + 0.5))
        count = counts["count"].to_numpy().astype(np.float64)
        mean = max(float(lengths.mean()) if self.n else 1.0, 1e-9)
        scale = _K1 * (1 - _B + _B * lengths[self._rows] / mean)
        weights = np.repeat(rarity, terms["df"].to_numpy()) * count * (_K1 + 1) / (count + scale)
        self._weights = weights.astype(np.float32)

    def scores(self, query: str) -> NDArray[np.float32]:
        """float32[n], 0 where no word of the query occurs."""
        out = np.zeros(self.n, dtype=np.float32)
        for term in words_of([query])["term"]:
            place = self._term.get(term)
            if place is not None:
                part = slice(self._starts[place], self._starts[place + 1])
                out[self._rows[part]] += self._weights[part]
        return out
