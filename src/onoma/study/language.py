"""``onoma study language``: does a system gain from its texts, or from having more inputs?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.cases import read_cases
from onoma.evaluation.significance import compare, holm, seeds_ci, share
from onoma.evaluation.slices import first_targets
from onoma.recipe import Recipe
from onoma.run import Run, asked, run

KEYS = ("ndcg@10", "recall@20")
SCARCE = {"rare": KEYS[0], "few": KEYS[1]}  # parts of the cases and what is measured on them
CERTAIN = 0.05
RARE = 0.25  # share of the catalogue that is called rare
FEW = 5  # interactions in training, at most, of what is called an item of few
WITHOUT, WITH = "without", "with"
TRUNK = (
    "width", "blocks", "heads", "length", "dropout", "input_dropout", "scale", "loss", "negatives"
)  # fmt: skip
GRAPH = ("width", "layers", "loss", "negatives", "temperature", "batch")
Arm = Callable[[dict[str, Any], int], dict[str, Any]]


def language(
    data: str,
    out: str | Path,
    *,
    recipe: str,
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run a system, its backbone without the texts, and its controls with texts dealt out anew.

    The backbone has the system's own sizes, loss and schedule. A control is the system itself,
    unchanged, on texts that belong to other items (or users); a system that owes its gain to
    language beats the backbone where the control does not. Finished runs below ``out`` are kept.

    Args:
        data: as for :func:`onoma.run.run`.
        out: one run directory an arm and seed, and ``language.json``, go here.
        recipe: of a system of :data:`ARMS`, packaged or a YAML path.
        seeds: of all arms; a control's deal has the seed, too.
        overrides: ``key=value`` words for the recipe; the backbone follows them.
        quiet: no progress bars.
        tell: called with a line after each run.

    Returns:
        ``dataset``, ``protocol``, ``recipe``, ``seeds``, ``cases`` (how many are measured),
        ``test`` (in words), ``scarce`` (``rare``, targets among the rarest quarter of the items,
        and ``few``, targets of at most five interactions: ``most`` interactions in training, the
        share of ``items`` that have no more, ``cases``), ``rows`` (``arm``, for each of
        :data:`KEYS` ``mean``, ``low``, ``high`` and, but for the backbone, its paired test
        ``against`` it with Holm's correction over the arms; the same of NDCG@10 on ``rare`` and of
        recall@20 on ``few``; of click rankers ``auc`` and ``logloss`` of each seed and
        ``auc_gain`` over the backbone's; ``seconds``, ``parameters``), and ``verdict``: of each key
        ``gains`` (arm to whether it is above the backbone) and ``holds`` (the system gains and no
        control does).

    Raises:
        OnomaError: a recipe of no such system, or one that leaves out a cut-off of :data:`KEYS`.
    """
    whole = Recipe.load(recipe, list(overrides))
    name = str(whole.recommender["name"])
    if name not in ARMS:
        raise OnomaError(
            f"{name} has no arms with and without texts", where="study language",
            fix=f"Use a recipe of {', '.join(ARMS)}",
        )  # fmt: skip
    cuts = {int(key.split("@")[1]) for key in KEYS}
    if not cuts <= set(whole.evaluate.ks):
        raise OnomaError(
            f"the study compares {' and '.join(KEYS)}", where="evaluate.ks",
            fix=f"Let it name {' and '.join(map(str, sorted(cuts)))}",
        )  # fmt: skip
    out = Path(out)
    done: dict[str, list[Run]] = {}
    for seed in seeds:
        for arm, make in ARMS[name].items():
            raw = whole.model_dump(mode="json", exclude={"published", "system", "about"})
            raw["recommender"] = made = make(dict(whole.recommender), seed)
            raw |= {"name": made["name"] if arm == WITHOUT else f"{whole.name}-{arm}", "seed": seed}
            finished = run(Recipe.check(raw, arm), data, out / arm / f"seed{seed}", quiet=quiet)
            done.setdefault(arm, []).append(finished)
            figures = ", ".join(f"{key} {finished.metrics['test'][key]:.4f}" for key in KEYS)
            tell(f"{arm}, seed {seed}: {figures}, {finished.metrics['seconds']['train']:.0f} s")
    first = done[WITHOUT][0]
    cases, _ = asked(first.recipe, first.split)
    result = {
        "dataset": first.metrics["dataset"],
        "protocol": first.metrics["protocol"],
        "recipe": whole.name,
        "seeds": list(seeds),
        "cases": len(cases),
        "test": "each case's mean over the seeds, paired with the backbone's: bootstrap interval, "
        "two-sided sign-flip permutation test, Holm's correction over the arms",
        **compared(done, cases, first.split.train_counts),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "language.json")
    return result


