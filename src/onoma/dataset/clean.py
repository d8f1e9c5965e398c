"""Filters that turn a data set into a smaller one; each remembers what it dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.dataset import Dataset
from onoma.errors import OnomaError

Keep = Literal["first", "last", "all"]


def k_core(dataset: Dataset, k: int, *, items: int | None = None) -> Dataset:
    """Drop users and items with fewer than ``k`` interactions until none is left.

    Args:
        dataset: the data.
        k: smallest number of interactions of a user (and of an item).
        items: smallest number of an item where it differs.

    Returns:
        Users and items without interactions leave the tables too.

    Raises:
        OnomaError: nothing is left, or a negative number.
    """
    items = k if items is None else items
    if k < 0 or items < 0:
        raise OnomaError(f"k-core of {min(k, items)}", where=dataset.name, fix="Use 0 or more")
    users_of = dataset.interactions["user"].to_numpy()
    items_of = dataset.interactions["item"].to_numpy()
    kept = np.ones(len(users_of), dtype=bool)
    while True:
        n_user = np.bincount(users_of[kept], minlength=dataset.n_users)
        n_item = np.bincount(items_of[kept], minlength=dataset.n_items)
        smaller = kept & (n_user[users_of] >= k) & (n_item[items_of] >= items)
        if smaller.sum() == kept.sum():
            break
        kept = smaller
    return _filtered(dataset, kept, f"{k}-core", drop_items=True)


def minimum_rating(dataset: Dataset, smallest: float) -> Dataset:
    """Drop interactions rated lower; unrated ones stay, items stay in the catalogue.

    Raises:
        OnomaError: the log has no ratings, or nothing is left.
    """
    if "rating" not in dataset.interactions.columns:
        raise OnomaError(
            "the interactions have no ratings",
            where=dataset.name,
            fix="Leave out the smallest rating",
        )
    kept = (
        dataset.interactions.select((pl.col("rating") >= smallest).fill_null(True))
        .to_series()
        .to_numpy()
    )
    return _filtered(dataset, kept, f"rating below {smallest:g}")


def deduplicate(dataset: Dataset, keep: Keep = "first", *, by_time: bool = False) -> Dataset:
    """Settle repeated (user, item) pairs.

    Args:
        dataset: the data.
        keep: the ``first`` or ``last`` of each pair in time (file order where times are equal or
            unknown), or ``all``.
        by_time: only rows that also share their timestamp are repeats.

    Raises:
        OnomaError: an unknown rule.
    """
    if keep not in ("first", "last", "all"):
        raise OnomaError(
            f"unknown rule {keep!r} for repeats", where=dataset.name, fix="Use first, last or all"
        )
    if keep == "all":
        return dataset
    key = ["user", "item", "timestamp"] if by_time else ["user", "item"]
    log = dataset.interactions.select("user", "item", "timestamp").with_row_index("row")
    log = log.sort("timestamp", "row", nulls_last=False)
    rows = log.unique(key, keep=keep, maintain_order=True)["row"].to_numpy()
    kept = np.zeros(dataset.n_interactions, dtype=bool)
    kept[rows] = True
    return _filtered(dataset, kept, f"repeated, {keep} kept")


def time_window(
    dataset: Dataset, start: int | str | None = None, end: int | str | None = None
) -> Dataset:
    """Keep interactions from ``start`` up to, but not including, ``end``.

    Args:
        dataset: the data; rows without a timestamp leave.
        start: Unix seconds or an ISO date (UTC).
        end: likewise.

    Raises:
        OnomaError: no timestamps, a date that is not one, or nothing is left.
    """
    times = dataset.interactions["timestamp"]
    if times.null_count() == len(times):
        raise OnomaError("no timestamps to choose by", where=dataset.name)
    low, high = _seconds(start, 0), _seconds(end, 2**62)
    kept = times.is_between(low, high, closed="left").fill_null(False).to_numpy()
    return _filtered(dataset, kept, "outside the time window")


def _seconds(when: int | str | None, default: int) -> int:
    if when is None:
        return default
    if isinstance(when, int) or when.lstrip("-").isdigit():
        return int(when)
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        raise OnomaError(f"{when[:40]!r} is not a date", fix="Write it like 2018-01-31") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _filtered(
    dataset: Dataset, kept: NDArray[np.bool_], why: str, drop_items: bool = False
) -> Dataset:
    """The data set without the other rows and the users they leave empty; new codes."""
    dropped = int(len(kept) - kept.sum())
    notes = {**dataset.notes, "dropped": {**dataset.notes.get("dropped", {}), why: dropped}}
    if not kept.any():
        raise OnomaError(
            f"no interactions are left ({why})", where=dataset.name, fix="Relax the filter"
        )
    if dropped == 0 and not drop_items:
        return Dataset(dataset.interactions, dataset.items, dataset.users, dataset.name, notes)
    log = dataset.interactions.filter(pl.Series(kept))
    users = dataset.users[np.unique(log["user"].to_numpy())]
    items = dataset.items
    if drop_items:
        items = items[np.unique(log["item"].to_numpy())]
    return Dataset.construct(dataset.with_ids(log), items, users, name=dataset.name, notes=notes)
