"""A log of searches made from purchases, as product search is measured where no log is public."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged
from onoma.encoding.text import item_texts, words_of

FIELDS = ("categories", "brand")
_CODED = r"^[A-Za-z]+_\d+$"  # a value that stands for a name, as in brand_9050: nobody types it


def queries(items: pl.DataFrame, fields: Sequence[str] = FIELDS) -> list[str]:
    """What one would type to find each item: the words of its path of categories and of its brand.

    The construction of Ai et al. (SIGIR 2017): words in order, each once. A query
    never holds all words of the item's title: the brand goes where it would, then the query.

    Args:
        items: a catalogue.
        fields: columns to read; items of which the first is not known have no query.

    Returns:
        n_items texts in lower case, empty where there is none.
    """
    nothing = [""] * items.height
    if not fields or fields[0] not in items.columns:
        return nothing
    texts = [item_texts(items, (field,)) for field in fields]
    for column in texts[1:]:
        told = pl.Series(column, dtype=pl.String)
        column[:] = told.set(told.str.contains(_CODED), "").to_list()
    whole = [" ".join(parts) if parts[0] else "" for parts in zip(*texts, strict=True)]
    titles = item_texts(items, ("title",))
    out = _without_titles(whole, titles)
    short = _without_titles(texts[0], titles)
    return [long or plain for long, plain in zip(out, short, strict=True)]


def _without_titles(texts: Sequence[str], titles: Sequence[str]) -> list[str]:
    """The different words of each text; empty where they hold those of the title."""
    said = words_of(texts).unique(maintain_order=True)
    named = words_of(titles).unique()
    left = named.join(said, on=["row", "term"], how="anti")["row"].unique()
    told = pl.Series(named["row"].unique())
    given = told.filter(~told.is_in(left.implode()))
    joined = said.group_by("row", maintain_order=True).agg(pl.col("term").str.join(" "))
    joined = joined.filter(~pl.col("row").is_in(given.implode()))
    out = [""] * len(texts)
    for row, text in joined.iter_rows():
        out[row] = text
    return out


def asked_for(cases: Cases, queries: Sequence[str]) -> Cases:
    """Cases asked for their target, the first of several, by its query; those without left out.

    Args:
        cases: n cases with targets.
        queries: of every item, from :func:`queries`.
    """
    first = cases.targets.values[cases.targets.offsets[:-1]]
    kept = np.array([row for row, item in enumerate(first.tolist()) if queries[item]], np.int64)
    targets = Ragged.from_rows([[int(item)] for item in first[kept]])
    told = tuple(queries[int(item)] for item in first[kept])
    return replace(cases.take(kept), targets=targets, query=told)


def searched(history: Ragged, share: float) -> NDArray[np.bool_]:
    """Which purchases of histories were searches: a share of them, drawn by a hash.

    No public log says, so a purchase is one by itself, the one before it and its place: training
    and answering agree, for strangers too, and nothing that comes later changes it.

    Args:
        history: n rows of item codes, from their beginning.
        share: of purchases that were searches.

    Returns:
        bool[total], aligned with ``history.values``.
    """
    items = history.values.astype(np.uint64)
    place = np.arange(len(items)) - np.repeat(history.offsets[:-1], history.lengths)
    before = np.where(place > 0, np.roll(items, 1) + np.uint64(1), np.uint64(0))
    mixed = _scattered(items + np.uint64(1))
    mixed = _scattered(mixed ^ before)
    mixed = _scattered(mixed ^ place.astype(np.uint64))
    drawn: NDArray[np.bool_] = (mixed >> np.uint64(11)) * 2.0**-53 < share
    return drawn


def _scattered(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): near numbers to far ones."""
    out = numbers + np.uint64(0x9E3779B97F4A7C15)
    out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return out ^ (out >> np.uint64(31))
