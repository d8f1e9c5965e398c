"""What a table of counts knows of a log of channels: the features of the boosted trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onoma.encoding.svd import truncated_svd
from onoma.study.channels import CLASSES, DAY, KINDS, PRODUCTS, Log

WINDOWS = (1, 7, 30, None)  # days; the last is everything
_CODES = len(PRODUCTS) * (len(KINDS) + 1) + CLASSES
_USERS = 1000  # counted at a time
_NEVER = 10_000.0  # hours


@dataclass(frozen=True)
class Aggregates:
    """What was known just before m events.

    Attributes:
        table: float32[m, k]: counts of every kind of event in several windows, hours since its
            last, context, hour, weekday, gap, what the user is, and the product.
        before: float32[m, c], counts up to the midnight before, of which the vectors of whole
            activity are made.
    """

    table: NDArray[np.float32]
    before: NDArray[np.float32]


def aggregates(log: Log, rows: NDArray[np.int64]) -> Aggregates:
    """Count, for events of a log, all that came before them; nothing of the event's own response.

    Args:
        log: the events.
        rows: int64[m], ascending places in it.
    """
    users = log.users
    tables, befores = [], []
    n = len(log.offsets) - 1
    for first in range(0, n, _USERS):
        low, high = log.offsets[first], log.offsets[min(first + _USERS, n)]
        part = rows[(rows >= low) & (rows < high)]
        if len(part):
            table, before = _counted(log, users, int(low), int(high), part)
            tables.append(table)
            befores.append(before)
    return Aggregates(np.concatenate(tables), np.concatenate(befores))


def _counted(
    log: Log, users: NDArray[np.int64], low: int, high: int, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    fields, times = log.fields[low:high], log.times[low:high]
    entity, kind = fields[:, 0] - 1, fields[:, 1] - 1
    wide = len(KINDS) + 1  # clicks have a code of their own
    payment = entity >= len(PRODUCTS)
    code = np.where(payment, len(PRODUCTS) * (len(KINDS) + 1) + entity - len(PRODUCTS),
                    entity * wide + kind)  # fmt: skip
    place = np.arange(high - low)
    there = np.zeros((high - low, _CODES), dtype=np.int32)
    there[place, code] = 1
    clicks = fields[:, 4] == 2
    there[place[clicks], entity[clicks] * wide + wide - 1] = 1
    total = np.concatenate([np.zeros((1, _CODES), dtype=np.int32), there.cumsum(axis=0)])
    latest = np.maximum.accumulate(np.where(there > 0, place[:, None], -1), axis=0)
    at = rows - low
    own = log.offsets[users[rows]] - low
    now = times[at]
    # Users follow each other, so user and time together are sorted.
    base = int(log.times.max()) + 1
    key = (users[low:high] - users[low]) * base + times
    mine = (users[rows] - users[low]) * base

    def since(moment: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.clip(np.searchsorted(key, mine + moment), own, at)

    counts = [total[at] - total[own if days is None else since(now - days * DAY)]
              for days in WINDOWS]  # fmt: skip
    midnight = since(now // DAY * DAY)
    before = np.log1p(total[midnight] - total[own]).astype(np.float32)
    seen = np.where((at > own)[:, None], latest[np.maximum(at - 1, 0)], -1)
    hours = (now[:, None] - times[np.maximum(seen, 0)]) / 3600
    hours = np.where(seen >= own[:, None], hours, _NEVER)
    gap = np.where(at > own, now - times[np.maximum(at - 1, 0)], -1) / 3600
    more = [log.context[rows], (now // 3600 % 24)[:, None], (now // DAY % 7)[:, None],
            gap[:, None], log.statics[users[rows]], log.product[rows][:, None]]  # fmt: skip
    table = np.concatenate([*counts, hours, *more], axis=1).astype(np.float32)
    return table, before


def foundation(before: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """float32[c, dim]: the directions in which training users' activity differs most."""
    _, _, directions = truncated_svd(before - before.mean(axis=0), dim)
    return np.ascontiguousarray(directions.T)
