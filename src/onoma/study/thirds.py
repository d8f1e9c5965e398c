"""``onoma study thirds``: is a system good on rare targets, on frequent ones, or on both?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import write_text
from onoma.evaluation.cases import read_cases, write_cases
from onoma.evaluation.evaluate import evaluate
from onoma.evaluation.significance import bootstrap_ci, compare, holm
from onoma.evaluation.slices import first_targets
from onoma.recipe import Recipe
from onoma.recommenders.bridged.allmrec import ALLMRec
from onoma.run import Run, asked, run

KEY = "recall@1"  # Hit@1: a case has one target
THIRDS = ("coldest", "middle", "warmest")
SLACK = 0.01  # how far below the better parent S105 may be
SEQUENCE, TITLES = "sasrec", "titles alone"


@dataclass(frozen=True)
class Arm:
    """One row of the table: a recommender in one of its modes.

    Attributes:
        recommender: the settings of a recipe.
        mode: how it answers.
        parent: whether it is what the system is measured against.
        folder: of its run, shared by the modes of one.
    """

    recommender: dict[str, Any]
    mode: str
    parent: bool
    folder: str


def thirds(
    data: str,
    out: str | Path,
    *,
    recipe: str = "a-llmrec",
    beside: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Hit@1 of a system and its parents by how often the target was taken in training.

    The distinct targets of the test cases are put in order of their training counts and cut in
    three; items of equal count stay together. ``a-llmrec`` brings its parents along: the SASRec
    that all its arms share, and its language model that reads titles alone. Finished runs and
    their figures below ``out`` are kept.

    Args:
        data: as for :func:`onoma.run.run`.
        out: one run directory an arm and seed, and ``thirds.json``, go here.
        recipe: packaged name or YAML path; its ``evaluate`` holds for all arms.
        beside: recipes that it is measured against as well.
        seeds: of all arms.
        overrides: ``key=value`` words for ``recipe``.
        quiet: no progress bars.
        tell: called with a line after each arm and seed.

    Returns:
        ``dataset``, ``protocol``, ``seeds``, ``edges`` (largest training count of the coldest and
        of the middle third), ``cases`` (of ``all`` and of each third), ``rows``: an arm each with
        ``arm``, ``parent``, and of ``all`` and each third ``mean``, ``low``, ``high`` and, where it
        is no parent, ``against`` (by parent the paired test, ``p_holm`` over the tests of the arm).
        ``acceptance``: what S105 asks, of each arm that is no parent and asks the language model.

    Raises:
        OnomaError: bad data or recipes.
    """
    out = Path(out)
    whole = Recipe.load(recipe, list(overrides))
    done: dict[str, list[NDArray[np.float64]]] = {}
    about: dict[str, Any] = {}
    parts: dict[str, NDArray[np.bool_]] = {}
    parents: list[str] = []
    for seed in seeds:
        for name, arm in _arms(whole, beside, out, seed).items():
            raw = whole.model_dump(mode="json", exclude={"published", "system", "about"})
            raw |= {"recommender": arm.recommender, "seed": seed, "name": arm.folder}
            if arm.recommender["name"] == ALLMRec.name:
                # The modes that ask are measured here, all at the price of one.
                raw["evaluate"] = {**raw["evaluate"], "modes": ["joint"]}
            finished = run(
                Recipe.check(raw, name), data, out / arm.folder / f"seed{seed}", quiet=quiet
            )
            if not about:
                about = {key: finished.metrics[key] for key in ("dataset", "protocol")}
                parts, about["edges"] = split_by_count(finished)
            done.setdefault(name, []).append(_figures(finished, arm.mode))
            parents += [name] if arm.parent and name not in parents else []
            tell(f"{name}, seed {seed}: {KEY} {done[name][-1].mean():.4f}")
    cases = {name: np.mean(figures, axis=0) for name, figures in done.items()}
    rows = compared(cases, parts, parents)
    result = {
        **about,
        "recipe": whole.name,
        "seeds": list(seeds),
        "cases": {name: int(rows_.sum()) for name, rows_ in parts.items()},
        "test": "each case's mean over the seeds, paired with each parent's: bootstrap interval, "
        "two-sided sign-flip permutation test, Holm's correction over the tests of an arm",
        "rows": rows,
        "acceptance": _acceptance(rows, parents) if len(parents) > 1 else [],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "thirds.json")
    return result


