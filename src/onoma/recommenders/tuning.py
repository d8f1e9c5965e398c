"""Choosing settings on validation, without the evaluation room above."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged
from onoma.recommenders.base import Recommender, Requests


def validation_ndcg(
    recommender: Recommender,
    cases: Cases,
    k: int = 10,
    *,
    limit: int | None = None,
    mode: str | None = None,
) -> float:
    """Mean NDCG@k with seen items masked; 0 where there is no case.

    Targets that were not liked (``labels``) are no hits: their cases are left out.

    NDCG@k of a row is the sum over hits at rank r of 1 / log2(r + 1), divided by that sum for the
    row's min(targets, k) first ranks.

    Args:
        recommender: a fitted recommender.
        cases: usually ``split.valid``.
        k: cut-off.
        limit: score at most this many cases, evenly spaced.
        mode: what answers; the recommender's first where not given.
    """
    if cases.labels is not None:
        cases = cases.take(np.flatnonzero(cases.labels))
    if limit is not None and len(cases) > limit:
        cases = cases.take(np.linspace(0, len(cases) - 1, limit).astype(np.int64))
    if not len(cases):
        return 0.0
    ranking = recommender.recommend(Requests.of(cases), k, mode=mode).items
    return ranked_ndcg(ranking, cases.targets)


def ranked_ndcg(items: NDArray[np.integer], targets: Ragged) -> float:
    """Mean NDCG@k, as of :func:`validation_ndcg`, of answers that are already there.

    Args:
        items: int[n, k] item codes, at least one row; -1 where there is no answer.
        targets: n rows of item codes.
    """
    ranking, k = items.astype(np.int64), items.shape[1]
    base = int(max(ranking.max(initial=0), targets.values.max(initial=0))) + 1
    wanted = np.unique(targets.rows() * base + targets.values)
    asked = np.where(ranking >= 0, np.arange(len(ranking))[:, None] * base + ranking, -1)
    discount = 1 / np.log2(np.arange(2, k + 2))
    gained = (np.isin(asked, wanted) * discount).sum(axis=1)
    distinct = np.bincount(wanted // base, minlength=len(ranking))
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(distinct, k)]
    return float(np.divide(gained, best, out=np.zeros_like(gained), where=best > 0).mean())


@dataclass(frozen=True)
class Choice:
    """What a search found.

    Attributes:
        settings: the best settings; the earliest among equals.
        ndcg: their validation NDCG@10.
        tried: all settings with their figure, in the order tried.
    """

    settings: dict[str, Any]
    ndcg: float
    tried: list[dict[str, Any]]

    def describe(self) -> dict[str, Any]:
        """What a metrics file records."""
        return {"chosen": self.settings, "valid_ndcg@10": self.ndcg, "tried": self.tried}


def grid(**axes: Iterable[Any]) -> list[dict[str, Any]]:
    """Every combination, the last axis fastest."""
    names = list(axes)
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*axes.values())]


def choose(
    options: Sequence[dict[str, Any]],
    apply: Callable[[dict[str, Any]], Recommender],
    cases: Cases,
    *,
    limit: int = 5000,
) -> Choice:
    """The settings with the best validation NDCG@10.

    Args:
        options: settings to try, at least one; a single one is not scored.
        apply: gives the recommender with these settings, fitted.
        cases: validation cases.
        limit: cases scored for each option, evenly spaced.
    """
    if len(options) == 1 or not len(cases):
        apply(options[0])
        return Choice(options[0], 0.0, [])
    tried = []
    for option in options:
        figure = validation_ndcg(apply(option), cases, limit=limit)
        tried.append({**option, "ndcg@10": round(figure, 6)})
    best = max(range(len(options)), key=lambda i: (tried[i]["ndcg@10"], -i))
    apply(options[best])
    return Choice(options[best], tried[best]["ndcg@10"], tried)