def compared(
    done: Mapping[str, Sequence[Run]], cases: Cases, counts: NDArray[np.integer]
) -> dict[str, Any]:
    """``scarce``, ``rows`` and ``verdict`` of :func:`language`.

    Args:
        done: runs of each arm, the backbone's first.
        cases: that they were measured on.
        counts: int[n_items], interactions in training.
    """
    rows = [_summary(arm, runs) for arm, runs in done.items()]
    figures = {arm: {key: _cases(runs, key) for key in KEYS} for arm, runs in done.items()}
    gains: dict[str, dict[str, bool]] = {}
    for key in KEYS:
        _test(rows, {arm: own[key] for arm, own in figures.items()}, key)
        gains[key] = {
            row["arm"]: row[key]["against"]["difference"] > 0
            and row[key]["against"]["p_holm"] < CERTAIN
            for row in rows[1:]
        }
    targets, scarce = counts[first_targets(cases)], {}
    for name, most in (("rare", rarest(counts)), ("few", FEW)):
        part = targets <= most
        items = float((counts <= most).mean())
        scarce[name] = {"most": most, "items": items, "cases": int(part.sum())}
        if part.any():
            some = {arm: own[SCARCE[name]][part] for arm, own in figures.items()}
            for row in rows:
                row[name] = {"mean": float(some[row["arm"]].mean())}
            _test(rows, some, name)
    if "auc" in rows[0]:  # relative to chance, seed by seed (RelaImpr: Yan et al., ICML 2014)
        for row in rows[1:]:
            pairs = zip(row["auc"], rows[0]["auc"], strict=True)
            row["auc_gain"] = [(ours - 0.5) / (base - 0.5) - 1 for ours, base in pairs]
    verdict = {
        key: {
            "gains": told,
            "holds": told[WITH] and not any(told[arm] for arm in told if "shuffled" in arm),
        }
        for key, told in gains.items()
    }
    return {"scarce": scarce, "rows": rows, "verdict": verdict}


def _test(
    rows: Sequence[dict[str, Any]], cases: Mapping[str, NDArray[np.float64]], key: str
) -> None:
    base = cases[rows[0]["arm"]]
    for row in rows[1:]:
        paired = compare(base, cases[row["arm"]])
        row[key]["against"] = {**paired.as_dict(), "share": share(paired.difference, base)}
    tested = [row[key]["against"] for row in rows[1:]]
    for against, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        against["p_holm"] = p


def _summary(arm: str, runs: Sequence[Run]) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "seeds": len(runs)}
    for key in KEYS:
        mean, low, high = seeds_ci([done.metrics["test"][key] for done in runs])
        if not math.isfinite(low):
            low, high = runs[0].metrics["test"]["ci95"][key]
        row[key] = {"mean": mean, "low": low, "high": high}
    if all("clicks" in done.metrics for done in runs):
        row["auc"] = [float(done.metrics["clicks"]["test"]["auc"]) for done in runs]
        row["logloss"] = [float(done.metrics["clicks"]["test"]["logloss"]) for done in runs]
    row["seconds"] = float(np.mean([done.metrics["seconds"]["train"] for done in runs]))
    row["epochs"] = float(np.mean([_epochs(done.metrics["training"]) for done in runs]))
    row["parameters"] = runs[0].metrics["parameters"]
    return row


