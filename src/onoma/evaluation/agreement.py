"""How alike two sets of lists are: between runs, or before and after a change of the question."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lists_alike(
    one: NDArray[np.integer], other: NDArray[np.integer], k: int = 10
) -> dict[str, float]:
    """How much of each list stays.

    Args:
        one: int[n, w] distinct item codes a row, negative for padding.
        other: int[n, w'], the same rows.
        k: the cut.

    Returns:
        ``identical``: share of rows with equal lists; ``overlap``: mean share of items that both
        have, of the longer list (two empty lists are alike); ``first``: share of rows whose first
        items are the same; ``empty``: share of rows where both lists are empty, which say nothing.

    Raises:
        ValueError: different numbers of rows, or none.
    """
    if len(one) != len(other) or not len(one):
        raise ValueError(f"{len(one)} lists against {len(other)}")
    same, share, first, empty = [], [], [], []
    for left, right in zip(one[:, :k], other[:, :k], strict=True):
        a, b = left[left >= 0], right[right >= 0]
        same.append(np.array_equal(a, b))
        longer = max(len(a), len(b))
        share.append(len(np.intersect1d(a, b)) / longer if longer else 1.0)
        first.append(np.array_equal(a[:1], b[:1]))
        empty.append(not longer)
    return {
        "identical": float(np.mean(same)),
        "overlap": float(np.mean(share)),
        "first": float(np.mean(first)),
        "empty": float(np.mean(empty)),
    }
