"""``onoma study denoising``: does a filter of histories find noise, and is it worth its price?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma import encoding
from onoma.dataset import Split
from onoma.dataset.files import write_text
from onoma.dataset.noise import with_noise
from onoma.errors import OnomaError
from onoma.evaluation.evaluate import evaluate
from onoma.evaluation.significance import compare
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender
from onoma.recommenders.registry import recommender
from onoma.recommenders.sequential.consistent import consistent
from onoma.recommenders.sequential.consrec import ConsRec
from onoma.run import asked, build, cut, load_data

KEY = "ndcg@10"
CLEAN, NOISY, CHANCE, FILTERED = "clean", "noisy", "noisy, cut by chance", "noisy, filtered"
LIFT, GAIN = 1.5, 0.05  # of the acceptance line


def denoising(
    data: str,
    out: str | Path,
    *,
    recipe: str = "consrec",
    share: float = 0.25,
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Put noise into training histories, filter it, and train with and without the filter.

    The recommender under the filter is trained on clean histories, on noisy ones, and on noisy
    ones that lost as many items as the filter takes, but drawn by chance; the filter's own
    validation picks its threshold. Targets are never touched. Fits are not kept.

    Args:
        data: as for :func:`onoma.run.run`.
        out: ``denoising.json`` goes here.
        recipe: one of ``consrec``, by packaged name or YAML path.
        share: of the training interactions that random items replace.
        seeds: of the noise and of all fits.
        overrides: ``key=value`` words for the recipe.
        quiet: no progress bars.
        tell: called with a line after each fit.

    Returns:
        ``dataset``, ``share``, ``seeds``, ``test`` (in words), ``rows``: an arm each with its
        NDCG@10 (``mean`` over cases and seeds, ``seeds``) and, but for the noisy one,
        ``against`` the noisy one; ``found``: a space, threshold and seed each with the shares
        ``removed`` of all, ``noise`` among what was removed, ``lift`` of that over the share of
        noise in all, and what of ``noise_removed`` and ``true_removed``; ``acceptance``: what
        S090 asks.

    Raises:
        OnomaError: bad data, or a recipe of another recommender.
    """
    out = Path(out)
    about: dict[str, Any] = {}
    figures: dict[str, list[NDArray[np.float64]]] = {}
    found: list[dict[str, Any]] = []
    for seed in seeds:
        made = _recipe(recipe, data, seed, overrides)
        if made.recommender["name"] != ConsRec.name:
            raise OnomaError(f"{recipe} is no {ConsRec.name}", where="study denoising")
        clean = cut(made, load_data(made))
        about = about or clean.describe()
        noisy, drawn = with_noise(clean, share, seed)
        model = build(made, None, quiet)
        assert isinstance(model, ConsRec)

        def measure(arm: str, fitted: Recommender, parts: Split, made: Recipe = made) -> None:
            got = evaluate(fitted, asked(made, parts)[0], parts, ks=(10,)).metrics[KEY]
            figures.setdefault(arm, []).append(got)
            tell(f"{arm}, seed {made.seed}: {KEY} {got.mean():.4f}")

        def alone(of: dict[str, Any] = model.settings.of, seed: int = seed) -> Recommender:
            settings = {key: value for key, value in of.items() if key != "name"}
            return recommender(str(of["name"])).create(settings, seed=seed, quiet=quiet)

        model.fit(noisy)
        measure(FILTERED, model, noisy)
        kept = consistent(noisy.train, model.vectors, model.threshold)
        measure(CLEAN, alone().fit(clean), clean)
        measure(NOISY, alone().fit(noisy), noisy)
        measure(CHANCE, alone().fit(_by_chance(noisy, kept, seed)), noisy)
        raw = encoding.cached(encoding.build(model.settings.encoder), clean)
        spaces = {"texts": raw}
        if model.settings.space is not None:
            spaces["learnt"] = model.vectors
        for space, vectors in spaces.items():
            for threshold in model.settings.thresholds:
                told = detected(consistent(noisy.train, vectors, threshold), drawn)
                chosen = space == list(spaces)[-1] and threshold == model.threshold
                found.append(
                    {"space": space, "threshold": threshold, "seed": seed, "chosen": chosen, **told}
                )
    noisy_mean = np.mean(figures[NOISY], axis=0)
    rows = []
    for arm in (CLEAN, NOISY, CHANCE, FILTERED):
        each = np.mean(figures[arm], axis=0)
        row: dict[str, Any] = {"arm": arm, "mean": float(each.mean()),
               "seeds": [float(one.mean()) for one in figures[arm]]}  # fmt: skip
        if arm != NOISY:
            row["against"] = compare(noisy_mean, each).as_dict()
        rows.append(row)
    result = {
        "dataset": about, "recipe": recipe, "share": share, "seeds": list(seeds),
        "test": "each case's mean over the seeds, paired bootstrap and permutation",
        "rows": rows, "found": found, "acceptance": _acceptance(rows, found),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "denoising.json")
    return result


def detected(kept: NDArray[np.bool_], noise: NDArray[np.bool_]) -> dict[str, float]:
    """What a filter removed, where it is known what is noise.

    Args:
        kept: bool[total].
        noise: bool[total].

    Returns:
        ``removed``, ``noise``, ``lift``, ``noise_removed`` and ``true_removed``; NaN for shares of
        nothing.
    """
    gone = ~kept
    among = _share(noise, gone)
    return {
        "removed": float(gone.mean()),
        "noise": among,
        "lift": among / float(noise.mean()) if noise.any() else math.nan,
        "noise_removed": _share(gone, noise),
        "true_removed": _share(gone, ~noise),
    }


def _recipe(name: str, data: str, seed: int, overrides: Sequence[str]) -> Recipe:
    raw = Recipe.load(name, list(overrides)).model_dump(mode="json") | {"seed": seed}
    raw["data"]["path"] = data if data.startswith("packaged:") else str(Path(data).resolve())
    return Recipe.check(raw, name)


def _share(what: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(what[among].mean()) if among.any() else math.nan


def _by_chance(split: Split, kept: NDArray[np.bool_], seed: int) -> Split:
    """The split with as many training items of each user as the filter keeps, drawn by chance.

    Histories that are answered stay whole.
    """
    owners = split.train.rows()
    order = np.lexsort((np.random.default_rng(seed).random(len(kept)), owners))
    place = np.empty(len(kept), dtype=np.int64)
    place[order] = np.arange(len(kept)) - split.train.offsets[owners[order]]
    drawn = place < np.bincount(owners, kept, minlength=len(split.train))[owners]
    return replace(split, train=split.train.where(drawn), train_times=split.train_times[drawn])


def _acceptance(
    rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    lifts = [row["lift"] for row in found if row["chosen"]]
    by_arm = {row["arm"]: row for row in rows}
    before, after = by_arm[NOISY]["mean"], by_arm[FILTERED]["mean"]
    p = by_arm[FILTERED]["against"]["p"]
    gain = after / before - 1 if before else math.nan
    return [
        {
            "system": "S090",
            "asked": "what is removed holds noise at 1.5 times its share or more",
            "measured": ", ".join(f"{lift:.2f}" for lift in lifts),
            "holds": all(lift >= LIFT for lift in lifts),
        },
        {
            "system": "S090",
            "asked": "NDCG@10 on filtered histories at least 5 % above that on noisy ones",
            "measured": f"{gain:+.1%} ({after:.4f} by {before:.4f}, p {p:.3f})",
            "holds": gain >= GAIN,
        },
    ]
