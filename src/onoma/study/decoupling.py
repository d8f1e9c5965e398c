"""``onoma study decoupling``: do search and reading of a history need vectors of their own?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans, nearest
from onoma.neural.trainer import Trainer, TrainSettings
from onoma.recipe import Recipe
from onoma.recommenders.ranking.clicks import ClickModule, ClickSettings, Pairs, auc
from onoma.recommenders.ranking.dare import DAREModule, DARESettings, Tables
from onoma.recommenders.ranking.din import DINModule
from onoma.run import asked as questions
from onoma.run import build, cut, load_data, run
from onoma.study.planted import CATEGORIES, Planted, planted

_TRAIN = TrainSettings(epochs=8, lr=0.01, weight_decay=0.01, valid_every=1, patience=9)
_WIDTH, _LENGTH, _BATCH, _SLICE, _TOP, _CLUSTERS = 16, 20, 2048, 4096, 5, 10
_TIMED = (512, 200, 25)  # pairs, items of their histories, rounds


def main_arms(width: int) -> dict[str, dict[str, Any]]:
    """Settings of the arms that are trained on the data set, too.

    As asked, a shared table with at least as many parameters is among them.

    Args:
        width: of each field as it is read, a multiple of 4.
    """
    return {
        "decoupled": {"tables": "decoupled", "attention": width},
        "search of a quarter": {"tables": "decoupled", "attention": width // 4},
        "shared": {"tables": "shared"},
        "shared, twice as wide": {"tables": "shared", "width": 2 * width},
        "projected": {"tables": "projected"},
    }


def _din(width: int) -> dict[str, Any]:
    """DIN adds the fields up, so each has a wider table."""
    return {"width": 2 * width}


MAIN = main_arms(_WIDTH)
CONTROLS: dict[str, dict[str, Any]] = {
    "search of a half": {"attention": _WIDTH // 2},
    "four tables": {"tables": "four", "attention": _WIDTH},
    "without product": {"attention": _WIDTH, "product": False},
    "own category": {"attention": _WIDTH, "search": "category"},
    "din": _din(_WIDTH),
}
# Settings of dare that din, as any click ranker, does not have.
_OWN = DARESettings.model_fields.keys() - ClickSettings.model_fields.keys()


def decoupling(
    data: str,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1),
    pairs: int = 200_000,
    train: TrainSettings = _TRAIN,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train a click model with tables of several kinds on planted clicks, then on one data set.

    The planted clicks are those of :func:`onoma.study.planted.planted`, drawn anew by each seed;
    :data:`CONTROLS` and the data set have the first seed alone. Validation picks the epoch.

    Args:
        data: as for :func:`onoma.run.run`.
        out: one run directory an arm, ``planted`` (a file an arm and seed, read again where it
            answers the same question), and ``decoupling.json`` go here.
        seeds: of clicks, weights and batches.
        pairs: planted, a tenth of them for validation and as many for the test.
        train: the schedule on planted clicks.
        overrides: ``key=value`` words for the recipe ``dare`` on the data set; ``din`` follows
            those that it has, too, and the widths of all arms follow the recipe's.
        quiet: no progress bars.
        tell: called with a line after each arm.

    Returns:
        ``dataset``; ``oracle`` (AUC of the chances that clicks were drawn from, a seed each);
        ``planted``, a row an arm: ``parameters``, and by seed ``auc``, ``correlation`` (of learned
        and true weights, averaged by category of candidate, category and place of the item),
        ``found`` (share of the five items that bear most among the five that weigh most),
        ``told`` (information in nats that clusters of what the head reads have of clicks) and,
        for one shared table, ``conflict``; ``data``, a row an arm; ``seconds`` of the search; and
        ``acceptance``.

    Raises:
        OnomaError: too few pairs or seeds, bad data or settings, or a width without a quarter.
    """
    if pairs < 1000 or not seeds:
        raise OnomaError(f"{pairs} pairs, {len(seeds)} seeds", where="study decoupling",
                         fix="Use at least 1,000 pairs and one seed")  # fmt: skip
    out = Path(out)
    recipes = _recipes(data, overrides, seeds[0])
    rows: dict[str, dict[str, Any]] = {}
    oracle: list[float] = []
    for seed in seeds:
        asked = planted(pairs, length=_LENGTH, seed=seed)
        a, b = round(0.8 * pairs), round(0.9 * pairs)
        parts = (asked.part(0, a), asked.part(a, b), asked.part(b, pairs))
        oracle.append(auc(parts[2].logits, parts[2].clicked))
        for arm, settings in (MAIN | CONTROLS if seed == seeds[0] else MAIN).items():
            found = _kept(
                out / "planted" / f"{_slug(arm)}-seed{seed}.json",
                {"arm": arm, "settings": settings, "pairs": pairs, "seed": seed,
                 "train": train.model_dump(mode="json")},
                partial(_planted_arm, arm, settings, parts, seed, train, quiet),
            )  # fmt: skip
            row = rows.setdefault(arm, {"arm": arm, "parameters": found.pop("parameters")})
            found.pop("parameters", None)
            for key, value in found.items():
                row.setdefault(key, []).append(value)
            tell(f"planted, seed {seed}, {arm}: AUC {found['auc']:.4f} of {oracle[-1]:.4f}")
    seconds = search_seconds(rows=_TIMED[0], length=_TIMED[1], rounds=_TIMED[2])
    real, about = [], {}
    for arm, recipe in recipes.items():
        done = run(recipe, data, out / _slug(arm), quiet=quiet)
        about = done.metrics["dataset"]
        clicks = done.metrics["clicks"]
        real.append({"arm": arm, "auc": clicks["test"]["auc"], "logloss": clicks["test"]["logloss"],
                     "valid": clicks["valid"]["auc"], "ndcg@10": done.metrics["test"]["ndcg@10"],
                     "seconds": done.metrics["seconds"]["train"]})  # fmt: skip
        tell(f"{about['name']}, {arm}: AUC {real[-1]['auc']:.4f}")
    result: dict[str, Any] = {
        "dataset": about, "pairs": pairs, "seeds": list(seeds), "oracle": oracle,
        "planted": list(rows.values()), "data": real, "seconds": seconds,
    }  # fmt: skip
    result["acceptance"] = acceptance(result)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "decoupling.json")
    return result


