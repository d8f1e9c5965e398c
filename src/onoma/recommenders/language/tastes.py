"""What somebody would say of their taste, written by rule from the items they like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.encoding.keywords import phrases
from onoma.encoding.text import item_texts

_KINDS = ("genres", "categories", "tags")
_PEOPLE = ("director", "cast", "artist", "author", "brand")
_SAID = ("description", "keywords", "features")
_MOST = {"kinds": 3, "themes": 5, "people": 2}


class Tastes:
    """Says in a sentence or two what a set of items has in common that the catalogue has less of.

    Kinds are ranked by how much more often the items have them than the catalogue does, words of
    descriptions and people by the items that share them, rarer ones first among equals. No title
    is named.

    Args:
        items: a catalogue; genres, tags, people and descriptions are read where there are any.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        self._kinds = _table(_listed(items, _KINDS))
        self._people = _table(_listed(items, _PEOPLE))
        texts = item_texts(items, _SAID)
        found = phrases(texts).filter(pl.col("words") == 1).select("row", pl.col("phrase"))
        self._themes = _table(found.rename({"phrase": "value"}))
        self._n = max(items.height, 1)

    def say(self, liked: Sequence[int] | NDArray[np.integer], verb: str = "like") -> str:
        """A text of what is liked, or disliked with that verb; empty where nothing is known."""
        items = pl.DataFrame({"row": np.unique(np.asarray(liked, dtype=np.uint32))})
        if not items.height:
            return ""
        kinds = self._shared(self._kinds, items, 1).with_columns(
            (pl.col("n") / items.height - pl.col("df") / self._n).alias("lift")
        )
        kinds = kinds.filter(pl.col("lift") > 0).sort("lift", "value", descending=[True, False])
        shared = 2 if items.height > 2 else 1
        # What four in ten items have is no theme.
        themes = self._shared(self._themes, items, shared).filter(pl.col("df") < 0.4 * self._n)
        people = self._shared(self._people, items, 2)
        first = {
            name: _first(frame, _MOST[name])
            for name, frame in (("themes", themes), ("people", people))
        }
        said = []
        if genres := kinds["value"].head(_MOST["kinds"]).to_list():
            said.append(f"I {verb} {_and(genres)}.")
        if first["themes"]:
            said.append(f"I {verb} stories about {_and(first['themes'])}.")
        if first["people"]:
            said.append(f"I {verb} {_and(first['people'])}.")
        return " ".join(said)

    def _shared(self, table: pl.DataFrame, items: pl.DataFrame, least: int) -> pl.DataFrame:
        """Columns ``value``, ``n`` (of the items that have it) and ``df`` (of the catalogue)."""
        own = table.join(items, on="row").group_by("value").agg(pl.len().alias("n"))
        df = table.group_by("value").agg(pl.len().alias("df"))
        return own.filter(pl.col("n") >= least).join(df, on="value")


def _first(frame: pl.DataFrame, most: int) -> list[str]:
    ranked = frame.sort("n", "df", "value", descending=[True, False, False])
    return ranked["value"].head(most).to_list()


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _listed(items: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Columns ``row`` and ``value`` of all columns of these names."""
    rows = pl.DataFrame({"row": np.arange(items.height, dtype=np.uint32)})
    parts = [pl.DataFrame(schema={"row": pl.UInt32, "value": pl.String})]
    for name in names:
        if name not in items.columns:
            continue
        column = items[name]
        if not isinstance(column.dtype, pl.List):
            column = column.cast(pl.String).to_frame().select(pl.concat_list(name)).to_series()
        part = rows.with_columns(column.cast(pl.List(pl.String)).alias("value")).explode("value")
        parts.append(part.drop_nulls("value"))
    return pl.concat(parts)


def _table(found: pl.DataFrame) -> pl.DataFrame:
    """Each value once an item."""
    return found.select(pl.col("row").cast(pl.UInt32), "value").unique(maintain_order=True)
