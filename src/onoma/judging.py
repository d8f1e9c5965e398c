"""The measuring part of runs whose split asks yes-or-no questions (protocol ``likes``)."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onoma.dataset import Cases, Split
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.candidates import sampled
from onoma.evaluation.likes import NAME, Judged, judged
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender


def measure_likes(
    folder: Path,
    recipe: Recipe,
    model: Recommender,
    parts: Split,
    began: float,
    other: Callable[[str], Path],
) -> dict[str, Any]:
    """Judge the test questions; writes ``judged.parquet`` and ``examples.json``.

    Args:
        folder: of the run.
        recipe: of the run.
        model: fitted.
        parts: a split whose cases have labels.
        began: when the run began, of :func:`time.monotonic`.
        other: gives the folder of another recipe's run on the same questions.

    Raises:
        OnomaError: what another run answered is gone.

    Returns:
        What ``metrics.json`` is to hold.
    """
    start = time.monotonic()
    cases = sampled(parts.test, recipe.evaluate.cases)
    tested = judged(model, cases, parts, (recipe.evaluate.modes or model.modes)[0])
    test = tested.summary()
    modes = recipe.evaluate.modes or model.modes
    figures = {
        mode: test if mode == modes[0] else judged(model, cases, parts, mode).summary()
        for mode in modes
    }
    others = {}
    for name in recipe.evaluate.beside:
        theirs = Judged.read(place := other(name))
        if theirs is None or not np.array_equal(theirs.users, tested.users):
            raise OnomaError(
                f"no {NAME} of these questions", where=str(place), fix="Delete that run"
            )
        others[name] = theirs.summary() | {"paired": tested.above(theirs)}
    tested.write(folder)
    _write_examples(folder, recipe, parts, cases, tested)
    training = {k: v for k, v in getattr(model, "training", {}).items() if k != "history"}
    metrics: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "dataset": parts.describe() | {"asked": 0 if parts.asked is None else len(parts.asked)},
        "protocol": {
            "split": parts.protocol,
            "ties": parts.ties,
            "equal_scores": "count a half",
            "ranked": "one target a question: liked or not",
            "mask_seen": False,
        },
        "test": test,
        "modes": figures,
        "training": training,
        "published": recipe.published.get(parts.dataset.name, {}),
    }
    if others:
        metrics["beside"] = others
    seconds = {"train": 0.0, **getattr(model, "seconds", {})}
    seconds |= {"evaluate": time.monotonic() - start, "total": time.monotonic() - began}
    metrics["seconds"] = {key: round(value, 2) for key, value in seconds.items()}
    metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    metrics["parameters"] = sum(
        p.numel() for p in getattr(getattr(model, "module", None), "parameters", list)()
    )
    return metrics


def _write_examples(
    folder: Path, recipe: Recipe, parts: Split, cases: Cases, tested: Judged
) -> None:
    count = min(recipe.evaluate.examples, len(cases))
    rows = np.sort(np.random.default_rng(0).permutation(len(cases))[:count])
    middle = float(np.median(tested.scores))
    dataset = parts.dataset
    examples = []
    for row in rows:
        flags = None if cases.liked is None else cases.liked[row]
        titles = dataset.titles(cases.history[row])
        told = titles if flags is None else [
            f"{title} ({'liked' if flag else 'not'})"
            for title, flag in zip(titles, flags, strict=True)
        ]  # fmt: skip
        liked = bool(tested.labels[row])
        examples.append(
            {
                "user": str(dataset.users["user_id"][int(cases.users[row])]),
                "history": told,
                "target": [
                    f"{dataset.titles(cases.targets[row])[0]} ({'liked' if liked else 'not'})"
                ],
                "recommended": [f"score {tested.scores[row]:.3f}, the middle is {middle:.3f}"],
                "hit": bool((tested.scores[row] > middle) == liked),
            }
        )
    write_text(json.dumps(examples, indent=2, ensure_ascii=False) + "\n", folder / "examples.json")
