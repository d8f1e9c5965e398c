"""The measuring part of runs: figures on validation and test, families of them, examples."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Split
from onoma.dataset.files import write_text
from onoma.evaluation.candidates import sampled
from onoma.evaluation.cases import write_cases
from onoma.evaluation.cost import Till, cost
from onoma.evaluation.evaluate import Evaluation, evaluate
from onoma.evaluation.ties import TIES as MEAN_OF_TIES
from onoma.recipe import Recipe
from onoma.recommenders.base import TIES, Recommender, Requests


def measure(
    folder: Path,
    recipe: Recipe,
    model: Recommender,
    parts: Split,
    began: float,
    cases: Cases,
    lists: NDArray[np.int32] | None,
    beside: Callable[[Evaluation, NDArray[np.int32] | None], dict[str, Any]],
) -> dict[str, Any]:
    """Evaluate on validation and test.

    Args:
        folder: of the run; ``cases.parquet`` goes there.
        recipe: of the run.
        model: fitted.
        parts: the split it was fitted on.
        began: when the run began, of :func:`time.monotonic`.
        cases: of the test.
        lists: their short lists, where the recipe has some.
        beside: gives the figures of other recipes on the same cases and lists.

    Returns:
        What ``metrics.json`` is to hold.
    """
    start = time.monotonic()
    ks, masked = recipe.evaluate.ks, recipe.evaluate.mask_seen
    modes = recipe.evaluate.modes or model.modes
    short = recipe.evaluate.candidates

    def figures(cases: Cases, *, mask_seen: bool, mode: str = modes[0]) -> dict[str, Any]:
        return evaluate(
            model, cases, parts, ks=ks, mask_seen=mask_seen, mode=mode, candidates=lists
        ).summary()

    models: list[Any] = getattr(model, "languages", list)()
    with Till(models) as till:
        tested = evaluate(
            model, cases, parts, ks=ks, mask_seen=masked, mode=modes[0], candidates=lists
        )
    test = tested.summary()
    spent = cost(till, test, cases, lists, ks)
    write_cases(tested, folder)  # comparisons pair them
    training = {k: v for k, v in getattr(model, "training", {}).items() if k != "history"}
    metrics: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "dataset": parts.describe(),
        "protocol": {
            "split": parts.protocol,
            "ties": parts.ties,
            "equal_scores": TIES if short is None else MEAN_OF_TIES,
            "ranked": "whole catalogue" if short is None else short.told(),
            "mask_seen": masked,
        }
        | ({"query": recipe.evaluate.query} if recipe.evaluate.query else {}),
        "test": test,
        "modes": {
            mode: test if mode == modes[0] else figures(cases, mask_seen=masked, mode=mode)
            for mode in modes
        },
        "invalid_items": test.get("invalid_items", 0),
        "training": training,
        "published": recipe.published.get(parts.dataset.name, {}),
    }
    if short is None:  # short lists hold nothing that was seen, and choose nothing
        valid = sampled(parts.valid, recipe.evaluate.cases)
        if len(valid):
            metrics["valid"] = figures(valid, mask_seen=masked)
        other = "test_unmasked" if masked else "test_masked"
        metrics[other] = figures(cases, mask_seen=not masked)
    if recipe.evaluate.beside:
        metrics["beside"] = beside(tested, lists)
    if (report := getattr(model, "language_report", None)) is not None:
        metrics |= {"language": told} if (told := report()) else {}
    if models:
        metrics["cost"] = spent
    if (health := getattr(model, "health", None)) is not None:
        metrics["health"] = health()
    metrics |= families(model, parts)
    seconds = {"encode": 0.0, "index": 0.0, "train": 0.0, **getattr(model, "seconds", {})}
    seconds |= {"evaluate": time.monotonic() - start, "total": time.monotonic() - began}
    metrics["seconds"] = {key: round(value, 2) for key, value in seconds.items()}
    metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    metrics["parameters"] = sum(
        p.numel() for p in getattr(getattr(model, "module", None), "parameters", list)()
    )
    return metrics


def families(model: Recommender, parts: Split) -> dict[str, Any]:
    """What only some models have: families of tasks, names, clicks, searches, several modes."""
    from onoma.recommenders.ranking.clicks import ClickRanker
    from onoma.recommenders.ranking.onepiece import OnePiece
    from onoma.recommenders.retrieval.knnembed import KNNEmbed
    from onoma.recommenders.retrieval.recgpt import RecGPT
    from onoma.recommenders.retrieval.synergen import SynerGen
    from onoma.recommenders.text.base import TextRecommender

    if isinstance(model, RecGPT):
        from onoma.evaluation.blend import blend_figures

        return {"blend": blend_figures(model, parts)}
    if isinstance(model, SynerGen):
        from onoma.evaluation.search import search_figures

        return {"search": search_figures(model, parts)}
    if isinstance(model, KNNEmbed):
        from onoma.evaluation.alike import alike

        return {"alike": alike(model, sampled(parts.test, 2000))}
    if isinstance(model, ClickRanker):
        return {"clicks": model.figures(parts)}
    if isinstance(model, OnePiece):
        asked = ("valid", "test")
        return {"feedback": {name: model.feedback_figures(parts, name) for name in asked}}
    if not isinstance(model, TextRecommender):
        return {}
    from onoma.evaluation.families import family_figures, name_figures

    out = {"families": family_figures(model, parts), "spelling": name_figures(model, parts)}
    from onoma.recommenders.text.mender import Mender

    if isinstance(model, Mender):
        from onoma.evaluation.preferences import preference_figures

        out["preferences"] = preference_figures(model, parts)
    return out


def write_examples(folder: Path, recipe: Recipe, model: Recommender, parts: Split) -> None:
    """Write ``examples.json``: a few test users, what they had, what came, what we said."""
    count = min(recipe.evaluate.examples, len(parts.test))
    rows = np.sort(np.random.default_rng(0).permutation(len(parts.test))[:count])
    cases, dataset = parts.test.take(rows), parts.dataset
    ranking = model.recommend(Requests.of(cases, mask_seen=recipe.evaluate.mask_seen), 10)
    examples = [
        {
            "user": str(dataset.users["user_id"][int(cases.users[row])]),
            "history": dataset.titles(cases.history[row][-10:]),
            "target": dataset.titles(cases.targets[row]),
            "recommended": dataset.titles(ranking.items[row]),
            "hit": bool(np.isin(ranking.items[row], cases.targets[row]).any()),
        }
        for row in range(count)
    ]
    write_text(json.dumps(examples, indent=2, ensure_ascii=False) + "\n", folder / "examples.json")
