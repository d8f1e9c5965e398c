"""Personalised search: queries of the catalogue's own words, ranks over the whole catalogue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged, Split
from onoma.evaluation.metrics import metrics
from onoma.evaluation.significance import bootstrap_ci
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval import searches
from onoma.recommenders.retrieval.synergen import SynerGen

K = 10
KEYS = ("hr", "mrr", "ndcg")


def search_figures(model: SynerGen, split: Split) -> dict[str, Any]:
    """Every test case asked for its target by the target's query; seen items masked.

    Args:
        model: fitted.
        split: its data.

    Returns:
        ``searches`` in words; where the model searches ``k``, ``cases``, and of each mode ``hr``,
        ``mrr``, ``ndcg`` at k with the interval ``ndcg_ci95``; ``stranger``: the same of the first
        mode without the history, so of the query alone; ``other``: with the query of another case.
    """
    out: dict[str, Any] = {"searches": model.training.get("searches", "")}
    cases = searches.asked_for(split.test, model.queries)
    if not model.searches or not len(cases):
        return out
    out |= {"k": K, "cases": len(cases)}
    for mode in model.modes:
        out[mode] = _told(search_cases(model, cases, mode))
    alone = replace(cases, history=Ragged.empty(len(cases)), times=Ragged.empty(len(cases)))
    out["stranger"] = _told(search_cases(model, alone, forbidden=cases.history))
    assert cases.query is not None
    half = max(1, len(cases) // 2)
    turned = replace(cases, query=(*cases.query[half:], *cases.query[:half]))
    out["other"] = _told(search_cases(model, turned))
    return out


def search_cases(
    model: SynerGen, cases: Cases, mode: str | None = None, forbidden: Ragged | None = None
) -> dict[str, NDArray[np.float64]]:
    """float64[n] of each of :data:`KEYS` at 10.

    Args:
        model: fitted.
        cases: with queries and one target each.
        mode: of the model; its first where not given.
        forbidden: items that may not be answered besides those of the histories.
    """
    ranking = model.recommend(replace(Requests.of(cases), exclude=forbidden), K, mode=mode)
    found = metrics(ranking.items, cases.targets, (K,))
    return {"hr": found[f"recall@{K}"], "mrr": found[f"mrr@{K}"], "ndcg": found[f"ndcg@{K}"]}


def _told(figures: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    low, high = bootstrap_ci(figures["ndcg"])
    means = {key: float(value.mean()) for key, value in figures.items()}
    return {**means, "ndcg_ci95": [float(low), float(high)]}
