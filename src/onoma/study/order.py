"""``onoma study order``: do recommenders go by the order of a history?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged, Split
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.metrics import metrics
from onoma.evaluation.significance import bootstrap_ci, compare, holm
from onoma.evaluation.ties import averaged
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.bridged.llmsrec import LLMSRec, LLMSRecSettings
from onoma.recommenders.transformer import TransformerRecommender
from onoma.run import asked, build, run

KEY = "ndcg@10"
YARDSTICK, WITHOUT, WITH = "sasrec of llm-srec", "without distillation", "with distillation"
_DRAWS = 2_000


def order(
    data: str,
    out: str | Path,
    *,
    recipes: Sequence[str] = ("llm-srec",),
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Sequence[str] = (),
    trained: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure recommenders on test histories as they are and in another order.

    A history is cut to what the model reads before it is put in another order, so that the model
    sees the same items; what was seen and may not be answered stays the whole. Times stay where
    they are, and the items change places under them, each with whether it was liked. ``llm-srec``
    becomes three arms: the SASRec that it learns from, itself without the lesson, and itself; the
    SASRec is also measured on as few items as the others are told, since a few that change places
    cost less. Finished runs below ``out`` are kept.

    Args:
        data: as for :func:`onoma.run.run`.
        out: one run directory an arm and seed, and ``order.json``, go here.
        recipes: packaged names or YAML paths.
        seeds: of all arms, and of the permutations.
        overrides: ``key=value`` words for every recipe.
        trained: also fit every arm on training histories permuted once, and measure it on test
            histories as they are; these fits are not kept.
        quiet: no progress bars.
        tell: called with a line after each arm and seed.

    Returns:
        ``dataset``, ``protocol``, ``seeds``, ``test`` (in words), ``rows``: an arm each with
        ``arm``, ``reads`` (items of a history; null: all), ``original`` and ``permuted`` (NDCG@10,
        the mean over cases and seeds, ``low`` and ``high``), ``sensitivity`` (the relative loss,
        with its bootstrap interval and ``seeds``), ``against`` (the paired test, ``p_holm`` over
        the arms), ``cosine`` between the two vectors of a user where the model has such, and
        ``trained`` (NDCG@10 after permuted training) where asked; of ``llm-srec`` also
        ``distilled``: the tests of the arm with distillation against the one without, of
        ``original`` and of the ``loss``. ``acceptance``: what S041 asks.

    Raises:
        OnomaError: bad data or recipes, or two arms of one name.
    """
    out = Path(out)
    made = [Recipe.load(name, list(overrides)) for name in recipes]
    _distinct([_folder(arm) for whole in made for arm, _ in _arms(whole, out, 0)])
    done: dict[str, list[dict[str, Any]]] = {}
    about: dict[str, Any] = {}
    for seed in seeds:
        for whole in made:
            for arm, recipe in _arms(whole, out, seed):
                finished = run(recipe, data, out / _folder(arm) / f"seed{seed}", quiet=quiet)
                cases, lists = asked(finished.recipe, finished.split)
                about = about or {
                    "dataset": finished.metrics["dataset"],
                    "protocol": finished.metrics["protocol"],
                }
                masked = finished.recipe.evaluate.mask_seen
                found = sensitivity(finished.recommender, cases, lists, seed, mask_seen=masked)
                if trained:
                    mixed = _permuted_training(finished.split, seed)
                    fitted = build(_alone(finished.recipe, whole), None, quiet).fit(mixed)
                    found["trained"] = _figures(fitted, _asked(cases, lists, None, masked), cases)
                done.setdefault(arm, []).append(found)
                if arm == YARDSTICK and (few := _told(whole)) < found["reads"]:
                    # Where fewer items change places, less is lost: the measure for the others.
                    cut = sensitivity(
                        finished.recommender, cases, lists, seed, reads=few, mask_seen=masked
                    )
                    done.setdefault(f"{YARDSTICK}, last {few}", []).append(cut)
                tell(
                    f"{arm}, seed {seed}: {KEY} {found['original'].mean():.4f}, "
                    f"permuted {found['permuted'].mean():.4f}"
                )
    result = {**about, "recipes": list(recipes), "seeds": list(seeds), **_summary(done)}
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "order.json")
    return result


