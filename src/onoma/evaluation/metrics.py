"""Ranking metrics of a whole test set in a few array operations, equal to trec_eval's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged

FORMULAS = {
    "ndcg": "NDCG@k = sum_{r<=k} g(r)/log2(r+1) / the same sum for the best possible order"
    " (g(r): gain of the item at rank r, 1 for a target)",
    "recall": "Recall@k = |targets among the first k| / |targets|",
    "hit_rate": "HR@k = 1 if any target is among the first k, else 0",
    "precision": "P@k = |targets among the first k| / k",
    "f1": "F1@k = 2 P@k Recall@k / (P@k + Recall@k)",
    "mrr": "MRR@k = 1 / rank of the first target, 0 if that rank is above k",
    "map": "MAP@k = sum_{r<=k, item r is a target} P@r / |targets|",
    "mar": "MAR@k = sum_{r<=k} Recall@r / k",
}


@dataclass(frozen=True)
class Hits:
    """Where the targets stand in a ranking.

    Attributes:
        gains: float64[n, k], the gain of the item at each rank, 0 for a miss; an item that a row
            names twice counts once, at its better rank.
        relevant: int64[n], distinct targets of each row.
        ideal: Ragged-like pair: rows int64[t] and gains float64[t] of the distinct targets, best
            gain first inside a row.
    """

    gains: NDArray[np.float64]
    relevant: NDArray[np.int64]
    ideal: tuple[NDArray[np.int64], NDArray[np.float64]]


def hits(
    items: NDArray[np.integer], targets: Ragged, gains: NDArray[np.floating] | None = None
) -> Hits:
    """Match a ranking with its targets on item codes.

    Args:
        items: int[n, k] item codes, best first; negative codes are padding.
        targets: n rows of item codes; repeats inside a row count once (with the best gain).
        gains: float[targets.values], default 1 each; a gain of 0 or less is no target.

    Raises:
        ValueError: the row counts differ or the gains do not match the targets.
    """
    items = np.asarray(items, dtype=np.int64)
    if items.ndim != 2 or len(items) != len(targets):
        raise ValueError(f"ranking of shape {items.shape} against {len(targets)} rows of targets")
    rows, codes = targets.rows(), np.asarray(targets.values, dtype=np.int64)
    graded = gains is not None
    weight = np.ones(len(codes)) if gains is None else np.asarray(gains, dtype=np.float64)
    if weight.shape != codes.shape:
        raise ValueError(f"{weight.shape} gains for {codes.shape} targets")
    wanted = (weight > 0) & (codes >= 0)
    rows, codes, weight = rows[wanted], codes[wanted], weight[wanted]
    base = int(max(items.max(initial=0), codes.max(initial=0))) + 1
    keys = rows * base + codes
    order = np.lexsort((-weight, keys)) if graded else np.argsort(keys, kind="stable")
    keys, weight, rows = keys[order], weight[order], rows[order]
    fresh = np.ones(len(keys), dtype=bool)
    fresh[1:] = keys[1:] != keys[:-1]
    keys, weight, rows = keys[fresh], weight[fresh], rows[fresh]
    found = np.zeros(items.shape)
    if len(keys) and items.size:
        asked = np.where(items >= 0, np.arange(len(items))[:, None] * base + items, -1).ravel()
        place = np.searchsorted(keys, asked)
        place[place == len(keys)] = 0
        where = np.flatnonzero(keys[place] == asked)
        # Ascending positions run row by row and best first: the first of a repeat is the best.
        _, first = np.unique(place[where], return_index=True)
        where = where[first]
        found.ravel()[where] = weight[place[where]]
    if graded:
        best = np.lexsort((-weight, rows))
        rows, weight = rows[best], weight[best]
    return Hits(found, np.bincount(rows, minlength=len(items)), (rows, weight))


def metrics(
    items: NDArray[np.integer],
    targets: Ragged,
    ks: Sequence[int] = (1, 5, 10, 20, 50),
    *,
    gains: NDArray[np.floating] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Every metric of :data:`FORMULAS` at every k, for each row.

    Equal to trec_eval's ``ndcg_cut``, ``recall``, ``success``, ``P``, ``recip_rank`` and
    ``map_cut`` (Voorhees and Harman, TREC, 2005); F1 and the mean average recall are S053's. A row
    without targets scores 0.

    Args:
        items: int[n, w] item codes, best first; negative codes are padding. Ranks beyond ``w``
            are misses.
        targets: n rows of item codes.
        ks: the cuts.
        gains: float[targets.values], default 1 each; only NDCG reads how large they are.

    Returns:
        ``{"ndcg@10": float64[n], ...}``.

    Raises:
        ValueError: a k below one, or arrays that do not match.
    """
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise ValueError(f"k must be at least 1, not {ks}")
    matched = hits(items, targets, gains)
    n, width = matched.gains.shape
    hit = matched.gains > 0
    # The sums over ranks touch only the hits, a small share of the cells.
    row, column = np.nonzero(hit)
    rank = column + 1.0
    dcg = matched.gains[row, column] / np.log2(rank + 1)
    start = np.searchsorted(row, row)
    upto = np.arange(len(row)) - start + 1
    precision = upto / rank
    first = np.full(n, np.inf)
    first[row[upto == 1]] = rank[upto == 1]
    relevant = matched.relevant
    ideal_row, ideal_gain = matched.ideal
    ideal_rank = np.arange(len(ideal_row)) - np.searchsorted(ideal_row, ideal_row) + 1.0
    ideal_dcg = ideal_gain / np.log2(ideal_rank + 1)
    out: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        inside = rank <= k
        at = row[inside]
        count = np.bincount(at, minlength=n).astype(np.float64)
        within = ideal_rank <= k
        ideal = np.bincount(ideal_row[within], ideal_dcg[within], minlength=n)
        out[f"ndcg@{k}"] = _ratio(np.bincount(at, dcg[inside], minlength=n), ideal)
        out[f"recall@{k}"] = _ratio(count, relevant)
        out[f"hit_rate@{k}"] = (count > 0).astype(np.float64)
        out[f"precision@{k}"] = count / k
        # 2 P R / (P + R), with the hits divided out of it.
        out[f"f1@{k}"] = _ratio(2 * count, np.where(relevant > 0, relevant + k, 0))
        out[f"mrr@{k}"] = np.where(first <= k, 1 / first, 0.0)
        out[f"map@{k}"] = _ratio(np.bincount(at, precision[inside], minlength=n), relevant)
        # A hit at rank r counts in the recall of the k - r + 1 ranks from there on.
        spread = np.bincount(at, (k - rank[inside] + 1) / k, minlength=n)
        out[f"mar@{k}"] = _ratio(spread, relevant)
    return out


def formula(key: str) -> str:
    """The definition behind a key such as ``ndcg@10``.

    Raises:
        KeyError: no such metric.
    """
    name, _, k = key.partition("@")
    return FORMULAS[name].replace("@k", f"@{k}").replace("<=k", f"<={k}") if k else FORMULAS[name]


def _ratio(
    above: NDArray[np.floating] | NDArray[np.integer],
    below: NDArray[np.floating] | NDArray[np.integer],
) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(len(above)), where=np.asarray(below) > 0)
