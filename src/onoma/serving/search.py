"""The best of scores, and several orders as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best(scores: NDArray[np.float32], count: int, above: float = 0.0) -> NDArray[np.int64]:
    """Codes of the largest scores above a bound, best first, the lower code among equals."""
    count = min(count, len(scores))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    bar = np.partition(scores, len(scores) - count)[len(scores) - count]
    found = np.flatnonzero(scores >= max(bar, np.nextafter(np.float32(above), np.float32(np.inf))))
    return found[np.argsort(-scores[found], kind="stable")][:count]


def fuse(lists: Sequence[NDArray[np.integer]], k: int = 60) -> tuple[list[int], list[float]]:
    """Reciprocal rank fusion: an item's score is the sum of ``1 / (k + rank)`` over the lists.

    Cormack, Clarke and Buettcher, SIGIR 2009. Equal scores put the lower code first.
    """
    total: dict[int, float] = {}
    for ranked in lists:
        for rank, code in enumerate(ranked.tolist(), start=1):
            total[code] = total.get(code, 0.0) + 1 / (k + rank)
    order = sorted(total, key=lambda code: (-total[code], code))
    return order, [total[code] for code in order]