def _recipes(data: str, overrides: Sequence[str], seed: int) -> dict[str, Recipe]:
    """What is run on the data set, arm by arm; what cannot be run stops before any training.

    Raises:
        OnomaError: bad data or settings, or a width without a quarter.
    """
    whole = Recipe.load("dare", list(overrides))
    build(whole)
    width = int(whole.recommender["width"])
    if width % 4:
        raise OnomaError(f"recommender.width: {width} has no quarter", where="study decoupling",
                         fix="Use a multiple of 4")  # fmt: skip
    mine = [word for word in overrides
            if word.partition("=")[0] not in {f"recommender.{name}" for name in _OWN}]  # fmt: skip
    recipes = {}
    for arm, settings in {**main_arms(width), "din": _din(width)}.items():
        recipe = Recipe.load("din", mine) if arm == "din" else whole
        raw = recipe.model_dump(mode="json", exclude={"published", "system", "about"})
        raw["recommender"] |= settings
        raw |= {"name": f"dare-{_slug(arm)}", "seed": seed}
        recipes[arm] = Recipe.check(raw, arm)
        build(recipes[arm])
    raw = whole.model_dump(mode="json")
    raw["data"]["path"] = data
    named = Recipe.check(raw, whole.name)
    questions(named, cut(named, load_data(named)))
    return recipes


def _slug(arm: str) -> str:
    """An arm as part of a path."""
    return arm.replace(",", "").replace(" ", "-")


def _kept(
    path: Path, question: Mapping[str, Any], answer: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The answer that a file has for this question, or a new one, which the file then has."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged file has none
        there = json.loads(path.read_text("utf-8"))
        if there["question"] == question:
            return dict(there["answer"])
    found = answer()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps({"question": question, "answer": found}, indent=2) + "\n", path)
    return found


