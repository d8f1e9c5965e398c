"""What the catalogue says of an item and of the history alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import polars as pl

from onoma.explanation.base import Reason

COLUMNS = (
    "brand",
    "author",
    "artist",
    "director",
    "series",
    "categories",
    "genres",
    "keywords",
    "tags",
)
_NOTHING = frozenset({"", "unknown", "none", "null", "nan", "n/a"})


class SharedAttributes:
    """Finds values of list or text columns that an item and items of a history have in common.

    Args:
        items: a catalogue, such as ``Dataset.items``.
        columns: those it lacks are skipped.
    """

    def __init__(self, items: pl.DataFrame, columns: Sequence[str] = COLUMNS) -> None:
        self._items = items
        self.columns = tuple(name for name in columns if name in self._items.columns)

    @cached_property
    def _common(self) -> dict[str, Counter[str]]:
        """Items that have each value."""
        out = {}
        for column in self.columns:
            counts: Counter[str] = Counter()
            for value in self._items[column].to_list():
                counts.update(set(_values(value)))
            out[column] = counts
        return out

    def of(self, item: int) -> dict[str, list[str]]:
        """The values of an item by column."""
        row = self._items.row(item, named=True)
        return {column: found for column in self.columns if (found := _values(row[column]))}

    def reasons(self, history: Sequence[int], target: int, limit: int = 3) -> list[Reason]:
        """Values the target shares with the history, rare ones that many items have first.

        Args:
            history: item codes, the most important first.
            target: an item code.
            limit: reasons at most.
        """
        wanted = self.of(target)
        known = [(item, self.of(item)) for item in dict.fromkeys(map(int, history))]
        found = []
        for place, (column, values) in enumerate(wanted.items()):
            for value in values:
                items = tuple(item for item, has in known if value in has.get(column, ()))
                rarity = math.log(self._items.height / self._common[column][value])
                if items and rarity > 0:
                    weight = rarity * len(items) / len(known)
                    data = {"column": column, "value": value}
                    found.append((-weight, place, value, Reason("attribute", items, data)))
        return [reason for *_, reason in sorted(found, key=lambda entry: entry[:3])[:limit]]


def _values(value: object) -> list[str]:
    """The texts of a cell."""
    if isinstance(value, pl.Series):
        value = value.to_list()
    each = value if isinstance(value, list | tuple) else [value]
    texts = [" ".join(str(one).split()) for one in each if one is not None]
    return [text for text in texts if text.lower() not in _NOTHING]
