"""Metrics where equal scores leave the order open: the mean over the orders that are possible.

A ranker that cannot tell candidates apart must neither gain nor lose by the order in which they
lay. Over short lists, where a model may have five answers for five candidates, that decides the
figure (Dai et al., "Uncovering ChatGPT's Capabilities in Recommender Systems", RecSys 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.evaluation.metrics import metrics

TIES = "equal scores: the mean over the ranks that they may have"
_ORDERS = 64


def averaged(
    items: NDArray[np.integer],
    scores: NDArray[np.floating],
    targets: Ragged,
    ks: Sequence[int],
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """As :func:`onoma.evaluation.metrics.metrics`, each row's mean over the orders of its ties.

    Exact where every row has one target; else the mean over 64 drawn orders.

    Args:
        items: int[n, w] item codes, best first, with everything that shares a score with a target;
            negative codes are padding.
        scores: float[n, w], falling.
        targets: n rows of item codes.
        ks: the cuts.
        seed: of the drawn orders.

    Raises:
        ValueError: arrays that do not match.
    """
    if scores.shape != items.shape:
        raise ValueError(f"scores of shape {scores.shape} for items of shape {items.shape}")
    first, size = _groups(items, scores)
    if (targets.lengths == 1).all() and items.size:
        return _of_one(items, first, size, targets, ks)
    draw = np.random.default_rng(seed)
    rows = np.arange(len(items))[:, None]
    sums: dict[str, NDArray[np.float64]] = {}
    for _ in range(_ORDERS):
        # Groups stay where they are; inside each the order is drawn.
        order = np.lexsort((draw.random(items.shape), first), axis=1)
        for key, values in metrics(items[rows, order], targets, ks).items():
            sums[key] = sums.get(key, 0.0) + values
    return {key: values / _ORDERS for key, values in sums.items()}


def _of_one(
    items: NDArray[np.integer],
    first: NDArray[np.int64],
    size: NDArray[np.int64],
    targets: Ragged,
    ks: Sequence[int],
) -> dict[str, NDArray[np.float64]]:
    """One target a row: the metric at each rank, averaged over the ranks of the target's group."""
    width = items.shape[1]
    # A row a rank, with the target there, and one where it is missing.
    possible = np.where(np.eye(width, dtype=bool), 1, 0)
    possible = np.concatenate([possible, np.zeros((1, width), dtype=np.int64)])
    at_rank = metrics(possible, Ragged.from_rows([[1]] * (width + 1)), ks)
    hit = (items == targets.values[:, None]) & (items >= 0)
    found, place = hit.any(axis=1), hit.argmax(axis=1)
    rows = np.arange(len(items))
    start = np.where(found, first[rows, place], width)
    stop = np.where(found, start + size[rows, place], width + 1)
    out = {}
    for key, values in at_rank.items():
        total = np.concatenate([[0.0], np.cumsum(values)])
        out[key] = (total[stop] - total[start]) / (stop - start)
    return out


def _groups(
    items: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[n, w] each: where the group of equal scores begins, and how large it is."""
    n, width = items.shape
    fresh = np.ones((n, width), dtype=bool)
    fresh[:, 1:] = (scores[:, 1:] != scores[:, :-1]) | (items[:, 1:] < 0)
    first = np.maximum.accumulate(np.where(fresh, np.arange(width), 0), axis=1)
    flat = (np.arange(n)[:, None] * width + first).ravel()
    size = np.bincount(flat, minlength=n * width)[flat].reshape(n, width)
    return first, size