def acceptance(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What S076 asks, beside what was measured; means over seeds."""
    rows = {row["arm"]: row for row in result["planted"]}

    def mean(arm: str, key: str = "auc") -> float:
        return float(np.mean(rows[arm][key]))

    oracle = float(np.mean(result["oracle"]))
    best = max(mean(arm) for arm in MAIN)
    lift = (best - 0.5) / max(oracle - 0.5, 1e-9)
    ours, whole = mean("decoupled"), rows["decoupled"]["parameters"]
    large = [arm for arm in ("shared", "shared, twice as wide")
             if rows[arm]["parameters"] >= whole]  # fmt: skip
    rival = max(mean(arm) for arm in large)
    close, others = (mean(arm, "correlation") for arm in ("decoupled", large[-1]))
    lost = ours - mean("search of a quarter")
    faster = result["seconds"]["16"] / result["seconds"]["4"]
    lines = [
        ("planted: the best model has at least 50 % of the oracle's lift over 0.5",
         f"{lift:.0%} ({best:.4f} of {oracle:.4f})", lift >= 0.5),
        ("AUC at least 0.003 above a shared table with at least as many parameters",
         f"{ours - rival:+.4f} ({ours:.4f} by {rival:.4f})", ours - rival >= 0.003),
        ("and its weights correlate more with the truth",
         f"{close:.3f} by {others:.3f}", close > others),
        ("a search of a quarter of the width costs at most 0.004 AUC",
         f"{lost:.4f}", lost <= 0.004),
        ("and scores at least 1.5 times as fast", f"{faster:.1f} times", faster >= 1.5),
    ]  # fmt: skip
    return [{"system": "S076", "asked": asked, "measured": said, "holds": bool(holds)}
            for asked, said, holds in lines]  # fmt: skip


@torch.no_grad()
def search_seconds(rows: int, length: int, rounds: int) -> dict[str, float]:
    """Median seconds of scoring every item of ``rows`` histories, by width of a field.

    Widths take turns, so that a busy machine slows all of them.
    """
    asked = planted(rows, length=length)
    places = torch.arange(length, 0, -1).expand(rows, -1).contiguous()
    models = {width: DAREModule(asked.kinds, DARESettings(attention=width, length=length))
              for width in (16, 8, 4)}  # fmt: skip
    tables = {width: model.tables() for width, model in models.items()}
    taken: dict[int, list[float]] = {width: [] for width in models}
    for _ in range(rounds):
        for width, model in models.items():
            began = time.perf_counter()
            model.scores(asked.pairs.items, asked.pairs.history, places, tables[width])
            taken[width].append(time.perf_counter() - began)
    return {str(width): float(np.median(times)) for width, times in taken.items()}


def conflict(module: DAREModule, pairs: Pairs, labels: Tensor) -> dict[str, float]:
    """How the search and the reading pull at one shared table.

    Returns:
        ``search`` and ``reading``, norms of the loss's gradients by that way alone, and
        ``against``, the share of items whose two gradients have a negative product.
    """
    table = module.tables().read.detach()
    search, read = (table.clone().requires_grad_() for _ in range(2))
    logits = module.logits_by(pairs, Tables(search, search, read, read))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    one, other = torch.autograd.grad(loss, [search, read])
    both = one.any(1) & other.any(1)
    against = ((one * other).sum(1) < 0)[both].float()
    return {"search": float(one.norm()), "reading": float(other.norm()),
            "against": float(against.mean()) if len(against) else 0.0}  # fmt: skip


class _Task:
    """The trainer's view of planted clicks."""

    judged = "auc"

    def __init__(self, module: ClickModule, train: Planted, valid: Planted, watched: bool) -> None:
        self.module, self.train, self.valid = module, train, valid
        self.pulls: list[dict[str, float]] | None = [] if watched else None
        self.labels = torch.from_numpy(train.clicked).float()
        self.steps = 0

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.labels))
        return np.split(order, np.arange(_BATCH, len(order), _BATCH))

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        rows, every = torch.from_numpy(batch), self.train.pairs
        asked = Pairs(every.history[rows], every.users[rows], every.items[rows], every.places[rows])
        self.steps += 1
        if self.pulls is not None and self.steps % 20 == 1:
            assert isinstance(self.module, DAREModule)
            self.pulls.append(conflict(self.module, asked, self.labels[rows]))
        return self.module.loss(asked, self.labels[rows])

    def validate(self) -> float:
        return _auc(self.module, self.valid)


