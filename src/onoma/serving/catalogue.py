"""The items that a service knows: those of the run's data, later ones, withdrawn ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Dataset
from onoma.serving.store import Record

SINCE = "since"  # in the data of an item that was told of again: the number of its first change


@dataclass(frozen=True)
class Catalogue:
    """One state of the catalogue; changes make another.

    Attributes:
        ids: the owner's ids by code.
        code: ids to codes.
        titles: by code; None where there is none.
        table: a row an item, with all columns.
        gone: bool[n], withdrawn.
        base: items that the run was fitted on; later codes are new items.
    """

    ids: list[str]
    code: dict[str, int]
    titles: list[str | None]
    table: pl.DataFrame
    gone: NDArray[np.bool_]
    base: int

    @classmethod
    def of(cls, dataset: Dataset) -> Catalogue:
        """The catalogue of a data set."""
        table = dataset.items
        ids = table["item_id"].to_list()
        code = {name: place for place, name in enumerate(ids)}
        gone = np.zeros(len(ids), dtype=bool)
        return cls(ids, code, table["title"].to_list(), table, gone, len(ids))

    def __len__(self) -> int:
        return len(self.ids)

    def codes(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """int32[m], the codes of the ids that there are; others are skipped."""
        n = len(self.ids)
        found = np.array(list(map(self.code.get, ids, repeat(n))), dtype=np.int32)
        return found if not len(found) or found.max() < n else found[found < n]

    def has(self, item_id: str) -> bool:
        """Whether the id is an item and not withdrawn."""
        code = self.code.get(item_id, len(self.ids))
        return code < len(self.ids) and not self.gone[code]

    def rows(self, items: Sequence[dict[str, Any]]) -> pl.DataFrame:
        """Items as rows with the columns of the table, and further ones for what is new.

        Values that do not fit a column's type are unknown.

        Args:
            items: ``item_id``, ``title`` and ``attributes`` of each.
        """
        flat = [
            {**item.get("attributes", {}), "item_id": item["item_id"], "title": item.get("title")}
            for item in items
        ]
        columns = {}
        for name in dict.fromkeys([*self.table.columns, *(key for row in flat for key in row)]):
            values = [row.get(name) for row in flat]
            kind = self.table.schema.get(name)
            lists = any(isinstance(value, list) for value in values)
            if isinstance(kind, pl.List) or (kind is None and lists):
                rows = [v if v is None or isinstance(v, list) else [v] for v in values]
                held = [None if v is None else [_text(each) for each in v] for v in rows]
                columns[name] = pl.Series(name, held, dtype=pl.List(pl.String))
                if kind is not None and kind != pl.List(pl.String):
                    columns[name] = columns[name].cast(kind, strict=False)
            elif kind is None and all(
                v is None or (isinstance(v, int | float) and not isinstance(v, bool))
                for v in values
            ):
                columns[name] = pl.Series(name, [_number(v) for v in values], dtype=pl.Float64)
            else:
                texts = [None if v is None or isinstance(v, list) else _text(v) for v in values]
                made = pl.Series(name, texts, dtype=pl.String)
                columns[name] = made if kind is None else _cast(made, kind)
        return pl.DataFrame(list(columns.values()))

    def extended(self, rows: pl.DataFrame) -> Catalogue:
        """With new items after those it has."""
        ids = rows["item_id"].to_list()
        more = {name: place for place, name in enumerate(ids, start=len(self.ids))}
        return replace(
            self,
            ids=[*self.ids, *ids],
            code={**self.code, **more},
            titles=[*self.titles, *rows["title"].to_list()],
            table=pl.concat([self.table, rows], how="diagonal_relaxed"),
            gone=np.concatenate([self.gone, np.zeros(len(ids), dtype=bool)]),
        )

    def updated(self, rows: pl.DataFrame) -> Catalogue:
        """With other titles and columns for items that it has.

        Unknown values leave what the data says; of a new item, the rows say all there is.
        """
        table, titles = self.table, list(self.titles)
        extra = [c for c in rows.columns if c not in table.columns]
        table = table.with_columns(pl.lit(None, dtype=rows.schema[c]).alias(c) for c in extra)
        new = self.codes(rows["item_id"]) >= self.base
        for late in (False, True):
            part = rows.filter(new == late)
            if part.height:
                table = table.update(part, on="item_id", how="left", include_nulls=late)
        for name, title in zip(rows["item_id"], rows["title"], strict=True):
            code = self.code[name]
            if title is not None or code >= self.base:
                titles[code] = title
        return replace(self, table=table, titles=titles)

    def marked(self, codes: NDArray[np.int32], gone: bool) -> Catalogue:
        """With items withdrawn, or back."""
        mask = self.gone.copy()
        mask[codes] = gone
        return replace(self, gone=mask)


def since(record: Record) -> int:
    """The number of the first change that told of an item, in whose order new items stand."""
    return int(record.data.get(SINCE, record.seq))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _cast(texts: pl.Series, kind: pl.DataType) -> pl.Series:
    if kind.is_integer():  # "1999.0" is a whole number too
        texts = texts.cast(pl.Float64, strict=False)
    if kind == pl.Boolean:
        return texts.replace_strict(["true", "false"], [True, False], default=None)
    return texts.cast(kind, strict=False)
