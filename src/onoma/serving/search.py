"""Search by words: BM25 over the catalogue's texts as one sparse matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.encoding.text import item_texts, words_of

_K1, _B = 1.2, 0.75


class BM25:
    """Weights of every term of every text, computed once.

    Robertson and Zaragoza, Foundations and Trends in Information Retrieval, 2009, with the
    inverse document frequency ``ln(1 + (n - d + 0.5) / (d + 0.5))``, which is never negative.

    Args:
        items: a catalogue.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        self.n = items.height
        words = words_of(item_texts(items))
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
        """float32[n_items], 0 where no word of the query occurs."""
        out = np.zeros(self.n, dtype=np.float32)
        for term in words_of([query])["term"]:
            place = self._term.get(term)
            if place is not None:
                part = slice(self._starts[place], self._starts[place + 1])
                out[self._rows[part]] += self._weights[part]
        return out


def best(scores: NDArray[np.float32], count: int, above: float = 0.0) -> NDArray[np.int64]:
    """Codes of the largest scores above a bound, best first, the lower code among equals."""
    count = min(count, len(scores))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    bar = np.partition(scores, len(scores) - count)[len(scores) - count]
    found = np.flatnonzero(scores >= max(bar, np.nextafter(np.float32(above), np.float32(np.inf))))
    return found[np.argsort(-scores[found], kind="stable")][:count]


def fuse(lists: Sequence[NDArray[np.integer]], k: int = 60) -> tuple[list[int], list[float]]:
    """Reciprocal rank fusion: an item's score is the sum of ``1 / (k + rank)`` over the lists.

    Cormack, Clarke and Buettcher, SIGIR 2009. Equal scores put the lower code first.
    """
    total: dict[int, float] = {}
    for ranked in lists:
        for rank, code in enumerate(ranked.tolist(), start=1):
            total[code] = total.get(code, 0.0) + 1 / (k + rank)
    order = sorted(total, key=lambda code: (-total[code], code))
    return order, [total[code] for code in order]
