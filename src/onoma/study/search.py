"""``onoma study search``: one model of two tasks beside a model of each, and what times tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged, Split
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.candidates import sampled
from onoma.evaluation.metrics import metrics
from onoma.evaluation.search import KEYS, search_cases
from onoma.evaluation.significance import bootstrap_ci, compare, holm
from onoma.recipe import Recipe
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval import searches
from onoma.recommenders.retrieval.synergen import SynerGen
from onoma.run import Run, build, run

JOINT, SHUFFLED = "joint", "times shuffled"
ARMS: dict[str, dict[str, Any]] = {
    JOINT: {},
    "recommendation alone": {"search": 0},
    "search alone": {"recommend": 0},
    "by order": {"positions": "order"},
    SHUFFLED: {},
}
TASKS = ("recommendation", "search")
# What the acceptance of S011 compares, in this order: the tested arm, its task, its yardstick.
PAIRS = (
    (JOINT, "recommendation", "recommendation alone"),
    (JOINT, "search", "search alone"),
    (JOINT, "recommendation", "by order"),
    (JOINT, "search", "by order"),
    (SHUFFLED, "recommendation", "by order"),
    (SHUFFLED, "search", "by order"),
)
CERTAIN = 0.05
LOSS, GAIN = 0.01, 0.03  # what the joint model may lose, and what it must gain on one task
_Figures = dict[str, NDArray[np.float64]]


def search(
    data: str,
    out: str | Path,
    *,
    recipe: str = "synergen",
    arms: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fit and measure the arms on both tasks: the whole catalogue is ranked, seen items masked.

    In the arm of shuffled times the gaps between purchases are dealt out anew over the whole log,
    in training and in what is asked, and every order stays. Finished runs below ``out`` are kept.

    Args:
        data: as for :func:`onoma.run.run`.
        out: one run directory an arm and seed, and ``search.json``, go here.
        recipe: of ``synergen``, packaged or a YAML path.
        arms: of :data:`ARMS`, the joint one among them.
        seeds: of all arms, and of the gaps.
        overrides: ``key=value`` words for all arms.
        quiet: no progress bars.
        tell: called with a line after each arm and seed.

    Returns:
        ``dataset``, ``protocol``, ``recipe``, ``seeds``, ``cases`` (of each task), ``test`` (in
        words), ``rows`` (``arm``, and of each task it was trained for ``hr``, ``mrr`` and ``ndcg``
        at 10, with ``low`` and ``high`` of the last), ``pairs`` (paired tests of NDCG@10: ``arm``,
        ``task``, ``against``, ``share`` of the yardstick's, ``p_holm``) and ``acceptance``.

    Raises:
        OnomaError: another recipe, an unknown arm, or data of which no searches can be made.
    """
    whole = Recipe.load(recipe, list(overrides))
    if whole.recommender["name"] != SynerGen.name:
        raise OnomaError(
            f"{whole.recommender['name']} has not the two tasks", where="study search",
            fix=f"Use a recipe of {SynerGen.name}",
        )  # fmt: skip
    if unknown := set(arms) - set(ARMS):
        raise OnomaError(
            f"no arm is called {min(unknown)!r}", where="study search",
            fix=f"Known: {', '.join(ARMS)}",
        )  # fmt: skip
    if JOINT not in arms:
        raise OnomaError(
            f"the arm {JOINT!r} is left out", where="study search", fix=f"Add --arm {JOINT}"
        )
    out = Path(out)
    done: dict[str, dict[str, list[_Figures]]] = {}
    about: dict[str, Any] = {}
    for seed in seeds:
        joint: Run | None = None
        for arm in (arm for arm in ARMS if arm in arms):
            raw = whole.model_dump(mode="json", exclude={"published", "system", "about"})
            raw["recommender"] = settings = {**whole.recommender, **ARMS[arm]}
            raw |= {"name": f"{whole.name}-{arm.replace(' ', '-')}", "seed": seed}
            made, folder = Recipe.check(raw, arm), out / arm.replace(" ", "-") / f"seed{seed}"
            model: Any
            if arm == SHUFFLED and joint is not None:
                parts = dealt(joint.split, seed)
                model = _shuffled(made, folder, parts, quiet)
            else:
                finished = run(made, data, folder, quiet=quiet)
                joint = joint or finished
                parts, model = finished.split, finished.recommender
                about = about or {key: finished.metrics[key] for key in ("dataset", "protocol")}
            found = figures(model, sampled(parts.test, made.evaluate.cases), settings)
            for task, figure in found.items():
                done.setdefault(arm, {}).setdefault(task, []).append(figure)
            told = [f"{task} {figure['ndcg'].mean():.4f}" for task, figure in found.items()]
            tell(f"{arm}, seed {seed}: ndcg@10 of {', '.join(told)}")
    result = {**about, "recipe": whole.name, "seeds": list(seeds), **summary(done)}
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "search.json")
    return result


def _shuffled(recipe: Recipe, folder: Path, parts: Split, quiet: bool) -> SynerGen:
    """The model of a recipe fitted on a split that no recipe names; kept like a run."""
    model = build(recipe, folder, quiet)
    assert isinstance(model, SynerGen)
    if (folder / "model.json").is_file():
        kept = SynerGen.load(folder, parts.dataset)
        if kept._describe() == model._describe():
            return kept
    model.fit(parts).save(folder)
    return model


