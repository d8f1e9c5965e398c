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
from onoma.evaluation.significance import bootstrap_ci, compare, share
from onoma.explanation import Attribution, build
from onoma.explanation.explain import check_method, default_method
from onoma.explanation.fidelity import LOWER, fidelity
from onoma.explanation.path import PathGradients
from onoma.explanation.spinrec import SPINRec
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender, Requests
from onoma.run import Run, open_run, run
from onoma.run import build as build_recommender

LOG = " of log-probability"
METHODS = (
    "exact", "spinrec", "path", "gradient", "spinrec" + LOG, "path" + LOG, "leave-one-out", "lime",
    "shap", "cosine", "jaccard", "popularity", "random",
)  # fmt: skip
KEYS = ("del", "ins", "pos@10", "neg@10", "cdcg")
RIVALS = ("path", "cosine", "random")
BELOW = 0.05  # of the acceptance lines
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
        mean, low and high, NaN where no score is positive; ``seconds``), best first, ``against``
        (the paired tests of one ``method`` with its ``rivals``, of the figures both have) and
        ``acceptance`` where SPINRec was among the methods.

    Raises:
        OnomaError: an unknown method, recipes without data, or a run that cannot be opened.
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
    asked = [Recipe.load(name, list(overrides)) for name in recipes]
    for recipe in asked:
        build_recommender(recipe)  # settings are checked before anything is fitted
    opened = {str(path): _opened(path) for path in runs}
    for recipe in asked:
        studied[recipe.name] = run(recipe, data, out / recipe.name, quiet=quiet)
    studied |= opened
    result: dict[str, Any] = {"seed": seed, "models": {}}
    for name, done in studied.items():
        result["models"][name] = _study(name, done, methods, users, seed, tell)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "explanations.json")
    write_text(_page(result), out / "explanations.html")
    return result


def _opened(path: str | Path) -> Run:
    """A finished run whose data and weights are there."""
    done = open_run(path)
    _ = done.split, done.recommender  # kept by the run
    return done


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
    rows: list[dict[str, Any]] = []
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
    first = _first(rows)
    rows.sort(key=lambda row: row["figures"][first]["mean"])
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
                rival: _against(figures[rival], figures[ours])
                for rival in RIVALS
                if rival in figures and rival != ours
            },
        }
    if "spinrec" in figures:
        out["acceptance"] = acceptance(out["against"]["rivals"])
    return out


def _first(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figure that methods are put in order by: the first that is known, less is better."""
    known = [key for key in ("del", "pos@10")
             if all(np.isfinite(row["figures"][key]["mean"]) for row in rows)]  # fmt: skip
    return known[0] if known else "del"


def _interval(values: NDArray[np.float64], seed: int) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan")}
    low, high = bootstrap_ci(known, seed=seed)
    return {"mean": float(known.mean()), "low": float(low), "high": float(high)}


def _against(
    theirs: Mapping[str, NDArray[np.float64]], ours: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, Any]]:
    """The paired tests of the figures that some user has of both."""
    out = {}
    for key in KEYS:
        both = np.isfinite(theirs[key]) & np.isfinite(ours[key])
        if both.any():
            base = theirs[key][both]
            found = compare(base, ours[key][both], samples=2_000)
            out[key] = {**found.as_dict(), "relative": share(found.difference, base)}
    return out


def acceptance(rivals: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What S114 asks, beside what was measured; None where a rival or a figure is missing.

    Args:
        rivals: of ``against`` where the method is ``spinrec``.
    """
    rows: list[dict[str, Any]] = []

    def put(asked: str, rival: str, key: str, below: float | None = None) -> None:
        found = rivals.get(rival, {}).get(key)
        row: dict[str, Any] = {"system": "S114", "asked": asked, "measured": "", "holds": None}
        if found is not None:
            moved, relative = found["difference"], found["relative"]
            row["measured"] = f"{moved:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"
            row["measured"] += "" if relative is None else f", {relative:+.1%}"
            row["holds"] = bool(
                moved >= 0 if below is None
                else moved < 0 and relative is not None and relative <= -below
            )  # fmt: skip
        rows.append(row)

    put(f"del of SPINRec at least {BELOW:.0%} below the path from zero", "path", "del", BELOW)
    put(f"del at least {BELOW:.0%} below cosine similarity", "cosine", "del", BELOW)
    put("neg@10 not worse than the path from zero", "path", "neg@10")
    put("ins not worse than the path from zero", "path", "ins")
    return rows


def advice(about: Mapping[str, Any]) -> str:
    """What the figures of one model say, in a sentence or two."""
    if "against" not in about:
        return ""
    ours, rivals = about["against"]["method"], about["against"]["rivals"]
    words = []
    for rival, found in rivals.items():
        better = [
            key for key in found
            if (found[key]["high"] < 0 if key.split("@")[0] in LOWER else found[key]["low"] > 0)
        ]  # fmt: skip
        worse = [
            key for key in found
            if (found[key]["low"] > 0 if key.split("@")[0] in LOWER else found[key]["high"] < 0)
        ]  # fmt: skip
        left = found.get("del", {}).get("relative")
        said = [] if left is None else [f"del {left:+.1%}"]
        said += [f"better in {', '.join(better)}"] if better else []
        said += [f"worse in {', '.join(worse)}"] if worse else []
        words.append(f"{ours} against {rival}: {'; '.join(said) or 'neither is better'}")
    return ". ".join(words) + ("." if words else "")


def _page(result: Mapping[str, Any]) -> str:
    from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table

    parts = []
    for name, about in result["models"].items():
        rows, first = about["rows"], _first(about["rows"])
        dots = [
            Dot(row["method"], area["mean"], area["low"], area["high"],
                ours=row["method"] == about["default"])
            for row in rows
            for area in [row["figures"][first]]
            if np.isfinite(area["mean"])
        ]  # fmt: skip
        lines = [
            [row["method"],
             *(f"{f['mean']:.4f} ({f['low']:.4f} to {f['high']:.4f})"
               if np.isfinite(f["mean"]) else number(None)
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
        asked = [
            [f"{row['system']}: {row['asked']}", row["measured"],
             {True: "yes", False: "no", None: "–"}[row["holds"]]]
            for row in about.get("acceptance", [])
        ]  # fmt: skip
        parts.append(
            section(
                name,
                f'<div class="pair">{dot_chart(f"{first}: less is better", dots)}</div>',
                table(["method", *KEYS, "s"], lines),
                table(["", "measured", "holds"], asked),
                note=f"{advice(about)} {note}",
            )
        )
    return page("How faithful are the explanations?", "Items are taken away, and we look.", parts)
