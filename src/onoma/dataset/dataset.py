"""The first contract: a catalogue and a log, integer codes inside, the owner's ids outside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.files import write_parquet, write_text
from onoma.errors import OnomaError

_CODE_SEED = 20_231
_ROWS = 1 << 17  # hashed at once


@dataclass(frozen=True)
class Dataset:
    """An immutable catalogue and interaction log.

    Attributes:
        interactions: columns ``user`` and ``item`` (Int32 codes), ``timestamp`` (Int64 Unix
            seconds, null where unknown) and, where the log has them, ``rating`` (Float32),
            ``event`` (String), ``weight`` (Float32); rows in file order.
        items: row ``i`` is the item with code ``i``; ``item_id`` (String), ``title`` (String,
            may be null) and every other column of the catalogue.
        users: row ``u`` is the user with code ``u``; ``user_id`` (String) and other columns.
        name: a short name, used for run directories and tables.
        notes: what importing did (counts of dropped, repaired, rejected rows).

    Codes come from a seeded shuffle of the sorted ids, so they carry neither the order of
    first appearance nor the alphabet (DESIGN, trap 1).
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    name: str = "dataset"
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def construct(
        cls,
        interactions: pl.DataFrame,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        *,
        name: str = "dataset",
        notes: dict[str, Any] | None = None,
    ) -> Dataset:
        """Give codes to the ids of a log.

        Args:
            interactions: columns ``user_id``, ``item_id`` (any type), optional ``timestamp``,
                ``rating``, ``event``, ``weight``; others are kept.
            items: column ``item_id`` and any others; items that only the log names are added.
            users: column ``user_id`` and any others.
            name: the data set's name.
            notes: what the importer wants remembered.

        Raises:
            OnomaError: a needed column is missing, an id is null or repeated, or nothing is left.
        """
        for column in ("user_id", "item_id"):
            if column not in interactions.columns:
                raise OnomaError(
                    f"the interactions have no column {column!r} (found {interactions.columns})",
                    where=name,
                    fix="Name it with --rename user_id=YOUR_COLUMN",
                )
        log = interactions.with_columns(pl.col("user_id", "item_id").cast(pl.String))
        if log.height == 0:
            raise OnomaError("no interactions", where=name, fix="Check the file and the filters")
        nulls = log.select((pl.col("user_id").is_null() | pl.col("item_id").is_null()).sum()).item()
        if nulls:
            raise OnomaError(f"{nulls} interactions without a user or an item id", where=name)
        items = _entity(items, log["item_id"], "item_id", name)
        users = _entity(users, log["user_id"], "user_id", name)
        if "title" not in items.columns:
            items = items.with_columns(pl.lit(None, dtype=pl.String).alias("title"))
        if "timestamp" not in log.columns:
            log = log.with_columns(pl.lit(None, dtype=pl.Int64).alias("timestamp"))
        codes = [
            frame.with_row_index(column).select(f"{column}_id", pl.col(column).cast(pl.Int32))
            for frame, column in ((users, "user"), (items, "item"))
        ]
        log = log.join(codes[0], on="user_id", how="left", maintain_order="left")
        log = log.join(codes[1], on="item_id", how="left", maintain_order="left")
        rest = [c for c in log.columns if c not in ("user", "item", "user_id", "item_id")]
        log = log.select("user", "item", *rest).with_columns(pl.col("timestamp").cast(pl.Int64))
        if "rating" in rest:
            log = log.with_columns(pl.col("rating").cast(pl.Float32))
        return cls(log, items, users, name=name, notes=notes or {})

    @classmethod
    def coded(
        cls,
        users_of: NDArray[np.integer],
        items_of: NDArray[np.integer],
        columns: pl.DataFrame,
        items: pl.DataFrame,
        users: pl.DataFrame,
        *,
        name: str = "dataset",
        notes: dict[str, Any] | None = None,
    ) -> Dataset:
        """A log that names rows of its own tables instead of ids; codes are given anew.

        Args:
            users_of: int[n], the row of ``users`` of each interaction.
            items_of: int[n], the row of ``items``.
            columns: n rows of ``timestamp`` and other columns.
            items: column ``item_id`` (unique), and any others.
            users: column ``user_id`` (unique), and any others.
            name: the data set's name.
            notes: what is to be remembered.
        """
        found = []
        for table, key, rows in ((users, "user_id", users_of), (items, "item_id", items_of)):
            order = _seeded(table[key])
            code = np.empty(len(order), dtype=np.int32)
            code[order] = np.arange(len(order), dtype=np.int32)
            found.append((table[order], code[rows]))
        (users, user), (items, item) = found
        log = pl.DataFrame({"user": user, "item": item}).hstack(columns)
        return cls(log, items, users, name=name, notes=notes or {})

    @property
    def n_users(self) -> int:
        """Number of users."""
        return self.users.height

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue, with or without interactions."""
        return self.items.height

    @property
    def n_interactions(self) -> int:
        """Number of log rows."""
        return self.interactions.height

    @cached_property
    def item_ids(self) -> NDArray[np.object_]:
        """object[n_items], the owner's item ids by code."""
        return self.items["item_id"].to_numpy().astype(object)

    @cached_property
    def _item_code(self) -> dict[str, int]:
        return {str(key): code for code, key in enumerate(self.item_ids)}

    @cached_property
    def _user_code(self) -> dict[str, int]:
        return {str(key): code for code, key in enumerate(self.users["user_id"])}

    def item_codes(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """int32[n], the codes of the owner's ids; -1 where the catalogue has no such item."""
        return np.array([self._item_code.get(str(key), -1) for key in ids], dtype=np.int32)

    def user_code(self, user_id: str) -> int:
        """The code of a user, or -1."""
        return self._user_code.get(str(user_id), -1)

    def past(self, user: int) -> pl.DataFrame:
        """The log's rows of a user code, oldest first; the file's order among equal times.

        As splits have it: a row without a timestamp takes the last one before it in the file, or
        -1, and keeps its place.
        """
        log = self.interactions.filter(pl.col("user") == user)
        when = pl.col("timestamp").forward_fill().fill_null(-1)
        return log.with_columns(when).sort("timestamp", maintain_order=True)

    def titles(self, codes: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Titles for people to read; an item without one shows its id."""
        table = self.items.select(pl.coalesce("title", "item_id")).to_series()
        return [table[int(code)] if code >= 0 else "" for code in codes]

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits over the ids and the log in file order: equal data, equal hash."""
        digest = hashlib.sha256()
        for frame in (self.items.select("item_id"), self.users.select("user_id")):
            digest.update("\x1f".join(frame.to_series().to_list()).encode())
        for column in ("user", "item", "timestamp"):
            values = self.interactions[column].cast(pl.Int64).fill_null(-(2**62)).to_numpy()
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def contents(self) -> str:
        """Sixteen hex digits over all other columns of log, items and users."""
        digest = hashlib.sha256()
        for frame in (self.interactions.drop("user", "item", "timestamp"), self.items, self.users):
            for column in sorted(frame.columns):
                digest.update(f"{column} {frame[column].dtype}".encode())
                for start in range(0, frame.height, _ROWS):
                    for part in _bytes(frame[column].slice(start, _ROWS)):
                        digest.update(part)
        return digest.hexdigest()[:16]

    def same(self, about: Mapping[str, object]) -> bool:
        """Whether a run's record of its data, as :meth:`Split.describe` made it, is of this data.

        What the record does not hold is not compared.
        """
        return all(
            about.get(key, ours) == ours
            for key, ours in (("hash", self.hash), ("contents", self.contents))
        )

    def with_ids(self, log: pl.DataFrame) -> pl.DataFrame:
        """Rows of the log under the owner's ids: ``user_id`` and ``item_id`` for the codes."""
        rest = [c for c in log.columns if c not in ("user", "item")]
        return log.with_columns(
            self.users["user_id"].gather(log["user"]).alias("user_id"),
            self.items["item_id"].gather(log["item"]).alias("item_id"),
        ).select("user_id", "item_id", *rest)

    def save(self, folder: str | Path) -> Path:
        """Write the folder form: ``interactions.parquet``, ``items.parquet``, ``users.parquet``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        log = self.with_ids(self.interactions)
        write_parquet(log, folder / "interactions.parquet")
        write_parquet(self.items, folder / "items.parquet")
        write_parquet(self.users, folder / "users.parquet")
        meta = {"name": self.name, "hash": self.hash, "notes": self.notes}
        write_text(json.dumps(meta, indent=2, default=str) + "\n", folder / "dataset.json")
        return folder


def _bytes(values: pl.Series) -> Iterator[bytes]:
    """What a column holds, the same for equal columns alone: which are null, lengths, values."""
    yield values.is_null().to_numpy().tobytes()
    values = values.drop_nulls()
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        yield np.ascontiguousarray(values.to_numpy()).tobytes()
    elif values.dtype == pl.String:
        yield values.str.len_bytes().to_numpy().tobytes()
        yield "".join(values.to_list()).encode()
    elif isinstance(values.dtype, pl.List):
        yield values.list.len().to_numpy().tobytes()
        yield from _bytes(values.filter(values.list.len() > 0).explode())
    else:
        yield json.dumps(values.to_list(), default=str).encode()


def _entity(frame: pl.DataFrame | None, used: pl.Series, column: str, where: str) -> pl.DataFrame:
    """The catalogue (or user table) joined with the ids the log names, in seeded order."""
    seen = used.unique().to_frame(column)
    if frame is None:
        frame = seen
    else:
        if column not in frame.columns:
            raise OnomaError(f"no column {column!r} (found {frame.columns})", where=where)
        frame = frame.with_columns(pl.col(column).cast(pl.String))
        repeated = frame.filter(pl.col(column).is_duplicated())[column]
        if len(repeated):
            raise OnomaError(
                f"{column} {repeated[0]!r} is listed more than once",
                where=where,
                fix="Keep one row for each id",
            )
        if frame[column].null_count():
            raise OnomaError(f"a row without {column}", where=where)
        missing = seen.join(frame.select(column), on=column, how="anti")
        frame = pl.concat([frame, missing], how="diagonal")
    return frame[_seeded(frame[column])]


def _seeded(ids: pl.Series) -> NDArray[np.int64]:
    """int64[n], the rows of the sorted ids in seeded order."""
    by_id = ids.arg_sort().to_numpy().astype(np.int64)
    return by_id[np.random.default_rng(_CODE_SEED).permutation(len(ids))]
