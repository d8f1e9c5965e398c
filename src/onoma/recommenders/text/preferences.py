"""What people look for and avoid, written by rule from titles, categories, reviews and stars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.encoding.text import item_texts, words_of

LAST = 5  # events of a user that preferences are written from
_WORDS = 3  # aspects of an item in one preference
_COMMON = 0.5  # an aspect is shared by two items, and by at most that share of the catalogue
_DISLIKED = 2.5  # stars up to which an item is one to avoid
_SHORTEST = 3


def aspects(items: pl.DataFrame) -> list[list[str]]:
    """Up to three words of every item that others share: of its categories, then its title."""
    kinds = item_texts(items, ("categories", "genres", "keywords", "tags", "features"))
    out: list[list[str]] = [[] for _ in range(items.height)]
    for texts, most in ((kinds, _WORDS - 1), (item_texts(items, ("title",)), _WORDS)):
        words = words_of(texts).filter(pl.col("term").str.len_chars() >= _SHORTEST)
        words = words.unique(["row", "term"], maintain_order=True)
        shared = words.group_by("term").agg(pl.len().alias("count"))
        shared = shared.filter(pl.col("count").is_between(2, max(2.0, _COMMON * items.height)))
        # The rarest first: they say most.
        found = words.join(shared, on="term").sort(["row", "count", "term"])
        for row, term in found.select("row", "term").iter_rows():
            if len(out[row]) < most and term not in out[row]:
                out[row].append(term)
    return out


def sentence(words: Sequence[str], liked: bool) -> str:
    """A preference in words; empty without any."""
    if not words:
        return ""
    return ("looks for " if liked else "avoids ") + ", ".join(words)


def events(
    items: NDArray[np.integer],
    stars: NDArray[np.floating],
    features: Sequence[str],
    known: Sequence[Sequence[str]],
) -> list[str]:
    """What each event says of its user's taste.

    Args:
        items: int[n] item codes.
        stars: float[n]; an event without stars counts as liked.
        features: n words of the reviews, empty where there is none.
        known: the aspects of every item.
    """
    return [
        sentence(
            [*([feature] if feature else []), *known[item]][:_WORDS],
            not stars[row] <= _DISLIKED,
        )
        for row, (item, feature) in enumerate(zip(items.tolist(), features, strict=True))
    ]


def joined(said: Sequence[str], last: int = LAST) -> str:
    """The last few different preferences in one line, the latest first."""
    latest = [text for text in reversed(said) if text]
    return " ; ".join(list(dict.fromkeys(latest))[:last])