def _epochs(training: Mapping[str, Any]) -> int:
    before = training.get("steps_before", {}).values()
    return int(training.get("epochs", 0)) + sum(int(one["epochs"]) for one in before)


def _cases(runs: Sequence[Run], key: str) -> NDArray[np.float64]:
    """float64[cases], the mean over the seeds."""
    figures = []
    for done in runs:
        columns = read_cases(done.path)
        if columns is None or key not in columns:
            raise OnomaError(
                f"no readable cases.parquet with {key}", where=str(done.path),
                fix="Delete the run, and ask for cut-offs 10 and 20 in evaluate.ks",
            )  # fmt: skip
        figures.append(columns[key].astype(np.float64))
    return np.asarray(np.mean(figures, axis=0))


def rarest(counts: NDArray[np.integer]) -> int:
    """The count up to which items are the rarest quarter, as near as items of one count allow."""
    found, times = np.unique(counts, return_counts=True)
    return int(found[np.abs(times.cumsum() / len(counts) - RARE).argmin()])


def _kept(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def _same(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    return settings


def _shuffled(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The system on vectors of other items."""
    of = settings.get("encoder", "sentence")
    return {**settings, "encoder": {"name": "shuffled", "of": of, "seed": seed}}


def _original(times: int) -> Arm:
    """The recommender on the original texts alone, told ``times`` times over."""

    def told(settings: dict[str, Any], seed: int) -> dict[str, Any]:
        of = _encoder(settings).get("of", "sentence")
        return {**settings, "encoder": {"name": "joined", "parts": [of] * times}}

    return told


def _dealt(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The generated texts under other items, the original ones where they belong."""
    return {**settings, "encoder": {**_encoder(settings), "shuffled": seed}}


def _encoder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's section, where the recipe has one, or a word."""
    said = settings.get("encoder", "augmented")
    return {"name": said} if isinstance(said, str) else dict(said)


def _graph(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """A graph model of ids with the same sizes, loss and schedule."""
    return {"name": "lightgcn", **_kept(settings, (*GRAPH, "train"))}


def _listens(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The collaborative model alone."""
    return {**settings.get("of", {"name": "lightgcn"}), **_kept(settings, ("train",))}


def _profiles(whose: str) -> Arm:
    def deal(settings: dict[str, Any], seed: int) -> dict[str, Any]:
        how = {**settings.get("profiles", {}), "shuffled": whose, "deal": seed}
        return {**settings, "profiles": how}

    return deal


def _din(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The click model alone."""
    return {"name": "din", **_kept(settings, ("width", "length", "dropout", "batch", "train"))}


def _reasons(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The reasonings of other pairs."""
    return {**settings, "reasons": {**settings.get("reasons", {}), "shuffled": seed}}


def _sasrec(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """A SASRec of the same trunk and loss, with the epochs of all steps together."""
    train = dict(settings.get("train", {}))
    train["epochs"] = (
        settings.get("pretrain", 8) + settings.get("align", 6) + train.get("epochs", 20)
    )
    return {"name": "sasrec", **_kept(settings, TRUNK), "train": train}


def _wide(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """That SASRec at three times the width: as many numbers a user as the three experts have."""
    narrow = _sasrec(settings, seed)
    return {**narrow, "width": 3 * narrow.get("width", 64)}


ARMS: dict[str, dict[str, Arm]] = {
    "alpharec": {WITHOUT: _graph, WITH: _same, "shuffled": _shuffled},
    "llminit": {WITHOUT: _graph, WITH: _same, "shuffled": _shuffled},
    "augmented-mlp": {
        WITHOUT: _original(1),
        WITH: _same,
        "shuffled": _dealt,
        "without-wide": _original(2),
    },
    "llm-kt": {
        WITHOUT: _listens,
        WITH: _same,
        "shuffled": _profiles("items"),
        "shuffled-users": _profiles("users"),
    },
    "llmcf": {WITHOUT: _din, WITH: _same, "shuffled": _reasons},
    "pad": {WITHOUT: _sasrec, WITH: _same, "shuffled": _shuffled, "without-wide": _wide},
}