def sensitivity(
    model: Recommender,
    cases: Cases,
    lists: NDArray[np.int32] | None = None,
    seed: int = 0,
    *,
    reads: int | None = None,
    mask_seen: bool = True,
) -> dict[str, Any]:
    """What the order of the histories is worth to a fitted recommender.

    Args:
        model: the recommender, in its first mode.
        cases: n cases.
        lists: int32[n, c] candidates; the whole catalogue where not given.
        seed: of the permutations, one for each user.
        reads: items of a history that are told, the last ones; by default as many as are read.
        mask_seen: whether items of the whole history are left out of the answers.

    Returns:
        ``reads``, ``original`` and ``permuted`` (float64[n], NDCG@10), and ``cosine``
        (float64[n], or None where the model has no vector of a user).
    """
    reads = model.window if reads is None else reads
    plain = _asked(cases, lists, reads, mask_seen)
    mixed = _mixed(plain, cases.users, seed)
    first, second = user_vectors(model, plain), user_vectors(model, mixed)
    cosine = None
    if first is not None and second is not None:
        cosine = torch.nn.functional.cosine_similarity(first, second, dim=1).double().numpy()
    return {
        "reads": reads,
        "original": _figures(model, plain, cases),
        "permuted": _figures(model, mixed, cases),
        "cosine": cosine,
    }


def permuted(history: Ragged, users: NDArray[np.integer], seed: int) -> Ragged:
    """Every row in an order that its user and the seed draw."""
    values = history.values.copy()
    for row, user in enumerate(users.tolist()):
        span = slice(int(history.offsets[row]), int(history.offsets[row + 1]))
        values[span] = np.random.default_rng([seed, max(user, 0)]).permutation(values[span])
    return Ragged(history.offsets, values)


def user_vectors(model: Recommender, requests: Requests) -> torch.Tensor | None:
    """float32[n, d], what the model makes of each history, if it has such vectors."""
    if isinstance(model, LLMSRec):
        return model.user_vectors(requests)
    if isinstance(model, TransformerRecommender):
        return model.last_states(requests.history).cpu()
    return None


def _asked(
    cases: Cases, lists: NDArray[np.int32] | None, reads: int | None, mask_seen: bool
) -> Requests:
    """The questions with histories as long as the model reads; what was masked stays so."""
    whole = replace(Requests.of(cases, mask_seen=mask_seen), candidates=lists)
    if reads is None:
        return whole
    return replace(
        whole,
        history=whole.history.last(reads),
        times=None if whole.times is None else whole.times.last(reads),
        liked=None if whole.liked is None else whole.liked.last(reads),
        exclude=whole.history if mask_seen else None,
    )


def _mixed(plain: Requests, users: NDArray[np.integer], seed: int) -> Requests:
    """The questions with every history in another order, and what was liked of it with it."""
    places = np.arange(len(plain.history.values))
    order = permuted(Ragged(plain.history.offsets, places), users, seed).values

    def moved(rows: Ragged) -> Ragged:
        return Ragged(rows.offsets, rows.values[order])

    liked = None if plain.liked is None else moved(plain.liked)
    return replace(plain, history=moved(plain.history), liked=liked)


def _figures(model: Recommender, requests: Requests, cases: Cases) -> NDArray[np.float64]:
    if requests.candidates is None:
        return metrics(model.recommend(requests, 10).items, cases.targets, (10,))[KEY]
    ranking = model.recommend(requests, max(10, requests.candidates.shape[1]))
    return averaged(ranking.items, ranking.scores, cases.targets, (10,))[KEY]


def _arms(whole: Recipe, out: Path, seed: int) -> list[tuple[str, Recipe]]:
    """The arms of a recipe, as they are to be run."""
    raw = whole.model_dump(mode="json", exclude={"published", "system", "about"}) | {"seed": seed}
    settings = dict(whole.recommender)
    if settings["name"] != LLMSRec.name:
        return [(whole.name, Recipe.check(raw, whole.name))]
    made: dict[str, dict[str, Any]] = {}
    if isinstance(given := settings.get("sequence", {}), dict):
        made[YARDSTICK] = {"name": "sasrec", **given}
        # Fitted once: both others learn from the very same one.
        settings["sequence"] = str((out / _folder(YARDSTICK) / f"seed{seed}").resolve())
    made[WITHOUT] = {**settings, "distil": 0.0}
    made[WITH] = {**settings, "distil": settings.get("distil") or 1.0}
    return [
        (arm, Recipe.check({**raw, "name": _folder(arm), "recommender": recommender}, arm))
        for arm, recommender in made.items()
    ]


def _told(whole: Recipe) -> int:
    """Items of a history that the bridged model is told."""
    return int(whole.recommender.get("history", LLMSRecSettings().history))