def split_by_count(done: Run) -> tuple[dict[str, NDArray[np.bool_]], list[int]]:
    """Which cases are in which third: bool[cases] of ``all`` and each, and the two edges."""
    cases, _ = asked(done.recipe, done.split)
    targets = first_targets(cases)
    counts = done.split.train_counts
    ordered = np.sort(counts[np.unique(targets)])
    edges = [int(ordered[max(0, len(ordered) * part // 3 - 1)]) for part in (1, 2)]
    of = counts[targets]
    cuts = (of <= edges[0], (of > edges[0]) & (of <= edges[1]), of > edges[1])
    return {"all": np.ones(len(of), dtype=bool), **dict(zip(THIRDS, cuts, strict=True))}, edges


def compared(
    cases: Mapping[str, NDArray[np.float64]],
    parts: Mapping[str, NDArray[np.bool_]],
    parents: Sequence[str],
) -> list[dict[str, Any]]:
    """``rows`` of :func:`thirds`.

    Args:
        cases: figures of each arm, one a case.
        parts: the cases of each part; empty ones are left out.
        parents: arms that the others are tested against.
    """
    rows = []
    for name, figures in cases.items():
        row: dict[str, Any] = {"arm": name, "parent": name in parents}
        tests = []
        for part, inside in parts.items():
            if not inside.any():
                continue
            low, high = map(float, bootstrap_ci(figures[inside]))
            row[part] = {"mean": float(figures[inside].mean()), "low": low, "high": high}
            if name not in parents:
                row[part]["against"] = {
                    parent: compare(cases[parent][inside], figures[inside]).as_dict()
                    for parent in parents
                }
                tests += list(row[part]["against"].values())
        for test, p in zip(tests, holm([one["p"] for one in tests]), strict=True):
            test["p_holm"] = p
        rows.append(row)
    return rows


def _arms(whole: Recipe, beside: Sequence[str], out: Path, seed: int) -> dict[str, Arm]:
    made: dict[str, Arm] = {}
    settings = dict(whole.recommender)
    if settings["name"] == ALLMRec.name:
        if isinstance(given := settings.get("sequence", {}), dict):
            made[SEQUENCE] = Arm({"name": "sasrec", **given}, "rank", True, "sasrec")
            # Fitted once: both others stand on the very same one.
            settings["sequence"] = str((out / "sasrec" / f"seed{seed}").resolve())
        # Nothing of it is chosen on validation, so one case will do there; nor does the first
        # stage speak where all candidates are told.
        alone = {**settings, "soft": False, "checked": 1}
        short = whole.evaluate.candidates
        if short is not None and short.negatives < settings.get("shortlist", 20):
            alone["align"] = {"epochs": 1}
        made[TITLES] = Arm(alone, "rank", True, "titles")
    for name in beside:
        other = Recipe.load(name)
        made[other.name] = Arm(dict(other.recommender), _mode(other), True, other.name)
    if settings["name"] == ALLMRec.name:
        for mode in ALLMRec.modes:
            name = whole.name if mode == "rank" else f"{whole.name}, {mode}"
            made[name] = Arm(settings, mode, False, whole.name)
    else:
        made[whole.name] = Arm(settings, _mode(whole), False, whole.name)
    return made


def _mode(recipe: Recipe) -> str:
    from onoma.recommenders.registry import recommender

    cls = recommender(str(recipe.recommender["name"]))
    return cls.modes[0] if recipe.evaluate.modes is None else recipe.evaluate.modes[0]


def _figures(done: Run, mode: str) -> NDArray[np.float64]:
    """float64[cases], kept beside the run."""
    folder = done.path / f"mode-{mode}"
    if (kept := read_cases(folder)) is not None:
        return kept[KEY].astype(np.float64)
    cases, lists = asked(done.recipe, done.split)
    about = done.recipe.evaluate
    ks = tuple({1, *about.ks})
    tested = evaluate(
        done.recommender, cases, done.split, ks=ks, mask_seen=about.mask_seen, mode=mode,
        candidates=lists,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_cases(tested, folder)
    return _figures(done, mode)  # as they are kept, rounded


def _acceptance(rows: Sequence[dict[str, Any]], parents: Sequence[str]) -> list[dict[str, Any]]:
    by_arm = {row["arm"]: row for row in rows}
    out = []
    for row in rows:
        if row["parent"] or row["arm"].endswith(", joint"):  # the first stage asks nobody
            continue
        found = {
            part: (row[part]["mean"], max(by_arm[parent][part]["mean"] for parent in parents))
            for part in THIRDS
            if part in row
        }
        ends = [found[part] for part in (THIRDS[0], THIRDS[-1]) if part in found]
        told = "; ".join(f"{part} {ours:.3f} to {best:.3f}" for part, (ours, best) in found.items())
        out += [
            {
                "system": "S105",
                "asked": f"{row['arm']}: Hit@1 on the coldest and on the warmest third at most "
                f"{SLACK} below the better parent",
                "measured": told,
                "holds": all(ours >= best - SLACK for ours, best in ends),
            },
            {
                "system": "S105",
                "asked": f"{row['arm']}: above both parents on at least one third",
                "measured": told,
                "holds": any(ours > best for ours, best in found.values()),
            },
        ]
    return out
