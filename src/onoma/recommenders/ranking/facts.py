"""What a ranker of clicks is told of items and users besides their events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.dataset.events import log_rows
from onoma.encoding.cooccurrence import interactions
from onoma.encoding.svd import truncated_svd
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking.clicks import attributes

_KINDS = 40  # a column of users with more different values is no field
_DAY = 86_400


@dataclass(frozen=True)
class Catalogue:
    """What the towers know of items and users.

    Attributes:
        kinds: int64[n_items, 2], category and brand codes.
        people: float32[n_users, s], what users are.
        foundation: float32[n_items, m], what an item says of whoever has it.
        values: float32[n_items], what a conversion is worth.
    """

    kinds: NDArray[np.int64]
    people: NDArray[np.float32]
    foundation: NDArray[np.float32]
    values: NDArray[np.float32]


def catalogue(split: Split, value: str | None, foundation: int) -> Catalogue:
    """What a data set says of its items and users, and the vectors of whole activity.

    Args:
        split: whose training events make the vectors.
        value: a column of the catalogue; None: everything is worth the same.
        foundation: dimensions of the vectors.

    Raises:
        OnomaError: the catalogue has no such column, or values that are not positive.
    """
    dataset = split.dataset
    values = np.ones(dataset.n_items, dtype=np.float32)
    if value is not None:
        if value not in dataset.items.columns:
            raise OnomaError(f"the catalogue has no column {value!r}", where=dataset.name,
                             fix="Set recommender.value to a column of prices or null")  # fmt: skip
        told = dataset.items[value].cast(pl.Float32, strict=False).fill_nan(None)
        values = told.fill_null(told.median()).fill_null(1.0).to_numpy()
        if (values <= 0).any():
            raise OnomaError(f"{value} is not above 0 everywhere", where=dataset.name)
    vectors = np.zeros((dataset.n_items, 0), dtype=np.float32)
    if foundation:
        matrix = interactions(split.train, dataset.n_items)
        _, size, directions = truncated_svd(matrix, foundation)
        vectors = np.ascontiguousarray((directions * size[:, None] ** 0.5).T)
    kinds = attributes(dataset.items)
    return Catalogue(kinds, _people(dataset.users), vectors, values.astype(np.float32))


def _people(users: pl.DataFrame) -> NDArray[np.float32]:
    """float32[n_users, s]: a column for each value of each column of few values."""
    columns = []
    for name in sorted(set(users.columns) - {"user_id"}):
        told = users[name]
        if told.dtype.is_nested() or told.dtype.is_float() or not 1 < told.n_unique() <= _KINDS:
            continue
        for value in told.drop_nulls().unique().sort():
            columns.append((told == value).fill_null(False).to_numpy().astype(np.float32))
    return np.stack(columns, axis=1) if columns else np.zeros((users.height, 0), dtype=np.float32)


def ratings(split: Split) -> list[NDArray[np.float32]] | None:
    """Ratings of training, validation and test events; None where nobody gave any."""
    log = split.dataset.interactions
    if "rating" not in log.columns or log["rating"].null_count() == log.height:
        return None
    given = log["rating"].to_numpy()
    rows = log_rows(split)
    return [given[part] for part in (rows.train, rows.valid, rows.test)]


def rested(requests: Requests, cap: int, within: float) -> Ragged:
    """The items that came ``cap`` times in the last ``within`` days of each history.

    Days count back from the newest event; events without a time count as new.
    """
    history = requests.history
    rows = history.rows()
    recent = np.ones(len(rows), dtype=bool)
    if requests.times is not None and len(rows):
        times = requests.times.values
        newest = np.full(len(history), -1, dtype=np.int64)
        np.maximum.at(newest, rows, times)
        recent = (times < 0) | (times >= newest[rows] - within * _DAY)
    size = int(history.values.max(initial=0)) + 1
    keys, counts = np.unique(rows[recent] * size + history.values[recent], return_counts=True)
    keys = keys[counts >= cap]
    return Ragged.from_groups(keys // size, (keys % size).astype(np.int32), len(history))
