"""What the catalogue says of items, as values that several of them share."""

from __future__ import annotations

import numpy as np
import polars as pl
import scipy.sparse as sp

from onoma.encoding.text import item_texts, words_of

_SHARED = 2  # items that must have a value: that of a single one is its id by another name


class Side:
    """The values that items share, and how often each stands for its item.

    Args:
        items: the catalogue.
        fields: columns to read, lists value by value; of ``title`` the first word. Those that the
            catalogue lacks are skipped.

    Attributes:
        names: v words, ``field:value``, sorted.
        chance: float32[n_items, v], rows summing to one or empty. Frequent values say less, so
            each is drawn in proportion to one over the root of how many items have it.
    """

    def __init__(self, items: pl.DataFrame, fields: tuple[str, ...]) -> None:
        told = _values(items, fields)
        counts = told.group_by("name").agg(pl.len().alias("count"))
        counts = counts.filter(pl.col("count") >= _SHARED).sort("name")
        self.names: list[str] = counts["name"].to_list()
        self._root = np.sqrt(counts["count"].to_numpy()).astype(np.float32)
        self.chance = self._chance(told, items.height)
        self.fields = fields

    def of(self, items: pl.DataFrame) -> sp.csr_array:
        """float32[m, v], the chances of other items; empty rows where no value is known."""
        return self._chance(_values(items, self.fields), items.height)

    def _chance(self, told: pl.DataFrame, n: int) -> sp.csr_array:
        known = pl.DataFrame({"name": pl.Series(self.names, dtype=pl.String)})
        found = told.join(known.with_row_index("value"), on="name").sort("row", "value")
        rows, values = (found[name].to_numpy().astype(np.int64) for name in ("row", "value"))
        weights = 1 / self._root[values]
        weights = weights / np.bincount(rows, weights, minlength=n)[rows]
        shape = (n, len(self.names))
        return sp.csr_array(sp.coo_array((weights.astype(np.float32), (rows, values)), shape=shape))


def _values(items: pl.DataFrame, fields: tuple[str, ...]) -> pl.DataFrame:
    """Columns ``row`` and ``name``, every value of every item once."""
    parts = [pl.DataFrame(schema={"row": pl.UInt32, "name": pl.String})]
    for field in dict.fromkeys(fields):
        if field not in items.columns:
            continue
        told = items.select(field).with_row_index("row")
        if field == "title":
            words = words_of(item_texts(items, (field,)))
            told = words.unique("row", keep="first", maintain_order=True).rename({"term": field})
        elif isinstance(told.schema[field], pl.List):
            told = told.explode(field)
        texts = pl.Series(item_texts(told, (field,)), dtype=pl.String).str.to_lowercase()
        named = told.select(pl.col("row").cast(pl.UInt32), (f"{field}:" + texts).alias("name"))
        parts.append(named.filter(texts != ""))
    return pl.concat(parts).unique(maintain_order=True)
