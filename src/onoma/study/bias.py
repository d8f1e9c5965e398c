"""``onoma study bias``: do rankers go by the place, by fame, by the order of the history?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.dataset.files import write_text
from onoma.evaluation import probes
from onoma.evaluation.candidates import sampled, short_lists
from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table
from onoma.evaluation.significance import holm
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.language.base import ModelSpec, Prompted
from onoma.recommenders.registry import recommender as recommender_class
from onoma.run import build, cut, load_data

RECIPES = ("listwise-llm", "popular")
PROBES = ("position", "popularity", "history")


def bias(
    data: str,
    out: str | Path,
    *,
    recipes: Sequence[str] = RECIPES,
    model: ModelSpec | None = None,
    cases: int = 30,
    candidates: int = 5,
    seed: int = 0,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fit recipes and put the three probes of :mod:`onoma.evaluation.probes` to them.

    Places and histories are probed on a target among drawn items, fame on drawn items alone.

    Args:
        data: as for :func:`onoma.run.run`.
        out: ``bias.json`` and ``bias.html`` go here, and what long fits keep.
        recipes: packaged names or YAML paths.
        model: of the recipes that ask a language model, in place of theirs.
        cases: test cases at most.
        candidates: of each case.
        seed: of cases, candidates and probes.
        overrides: ``key=value`` words for every recipe.
        quiet: no progress bars.
        tell: called with a line after each recipe.

    Returns:
        ``dataset``, ``cases``, ``candidates``, ``level`` and ``rows``: a recipe and probe each,
        with ``recipe``, the fields of :class:`onoma.evaluation.probes.Finding`, ``p_holm`` over the
        probes of the recipe and ``found``.

    Raises:
        OnomaError: bad data or recipes.
    """
    out = Path(out)
    rows: list[dict[str, Any]] = []
    about: dict[str, object] = {}
    asked = [_recipe(name, data, model, overrides) for name in recipes]
    for recipe in asked:
        build(recipe)  # settings are checked before anything is fitted
    cuts = [cut(recipe, load_data(recipe)) for recipe in asked]
    for recipe, parts in zip(asked, cuts, strict=True):
        about = about or parts.describe()
        fitted = build(recipe, out / recipe.name, quiet).fit(parts)
        found = probed(fitted, parts, cases, candidates, seed)
        corrected = holm([one.p for one in found])
        for one, p in zip(found, corrected, strict=True):
            rows.append({"recipe": recipe.name, **one.as_dict(), "p_holm": p,
                         "found": p < probes.CERTAIN})  # fmt: skip
        words = ", ".join(f"{row['probe']} {row['value']:.3f}{'*' * row['found']}"
                          for row in rows[-len(found):])  # fmt: skip
        tell(f"{recipe.name}: {words}")
    result = {
        "dataset": about, "cases": cases, "candidates": candidates, "seed": seed,
        "level": probes.CERTAIN, "rows": rows,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "bias.json")
    write_text(_page(result), out / "bias.html")
    return result


def probed(
    model: Recommender, parts: Split, cases: int, candidates: int, seed: int
) -> list[probes.Finding]:
    """The three findings on one fitted recommender."""
    asked = sampled(parts.test, cases, seed)
    # A target that was taken before would be masked; its case has no whole list.
    fresh = [
        len(asked.targets[row]) == 1 and asked.targets[row][0] not in asked.history[row]
        for row in range(len(asked))
    ]
    asked = asked.take(np.flatnonzero(fresh))
    lists = short_lists(asked, parts, candidates - 1, seed=seed)
    requests = replace(Requests.of(asked), candidates=lists)
    unknown = replace(requests, candidates=_without(asked.targets.values, asked, parts, candidates,
                                                    seed))  # fmt: skip
    return [
        probes.position(model, requests, seed=seed),
        probes.popularity(model, unknown, parts.train_counts, seed=seed),
        probes.history(model, requests, seed=seed),
    ]


def _without(
    targets: NDArray[np.integer], asked: Any, parts: Split, candidates: int, seed: int
) -> NDArray[np.int32]:
    """int32[n, c], drawn items without the target."""
    more = short_lists(asked, parts, candidates, seed=seed + 1)
    return np.stack([row[row != target] for row, target in zip(more, targets, strict=True)])


def _recipe(name: str, data: str, model: ModelSpec | None, overrides: Sequence[str]) -> Recipe:
    raw = Recipe.load(name, list(overrides)).model_dump(mode="json")
    raw["data"]["path"] = data if data.startswith("packaged:") else str(Path(data).resolve())
    if model is not None:
        stages = raw["recommender"].get("stages") or [raw["recommender"]]
        for stage in stages:
            if issubclass(recommender_class(stage["name"]), Prompted):
                stage["model"] = model
    return Recipe.check(raw, name)


def _page(result: dict[str, Any]) -> str:
    about, rows = result["dataset"], result["rows"]
    head = ["", "measured", "by chance", "95 % interval", "p (Holm)", "found"]
    parts = []
    for probe in PROBES:
        own = [row for row in rows if row["probe"] == probe]
        if not own:
            continue
        lines = [
            [row["recipe"], number(row["value"]), number(row["chance"]),
             f"{number(row['low'])} to {number(row['high'])}", number(row["p_holm"]),
             "yes" if row["found"] else "no"]
            for row in own
        ]  # fmt: skip
        dots = [Dot(row["recipe"], row["value"], row["low"], row["high"], row["found"])
                for row in own]  # fmt: skip
        parts.append(section(probe.capitalize(), dot_chart(own[0]["measured"], dots),
                             table(head, lines), note=own[0]["measured"]))  # fmt: skip
    return page(
        f"Biases on {about['name']}",
        f"{result['cases']} test cases of {result['candidates']} candidates, seed "
        f"{result['seed']}; found: p below {result['level']} after Holm's correction over the "
        "probes of a recipe",
        parts,
    )