def _planted_arm(
    arm: str,
    settings: Mapping[str, Any],
    parts: tuple[Planted, Planted, Planted],
    seed: int,
    train: TrainSettings,
    quiet: bool,
) -> dict[str, Any]:
    torch.manual_seed(seed)
    module: ClickModule
    if arm == "din":
        plain = ClickSettings(length=_LENGTH, dropout=0.0, **settings)
        module = DINModule(0, parts[0].kinds, plain)
    else:
        told = {"width": _WIDTH, "length": _LENGTH, "keep": _LENGTH, **settings}
        module = DAREModule(parts[0].kinds, DARESettings.model_validate(told))
    task = _Task(module, parts[0], parts[1], settings.get("tables") == "shared")
    done = Trainer(train, seed, None, quiet).fit(module, module.noise, task)
    row: dict[str, Any] = {
        "parameters": sum(value.numel() for value in module.parameters()),
        "auc": _auc(module, parts[2]),
        "seconds": done["seconds"],
        "best_epoch": done["best_epoch"],
    }
    if task.pulls is not None:
        row["conflict"] = {key: float(np.mean([pull[key] for pull in task.pulls]))
                           for key in task.pulls[0]}  # fmt: skip
    return row | (_looked_into(module, parts[2]) if isinstance(module, DAREModule) else {})


@torch.no_grad()
def _auc(module: ClickModule, part: Planted) -> float:
    steps = range(0, len(part.clicked), _SLICE)
    logits = [module.logits(part.pairs[slice(at, at + _SLICE)]) for at in steps]
    return auc(torch.cat(logits).numpy(), part.clicked)


@torch.no_grad()
def _looked_into(module: DAREModule, part: Planted) -> dict[str, float]:
    """``correlation``, ``found`` and ``told``, as :func:`decoupling` says."""
    tables = module.tables()
    learned, heard = [], []
    for at in range(0, len(part.clicked), _SLICE):
        asked = part.pairs[slice(at, at + _SLICE)]
        weights, _, _, columns = module.attend(asked, tables)
        learned.append(torch.zeros(asked.history.shape).scatter_(1, columns, weights))
        told, pooled = module.read(asked, tables)
        heard.append(told * pooled if module.settings.product else torch.cat([told, pooled], 1))
    ours, read = torch.cat(learned).double().numpy(), torch.cat(heard)
    both = (ours, part.weights)
    kinds = part.kinds[:, 0] - 1
    history, items = part.pairs.history.numpy(), part.pairs.items.numpy()
    wide = history.shape[1]
    cell = (kinds[items][:, None] * CATEGORIES + kinds[history]) * wide + np.arange(wide)
    count = np.bincount(cell.ravel(), minlength=CATEGORIES**2 * wide)
    means = [np.bincount(cell.ravel(), each.ravel(), len(count))[count > 0] / count[count > 0]
             for each in both]  # fmt: skip
    best = [np.argpartition(-each, _TOP - 1, axis=1)[:, :_TOP] for each in both]
    shared = (best[0][:, :, None] == best[1][:, None, :]).any(axis=2).mean()
    generator = torch.Generator().manual_seed(0)
    cluster = nearest(read, kmeans(read, _CLUSTERS, generator))[0].numpy()
    return {"correlation": float(np.corrcoef(means[0], means[1])[0, 1]), "found": float(shared),
            "told": information(cluster, part.clicked)}  # fmt: skip


def information(cluster: NDArray[np.int64], clicked: NDArray[np.bool_]) -> float:
    """Mutual information of clusters and clicks, in nats."""
    joint = np.zeros((int(cluster.max(initial=0)) + 1, 2))
    np.add.at(joint, (cluster, clicked.astype(np.int64)), 1 / len(cluster))
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / alone[there])).sum())
