"""The column of the catalogue that a method of naming reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl

from onoma.errors import MissingColumn

if TYPE_CHECKING:
    from polars.datatypes import DataTypeClass

    from onoma.dataset.split import Split


def read(split: Split, name: str, fits: Callable[[pl.DataType], bool]) -> pl.Series:
    """A column of the catalogue, one value an item.

    Args:
        split: the data.
        name: of the column.
        fits: which types of values the method can read.

    Raises:
        MissingColumn: there is no such column, or its values are of another type.
    """
    items = split.dataset.items
    held = items.schema.get(name)
    if held is not None and fits(held):
        return items[name]
    able = [column for column, kind in items.schema.items() if fits(kind)]
    raise MissingColumn(
        f"the catalogue has no column {name!r}" if held is None
        else f"the column {name!r} holds {held}, which this method cannot read",
        where=split.dataset.name,
        fix=f"Set column to one of {', '.join(able)}",
    )  # fmt: skip


def is_text(kind: pl.DataType | DataTypeClass) -> bool:
    """Texts, or nothing in any row."""
    return kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def is_tags(kind: pl.DataType) -> bool:
    """Texts, or lists of texts."""
    return is_text(kind) or (isinstance(kind, pl.List) and is_text(kind.inner))


def is_words(kind: pl.DataType) -> bool:
    """Texts or numbers."""
    return is_text(kind) or kind.is_numeric()
