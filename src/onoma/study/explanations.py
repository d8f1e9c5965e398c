"""``onoma study explanations``: which method says best why a recommender answers as it does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.significance import bootstrap_ci, compare
from onoma.explanation import Attribution, build
from onoma.explanation.explain import check_method, default_method
from onoma.explanation.fidelity import LOWER, fidelity
from onoma.explanation.path import PathGradients
from onoma.explanation.spinrec import SPINRec
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender, Requests
from onoma.run import Run, open_run, run

LOG = " of log-probability"
METHODS = (
    "exact", "spinrec", "path", "gradient", "spinrec" + LOG, "path" + LOG, "leave-one-out", "lime",
    "shap", "cosine", "jaccard", "popularity", "random",
)  # fmt: skip
KEYS = ("del", "ins", "pos@10", "neg@10", "cdcg")
RIVALS = ("path", "cosine", "random")
_ABOUT = {
    "del": "probability left as top items go, less is better",
    "ins": "probability reached as top items come, more is better",
    "pos@10": "still in the first 10 as top items go, less is better",
    "neg@10": "still in the first 10 as bottom items go, more is better",
    "cdcg": "1 / log2(1 + rank) as top items go, less is better",
}


def explanations(
    data: str | None,
    out: str | Path,
    *,
    recipes: Sequence[str] = ("spinrec",),
    runs: Sequence[str | Path] = (),
    methods: Sequence[str] = METHODS,
    users: int = 200,
    seed: int = 0,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Explain the first recommendation of test users in several ways and take items away.

    Every figure is of one map of contributions a user and method, the same for all metrics.

    Args:
        data: what the recipes are run on; not needed for finished runs alone.
        out: a run directory a recipe, ``explanations.json`` and ``explanations.html``.
        recipes: fitted first, unless ``out`` holds the finished run.
        runs: finished runs that are studied too.
        methods: of ``METHODS``; those that cannot read a recommender are left out for it.
        users: test cases at most, drawn by seed.
        seed: of the cases and of what methods draw.
        overrides: ``key=value`` words for every recipe.
        quiet: no progress bars.
        tell: called with a line after each method.

    Returns:
        ``models``: by name, ``dataset``, ``users``, ``rows`` (one a method: ``figures`` with
        mean, low and high, ``seconds``) and ``acceptance`` where SPINRec was among the methods.

    Raises:
        OnomaError: an unknown method, or recipes without data.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise OnomaError(
            f"no method of explanation is called {unknown[0]!r}",
            where="study",
            fix=f"Known: {', '.join(METHODS)}",
        )
    if recipes and data is None:
        raise OnomaError("the recipes have no data", where="study", fix="Give --data DIR or --run")
    out = Path(out)
    studied: dict[str, Run] = {}
    for name in recipes:
        recipe = Recipe.load(name, list(overrides))
        studied[recipe.name] = run(recipe, data, out / recipe.name, quiet=quiet)
    for path in runs:
        studied[str(path)] = open_run(path)
    result: dict[str, Any] = {"seed": seed, "models": {}}
    for name, done in studied.items():
        result["models"][name] = _study(name, done, methods, users, seed, tell)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "explanations.json")
    write_text(_page(result), out / "explanations.html")
    return result


def _build(name: str, split: Split, seed: int) -> Attribution:
    if name == "path" + LOG:
        return PathGradients(of="log-probability")
    if name == "spinrec" + LOG:
        return SPINRec(split.train, seed=seed, of="log-probability")
    return build(name, split, seed)


def _readable(model: Recommender, attribution: Attribution) -> bool:
    try:
        check_method(model, attribution)
    except OnomaError:
        return False
    return True


def _study(
    name: str,
    done: Run,
    methods: Sequence[str],
    users: int,
    seed: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    split, model = done.split, done.recommender
    drawn = np.random.default_rng(seed).permutation(len(split.test))[:users]
    cases = split.test.take(np.sort(drawn))
    # The first answer is never an item of the history: seen items are masked.
    targets = model.recommend(Requests.of(cases), 1).items[:, 0]
    answered = np.flatnonzero(targets >= 0)
    history, targets = cases.history.take(answered), targets[answered]
    figures: dict[str, dict[str, NDArray[np.float64]]] = {}
    rows = []
    for method in methods:
        attribution = _build(method, split, seed)
        if not _readable(model, attribution):
            continue
        began = time.monotonic()
        contributions = attribution.attribute(model, history, targets)
        seconds = time.monotonic() - began
        figures[method] = fidelity(model, history, contributions, targets)
        row = {key: _interval(figures[method][key], seed) for key in KEYS}
        rows.append({"method": method, "figures": row, "seconds": round(seconds, 2)})
        tell(f"{name}, {method}: " + ", ".join(f"{k} {row[k]['mean']:.4f}" for k in KEYS))
    rows.sort(key=lambda row: row["figures"]["del"]["mean"])  # type: ignore[index]
    out: dict[str, Any] = {
        "dataset": done.metrics["dataset"],
        "recommender": model.name,
        "test": {key: done.metrics["test"][key] for key in ("recall@10", "ndcg@10")},
        "users": len(answered),
        "history": float(history.lengths.mean()) if len(answered) else 0.0,
        "default": default_method(model),
        "rows": rows,
    }
    named = ("spinrec", out["default"], *methods)  # ours, else the first that was asked for
    ours = next((word for word in named if word in figures), None)
    if ours is not None:
        out["against"] = {
            "method": ours,
            "rivals": {
                rival: {key: _paired(figures[rival][key], figures[ours][key]) for key in KEYS}
                for rival in RIVALS
                if rival in figures and rival != ours
            },
        }
    return out


def _interval(values: NDArray[np.float64], seed: int) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan")}
    low, high = bootstrap_ci(known, seed=seed)
    return {"mean": float(known.mean()), "low": float(low), "high": float(high)}


def _paired(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> dict[str, float]:
    both = np.isfinite(theirs) & np.isfinite(ours)
    found = compare(theirs[both], ours[both], samples=2_000)
    base = float(theirs[both].mean())
    relative = found.difference / base if base else float("nan")
    return {**found.as_dict(), "relative": relative}


def advice(about: Mapping[str, Any]) -> str:
    """What the figures of one model say, in a sentence or two."""
    if "against" not in about:
        return ""
    ours, rivals = about["against"]["method"], about["against"]["rivals"]
    words = []
    for rival, found in rivals.items():
        better = [
            key for key in KEYS
            if (found[key]["high"] < 0 if key.split("@")[0] in LOWER else found[key]["low"] > 0)
        ]  # fmt: skip
        worse = [
            key for key in KEYS
            if (found[key]["low"] > 0 if key.split("@")[0] in LOWER else found[key]["high"] < 0)
        ]  # fmt: skip
        said = f"{ours} against {rival}: del {found['del']['relative']:+.1%}"
        said += f"; better in {', '.join(better)}" if better else ""
        said += f"; worse in {', '.join(worse)}" if worse else ""
        words.append(said)
    return ". ".join(words) + ("." if words else "")


def _page(result: Mapping[str, Any]) -> str:
    from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table

    parts = []
    for name, about in result["models"].items():
        rows = about["rows"]
        dots = [
            Dot(row["method"], area["mean"], area["low"], area["high"],
                ours=row["method"] == about["default"])
            for row in rows
            for area in [row["figures"]["del"]]
        ]  # fmt: skip
        lines = [
            [row["method"],
             *(f"{f['mean']:.4f} ({f['low']:.4f} to {f['high']:.4f})"
               for f in (row["figures"][key] for key in KEYS)),
             number(row["seconds"], 1)]
            for row in rows
        ]  # fmt: skip
        note = (
            f"{about['recommender']} on {about['dataset']['name']} (hash "
            f"{about['dataset']['hash']}), first answer to {about['users']} test users with "
            f"{about['history']:.0f} items on average; areas under curves of 10 steps, deleted "
            "items stay masked, 95 % bootstrap intervals over users. "
            + "; ".join(f"{key}: {words}" for key, words in _ABOUT.items())
            + "."
        )
        parts.append(
            section(
                name,
                f'<div class="pair">{dot_chart("del: less is better", dots)}</div>',
                table(["method", *KEYS, "s"], lines),
                note=f"{advice(about)} {note}",
            )
        )
    return page("How faithful are the explanations?", "Items are taken away, and we look.", parts)
