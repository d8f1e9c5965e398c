"""Which rows of the log are behind the items of a split: the way to ratings and reviews."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.split import Split, ordered


@dataclass(frozen=True)
class LogRows:
    """Rows of ``dataset.interactions``, aligned with the values of a split's parts.

    Attributes:
        train: int64, aligned with ``split.train.values``.
        valid: int64, aligned with ``split.valid.targets.values``.
        test: int64, aligned with ``split.test.targets.values``.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def log_rows(split: Split) -> LogRows:
    """Find the event behind every item of train, validation and test.

    The parts of a user follow each other in time, so the n-th time that user and item meet in the
    parts is the n-th time in the log. Under ``cold-user`` a target that its user had before may
    be given the earlier event.
    """
    cases = (split.valid, split.test)
    users = [split.train.rows(), *(c.users[c.targets.rows()].astype(np.int64) for c in cases)]
    items = [split.train.values, *(c.targets.values for c in cases)]
    met = pl.int_range(pl.len()).over("user", "item").alias("time")
    asked = pl.DataFrame(
        {
            "user": np.concatenate(users).astype(np.int32),
            "item": np.concatenate(items).astype(np.int32),
        }
    ).with_columns(met)
    log = ordered(split.dataset, split.ties, split.seed).select("row", "user", "item")
    found = asked.join(
        log.with_columns(met), on=["user", "item", "time"], how="left", maintain_order="left"
    )
    rows = found["row"].cast(pl.Int64).to_numpy()
    ends = np.cumsum([len(part) for part in items])
    return LogRows(rows[: ends[0]], rows[ends[0] : ends[1]], rows[ends[1] :])