def _distinct(folders: Sequence[str]) -> None:
    """Refuse arms that would share a folder.

    Raises:
        OnomaError: two have one name.
    """
    for folder in folders:
        if folders.count(folder) > 1:
            raise OnomaError(
                f"two arms are called {folder}", where="study order",
                fix="Give recipes of different names, and one of llm-srec at a time",
            )  # fmt: skip


def _alone(recipe: Recipe, whole: Recipe) -> Recipe:
    """The recipe with a SASRec of its own: the shared one knows the order of training."""
    if recipe.recommender["name"] != LLMSRec.name:
        return recipe
    settings = {**recipe.recommender, "sequence": whole.recommender.get("sequence", {})}
    return recipe.model_copy(update={"recommender": settings})


def _permuted_training(split: Split, seed: int) -> Split:
    users = np.arange(len(split.train))
    return replace(split, train=permuted(split.train, users, seed))


def _folder(arm: str) -> str:
    return arm.replace(" ", "-")


def _summary(done: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows = []
    for arm, found in done.items():
        original, mixed = (
            np.mean([one[key] for one in found], axis=0) for key in ("original", "permuted")
        )
        low, high = _loss_interval(original, mixed)
        by_seed = [_loss(one["original"].mean(), one["permuted"].mean()) for one in found]
        row: dict[str, Any] = {
            "arm": arm,
            "reads": found[0]["reads"],
            "original": _mean(original),
            "permuted": _mean(mixed),
            "sensitivity": {
                "mean": _loss(original.mean(), mixed.mean()), "low": low, "high": high,
                "seeds": by_seed,
            },
            "against": compare(original, mixed).as_dict(),
        }  # fmt: skip
        if found[0]["cosine"] is not None:
            row["cosine"] = float(np.mean([one["cosine"].mean() for one in found]))
        if "trained" in found[0]:
            row["trained"] = _mean(np.mean([one["trained"] for one in found], axis=0))
        rows.append(row)
    for row, p in zip(rows, holm([row["against"]["p"] for row in rows]), strict=True):
        row["against"]["p_holm"] = p
    out: dict[str, Any] = {
        "test": "each case's mean over the seeds, permuted against original: bootstrap interval, "
        "two-sided sign-flip permutation test, Holm's correction over the arms",
        "rows": rows,
    }
    if WITH not in done:
        return {**out, "acceptance": []}
    plain, taught = (
        {key: np.mean([one[key] for one in done[arm]], axis=0) for key in ("original", "permuted")}
        for arm in (WITHOUT, WITH)
    )
    out["distilled"] = {
        "original": compare(plain["original"], taught["original"]).as_dict(),
        "loss": compare(
            plain["original"] - plain["permuted"], taught["original"] - taught["permuted"]
        ).as_dict(),
    }
    return {**out, "acceptance": _acceptance(rows, out["distilled"]["original"])}


def _acceptance(rows: Sequence[dict[str, Any]], level: dict[str, float]) -> list[dict[str, Any]]:
    by_arm = {row["arm"]: row for row in rows}
    without, with_ = (by_arm[arm]["sensitivity"]["mean"] for arm in (WITHOUT, WITH))
    first, second = (by_arm[arm]["original"]["mean"] for arm in (WITHOUT, WITH))
    return [
        {
            "system": "S041",
            "asked": "permuted test histories cost at least twice as much NDCG@10 with "
            "distillation as without",
            "measured": f"{with_:.1%} against {without:.1%}",
            # What gains by another order loses nothing.
            "holds": with_ > 0 and with_ >= 2 * max(without, 0.0),
        },
        {
            "system": "S041",
            "asked": "NDCG@10 on histories as they are is not lower with distillation",
            "measured": f"{second:.4f} against {first:.4f} (p {level['p']:.3f})",
            "holds": second >= first,
        },
    ]


def _loss(original: float, mixed: float) -> float:
    return float((original - mixed) / original) if original else math.nan


def _loss_interval(
    original: NDArray[np.float64], mixed: NDArray[np.float64]
) -> tuple[float, float]:
    """The 95 % interval of the relative loss, cases drawn with replacement."""
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(_DRAWS):
        rows = rng.integers(len(original), size=len(original))
        losses.append(_loss(original[rows].mean(), mixed[rows].mean()))
    low, high = np.nanquantile(losses, [0.025, 0.975]) if np.isfinite(losses).any() else (
        math.nan, math.nan
    )  # fmt: skip
    return float(low), float(high)


def _mean(figures: NDArray[np.float64]) -> dict[str, float]:
    low, high = bootstrap_ci(figures)
    return {"mean": float(figures.mean()), "low": float(low), "high": float(high)}
