"""Train, validation and test views of a data set, with the protocol that made them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.dataset import Dataset
from onoma.dataset.ragged import Ragged
from onoma.errors import OnomaError

Ties = Literal["file", "shuffled", "id"]
Protocol = Literal["leave-one-out", "temporal", "ratio", "cold-item", "cold-user"]


@dataclass(frozen=True)
class Cases:
    """What a model is asked and what happened next.

    Attributes:
        users: int32[n] user codes.
        history: n rows of item codes, oldest first, all that is known before the target.
        targets: n rows of item codes that followed.
        times: n rows aligned with the history, -1 where unknown; None where nobody kept them.
        query: n texts, what is asked in words; None where nothing is.
        liked: int8, n rows aligned with the history, 1 for what was liked; None where nobody
            said, and then everything counts as liked.
        labels: bool[n], whether the target was liked; None where targets are what was taken.
    """

    users: NDArray[np.int32]
    history: Ragged
    targets: Ragged
    times: Ragged | None = None
    query: tuple[str, ...] | None = None
    liked: Ragged | None = None
    labels: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[np.integer]) -> Cases:
        """A subset of the cases."""
        times = None if self.times is None else self.times.take(rows)
        query = None if self.query is None else tuple(self.query[int(row)] for row in rows)
        return Cases(
            self.users[rows],
            self.history.take(rows),
            self.targets.take(rows),
            times,
            query,
            None if self.liked is None else self.liked.take(rows),
            None if self.labels is None else self.labels[rows],
        )


@dataclass(frozen=True)
class Split:
    """One data set cut in three.

    Attributes:
        dataset: the whole; models may read its catalogue, never its log.
        train: one row of item codes per user code, oldest first (int32 values).
        train_times: int64[total] aligned with ``train.values``; -1 where unknown.
        valid: cases that choose checkpoints and settings.
        test: cases that are reported.
        protocol: how it was cut.
        ties: how equal timestamps of a user are ordered: ``file`` (as given), ``shuffled``
            (seeded), ``id`` (by the owner's item id).
        seed: of the shuffle and of random choices.
        asked: training questions with answers, where the protocol makes them (``likes``).
    """

    dataset: Dataset
    train: Ragged
    train_times: NDArray[np.int64]
    valid: Cases
    test: Cases
    protocol: str
    ties: Ties = "file"
    seed: int = 0
    asked: Cases | None = None

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits over the data and the cut."""
        digest = hashlib.sha256(f"{self.dataset.hash} {self.protocol} {self.ties}".encode())
        for part in (self.train, self.valid.targets, self.test.targets):
            digest.update(part.offsets.tobytes())
            digest.update(np.ascontiguousarray(part.values, dtype=np.int32).tobytes())
        if self.test.labels is not None:
            digest.update(self.test.labels.tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def train_counts(self) -> NDArray[np.int64]:
        """int64[n_items], training interactions of each item."""
        return np.bincount(self.train.values, minlength=self.dataset.n_items)

    def describe(self) -> dict[str, object]:
        """What a metrics file records about the data."""
        return {
            "name": self.dataset.name,
            "hash": self.dataset.hash,
            "contents": self.dataset.contents,
            "split_hash": self.hash,
            "users": self.dataset.n_users,
            "items": self.dataset.n_items,
            "interactions": self.dataset.n_interactions,
            "train": len(self.train.values),
            "valid_cases": len(self.valid),
            "test_cases": len(self.test),
        }


def split(
    dataset: Dataset,
    protocol: Protocol = "leave-one-out",
    *,
    ties: Ties = "file",
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
) -> Split:
    """Cut a data set.

    Args:
        dataset: the data.
        protocol: ``leave-one-out`` (last item test, last but one validation, users with fewer
            than three items train only), ``temporal`` (two global time cuts, so that ``valid``
            and ``test`` shares of the interactions fall after them), ``ratio`` (the last shares of
            each user), ``cold-item`` (shares of the *items* leave training with all their
            interactions), ``cold-user`` (shares of the users; their last item is the target).
        ties: order inside equal timestamps of one user.
        seed: for shuffled ties and random choices.
        valid: share for validation, unused by leave-one-out.
        test: share for test, unused by leave-one-out.

    Raises:
        OnomaError: an unknown name, shares that leave no training data, or no timestamps where
            the protocol needs them.
    """
    if not (0 < valid and 0 < test and valid + test < 1):
        raise OnomaError(f"valid={valid} and test={test} leave no training data", where="split")
    if protocol not in _CUTS:
        raise OnomaError(
            f"unknown protocol {protocol!r}", where="split", fix=f"Use one of {sorted(_CUTS)}"
        )
    users, items, times = _ordered(dataset, ties, seed)
    result = _CUTS[protocol](dataset, users, items, times, valid, test, seed)
    train, train_times, valid_cases, test_cases = result
    if not len(train.values):
        raise OnomaError("the split leaves no training data", where=dataset.name)
    if not len(test_cases):
        raise OnomaError(
            "the split leaves no test case",
            where=dataset.name,
            fix="Leave-one-out needs users with at least three interactions",
        )
    return Split(dataset, train, train_times, valid_cases, test_cases, protocol, ties, seed)


_Arrays = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]
_Parts = tuple[Ragged, NDArray[np.int64], Cases, Cases]


def ordered(dataset: Dataset, ties: Ties, seed: int) -> pl.DataFrame:
    """The log sorted by user, then time, then the tie rule; rows without a time keep their place.

    Columns ``row`` (of ``dataset.interactions``), ``user``, ``item`` and ``when``.

    A missing timestamp takes the last known one of the same user before it in the file, so that
    the file's order stands.
    """
    log = dataset.interactions.select("user", "item", "timestamp").with_row_index("row")
    log = log.with_columns(
        pl.col("timestamp").forward_fill().over("user").fill_null(-1).alias("when")
    )
    if ties == "file":
        keys = ["user", "when", "row"]
    elif ties == "shuffled":
        noise = np.random.default_rng(seed).permutation(log.height)
        log = log.with_columns(pl.Series("noise", noise))
        keys = ["user", "when", "noise"]
        if dataset.interactions["timestamp"].null_count() == log.height:
            raise OnomaError("no timestamps: there are no ties to shuffle", where=dataset.name)
    elif ties == "id":
        rank = np.empty(dataset.n_items, dtype=np.int64)
        rank[np.argsort(dataset.item_ids.astype(str), kind="stable")] = np.arange(dataset.n_items)
        log = log.with_columns(pl.Series("rank", rank[log["item"].to_numpy()]))
        keys = ["user", "when", "rank"]
    else:
        raise OnomaError(
            f"unknown tie rule {ties!r}", where="split", fix="Use file, shuffled or id"
        )
    return log.sort(keys)


def _ordered(dataset: Dataset, ties: Ties, seed: int) -> _Arrays:
    log = ordered(dataset, ties, seed)
    return (
        log["user"].to_numpy().astype(np.int32),
        log["item"].to_numpy().astype(np.int32),
        log["when"].to_numpy().astype(np.int64),
    )


def _from_mask(
    dataset: Dataset, arrays: _Arrays, part: NDArray[np.int8], case_users: bool = False
) -> _Parts:
    """Parts from a label per log row: 0 train, 1 valid, 2 test.

    A test case's history is everything of the user before its first test row, validation
    included; with ``case_users`` the rows marked 3 are history only and belong to no training row.
    """
    users, items, times = arrays
    n = dataset.n_users
    kept = part == 0
    train = Ragged.from_groups(users[kept], items[kept], n)

    def cases(label: int) -> Cases:
        target = part == label
        targets = Ragged.from_groups(users[target], items[target], n)
        before = (part < label) | ((part == 3) & case_users)
        history = Ragged.from_groups(users[before], items[before], n)
        when = Ragged(history.offsets, times[before])
        rows = np.flatnonzero((targets.lengths > 0) & (history.lengths > 0))
        return Cases(rows.astype(np.int32), history.take(rows), targets.take(rows), when.take(rows))

    return train, times[kept], cases(1), cases(2)


def _positions(users: NDArray[np.int32], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Position of each row inside its user, and that user's length."""
    lengths = np.bincount(users, minlength=n)
    starts = np.cumsum(lengths) - lengths
    return np.arange(len(users)) - starts[users], lengths[users]


def _leave_one_out(
    dataset: Dataset,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    valid: float,
    test: float,
    seed: int,
) -> _Parts:
    position, length = _positions(users, dataset.n_users)
    part = np.zeros(len(users), dtype=np.int8)
    enough = length >= 3
    part[enough & (position == length - 2)] = 1
    part[enough & (position == length - 1)] = 2
    return _from_mask(dataset, (users, items, times), part)


def _temporal(
    dataset: Dataset,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    valid: float,
    test: float,
    seed: int,
) -> _Parts:
    if (times < 0).all():
        raise OnomaError(
            "no timestamps", where=dataset.name, fix="Use protocol leave-one-out or ratio"
        )
    first, second = np.quantile(times, [1 - valid - test, 1 - test], method="higher")
    part = (times >= first).astype(np.int8) + (times >= second).astype(np.int8)
    return _from_mask(dataset, (users, items, times), part)


def _ratio(
    dataset: Dataset,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    valid: float,
    test: float,
    seed: int,
) -> _Parts:
    position, length = _positions(users, dataset.n_users)
    held = np.maximum(1, np.round(length * test)).astype(np.int64)
    tuned = np.maximum(1, np.round(length * valid)).astype(np.int64)
    enough = length >= 3
    part = np.zeros(len(users), dtype=np.int8)
    part[enough & (position >= length - held - tuned)] = 1
    part[enough & (position >= length - held)] = 2
    return _from_mask(dataset, (users, items, times), part)


def _cold_item(
    dataset: Dataset,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    valid: float,
    test: float,
    seed: int,
) -> _Parts:
    seen = np.flatnonzero(np.bincount(items, minlength=dataset.n_items))
    order = np.random.default_rng(seed).permutation(seen)
    n_test, n_valid = max(1, round(len(seen) * test)), max(1, round(len(seen) * valid))
    label = np.zeros(dataset.n_items, dtype=np.int8)
    label[order[:n_test]] = 2
    label[order[n_test : n_test + n_valid]] = 1
    part = label[items]
    kept = part == 0
    train = Ragged.from_groups(users[kept], items[kept], dataset.n_users)
    position = np.cumsum(kept) - 1
    starts = train.offsets[:-1]

    def cases(wanted: int) -> Cases:
        # One case a cold event: the user's warm items before it.
        rows = np.flatnonzero(part == wanted)
        length = np.maximum(position[rows] + 1 - starts[users[rows]], 0)
        rows, length = rows[length > 0], length[length > 0]
        own = train.take(users[rows])
        history = own._gather(own.offsets[:-1], length)
        own = Ragged(train.offsets, times[kept]).take(users[rows])
        when = own._gather(own.offsets[:-1], length)
        targets = Ragged(np.arange(len(rows) + 1, dtype=np.int64), items[rows])
        return Cases(users[rows], history, targets, when)

    return train, times[kept], cases(1), cases(2)


def _cold_user(
    dataset: Dataset,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    valid: float,
    test: float,
    seed: int,
) -> _Parts:
    position, length = _positions(users, dataset.n_users)
    able = np.flatnonzero(np.bincount(users, minlength=dataset.n_users) >= 2)
    order = np.random.default_rng(seed).permutation(able)
    n_test, n_valid = max(1, round(len(able) * test)), max(1, round(len(able) * valid))
    label = np.zeros(dataset.n_users, dtype=np.int8)
    label[order[:n_test]] = 2
    label[order[n_test : n_test + n_valid]] = 1
    owner, last = label[users], position == length - 1
    part = np.where(owner == 0, 0, np.where(last, owner, 3)).astype(np.int8)
    train, train_times, valid_cases, test_cases = _from_mask(
        dataset, (users, items, times), part, case_users=True
    )
    return train, train_times, valid_cases, test_cases


_CUTS = {
    "leave-one-out": _leave_one_out,
    "temporal": _temporal,
    "ratio": _ratio,
    "cold-item": _cold_item,
    "cold-user": _cold_user,
}
