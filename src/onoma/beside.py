"""Other recipes that are fitted and measured beside one, on its split and its questions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.evaluation.evaluate import Evaluation, evaluate
from onoma.evaluation.significance import compare
from onoma.recipe import Recipe
from onoma.run import Run, recorded, run, run_folder

_SHOTS = "shots"  # questions that a row beside learns from as well, the very same ones


def beside(
    folder: Path,
    recipe: Recipe,
    parts: Split,
    tested: Evaluation,
    lists: NDArray[np.int32] | None,
) -> dict[str, Any]:
    """The figures of other recipes on the same cases, each with the paired test against ours."""
    out: dict[str, Any] = {}
    for name in recipe.evaluate.beside:
        done = other(folder, recipe, parts, name)
        found = evaluate(
            done.recommender, tested.cases, parts, ks=tested.ks, mask_seen=tested.mask_seen,
            candidates=lists, mode=(done.recipe.evaluate.modes or (None,))[0],
        )  # fmt: skip
        key = f"ndcg@{max((k for k in tested.ks if k <= 10), default=tested.ks[0])}"
        paired = compare(found.metrics[key], tested.metrics[key]).as_dict()
        out[name] = {**found.summary(), "paired": {"metric": key, **paired}}
    return out


def other(folder: Path, recipe: Recipe, parts: Split, name: str) -> Run:
    """The run of another recipe on a recipe's data, split and questions.

    It is an ordinary run next to this one's folder, made when it is not there yet or the data has
    changed.
    """
    theirs, place = placed(folder, recipe, parts, name)
    changed = not parts.dataset.same(recorded(place, theirs))
    return run(theirs, None, place, fresh=changed, quiet=True)


def placed(folder: Path, recipe: Recipe, parts: Split, name: str) -> tuple[Recipe, Path]:
    """Another recipe as it runs beside this one, and where.

    One of the same recommender depends on this recipe, and one that learns from as many questions
    takes over how many, so their folders say on which.
    """
    raw = Recipe.load(name).model_dump(mode="json")
    raw |= {"data": recipe.data.model_dump(mode="json"), "seed": recipe.seed}
    mark, own = "", raw["recommender"]
    if own["name"] == recipe.recommender["name"]:
        raw["recommender"] = _over(recipe.recommender, own)
    elif _SHOTS in own and recipe.recommender.get(_SHOTS, 0) != 0:  # none teach nobody
        raw["recommender"] = {**own, _SHOTS: recipe.recommender[_SHOTS]}
    if raw["recommender"] != own:
        text = json.dumps(raw["recommender"], sort_keys=True, default=str)
        mark = "-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    raw["evaluate"]["query"] = recipe.evaluate.query
    if parts.test.labels is not None:
        raw["evaluate"]["cases"] = recipe.evaluate.cases
    theirs = Recipe.check(raw, name)
    return theirs, folder.parent / f"{run_folder(theirs, parts.dataset).name}{mark}"


def _over(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings with theirs in the place of equal names, at any depth."""
    out = {**ours}
    for key, value in theirs.items():
        both = isinstance(value, Mapping) and isinstance(ours.get(key), Mapping)
        out[key] = _over(ours[key], value) if both else value
    return out