def figures(model: Any, cases: Cases, settings: dict[str, Any]) -> dict[str, _Figures]:
    """float64[n] of each of :data:`KEYS` for each task that the settings train."""
    out: dict[str, _Figures] = {}
    if settings.get("recommend", 1):
        found = metrics(model.recommend(Requests.of(cases), 10).items, cases.targets, (10,))
        names = zip(KEYS, ("recall@10", "mrr@10", "ndcg@10"), strict=True)
        out[TASKS[0]] = {key: found[name] for key, name in names}
    if settings.get("search", 1):
        queried = searches.asked_for(cases, model.queries)
        if not len(queried):
            raise OnomaError("no test case has a query", where="study search")
        out[TASKS[1]] = search_cases(model, queried)
    return out


def dealt(split: Split, seed: int) -> Split:
    """The same purchases in the same order, with gaps between them drawn from the whole log.

    The first moment of a user stays. The gap at a place of a user is the same in training and in
    what is asked.
    """
    offsets = np.concatenate([[0], np.cumsum(_longest(split))])
    gaps = np.diff(split.train_times, prepend=0)
    inside = np.ones(len(gaps), dtype=bool)
    inside[split.train.offsets[:-1][split.train.lengths > 0]] = False
    known = inside & (split.train_times >= 0)
    pool = np.maximum(gaps[known], 0) if known.any() else np.zeros(1, dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(pool, int(offsets[-1]))

    def moved(history: Ragged, users: NDArray[np.integer], times: NDArray[np.integer]) -> Ragged:
        lengths = history.lengths
        place = np.arange(len(times)) - np.repeat(history.offsets[:-1], lengths)
        first = np.repeat(times[np.minimum(history.offsets[:-1], len(times) - 1)], lengths)
        step = np.where(place > 0, drawn[np.repeat(offsets[users], lengths) + place], 0)
        total = np.cumsum(step)
        since = total - np.repeat(total[np.minimum(history.offsets[:-1], len(total) - 1)], lengths)
        return Ragged(history.offsets, np.where(times < 0, -1, first + since))

    def cases(told: Cases) -> Cases:
        if told.times is None:
            return told
        return replace(told, times=moved(told.history, told.users, told.times.values))

    everybody = np.arange(len(split.train))
    times = moved(split.train, everybody, split.train_times).values.astype(np.int64)
    return replace(split, train_times=times, valid=cases(split.valid), test=cases(split.test))


def _longest(split: Split) -> NDArray[np.int64]:
    """int64[n_users], purchases of a user at most."""
    out = split.train.lengths.copy()
    for part in (split.valid, split.test):
        np.maximum.at(out, part.users, part.history.lengths)
    return out


def summary(done: dict[str, dict[str, list[_Figures]]]) -> dict[str, Any]:
    """``cases``, ``test``, ``rows``, ``pairs`` and ``acceptance`` of :func:`search`.

    Args:
        done: of each arm and task the figures of each seed.
    """
    means = {
        arm: {
            task: {key: np.mean([one[key] for one in seeds], axis=0) for key in KEYS}
            for task, seeds in tasks.items()
        }
        for arm, tasks in done.items()
    }
    rows = [
        {"arm": arm, **{task: _told(figure) for task, figure in tasks.items()}}
        for arm, tasks in means.items()
    ]
    pairs: list[dict[str, Any]] = []
    for arm, task, against in PAIRS:
        if task not in means.get(arm, {}) or task not in means.get(against, {}):
            continue
        base, ours = means[against][task]["ndcg"], means[arm][task]["ndcg"]
        share = float(ours.mean() / base.mean() - 1) if base.any() else 0.0
        told: dict[str, Any] = {"arm": arm, "task": task, "against": against, "share": share}
        pairs.append(told | compare(base, ours).as_dict())
    for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = p
    counts = {task: len(means[arm][task]["ndcg"]) for arm in means for task in means[arm]}
    return {
        "cases": counts,
        "test": "each case's mean over the seeds, paired: bootstrap interval, two-sided sign-flip "
        "permutation test, Holm's correction over the pairs",
        "rows": rows,
        "pairs": pairs,
        "acceptance": _acceptance({(p["arm"], p["task"], p["against"]): p for p in pairs}),
    }


def _told(figure: _Figures) -> dict[str, float]:
    low, high = bootstrap_ci(figure["ndcg"])
    means = {key: float(value.mean()) for key, value in figure.items()}
    return {**means, "low": float(low), "high": float(high)}


def _acceptance(pairs: dict[tuple[str, str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    single = [pairs.get(pair) for pair in PAIRS[:2]]
    timed, shuffled = ([pairs.get(pair) for pair in part] for part in (PAIRS[2:4], PAIRS[4:]))
    out = []
    if all(single):
        shares = [pair["share"] for pair in single if pair]
        out.append(
            {
                "system": "S011",
                "asked": "joint within -1 % of the single-task models on both tasks, and at least "
                "3 % NDCG@10 above on one",
                "measured": ", ".join(
                    f"{task} {share:+.1%}" for task, share in zip(TASKS, shares, strict=True)
                ),
                "holds": min(shares) >= -LOSS and max(shares) >= GAIN,
            }
        )
    if all(timed) and all(shuffled):
        told = [
            f"{task} {by['share']:+.1%} (p {by['p_holm']:.3f}), shuffled {no['share']:+.1%}"
            for task, by, no in zip(TASKS, timed, shuffled, strict=True)
            if by and no
        ]
        # On a task where times change something, shuffled ones leave less than half of it.
        gone = [
            abs(no["difference"]) < abs(by["difference"]) / 2
            for by, no in zip(timed, shuffled, strict=True)
            if by and no and by["p_holm"] < CERTAIN
        ]
        out.append(
            {
                "system": "S011",
                "asked": "positions by time change NDCG@10, and shuffled times take the change "
                "away",
                "measured": "; ".join(told),
                "holds": bool(gone) and all(gone),
            }
        )
    return out
