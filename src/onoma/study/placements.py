"""``onoma study placements``: one model of all products with adapters, or one for each?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.calibration import reliability, whole
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.ranking.clicks import auc, logloss
from onoma.recommenders.ranking.events import TowerSettings
from onoma.study import decisions
from onoma.study import placement_models as models
from onoma.study.aggregates import Aggregates, aggregates, foundation
from onoma.study.channels import PRODUCTS, VALUES, Log, channels
from onoma.study.placement_models import Part, Reader

ARMS = ("unified, adapted", "unified", "unified, tuned whole", "alone", "trees", "trees of all")
TOWER = TowerSettings(width=64, length=64, blocks=2, heads=2, dropout=0.1)
TRAIN = TrainSettings(epochs=6, batch_tokens=8192, lr=0.002, weight_decay=0.01, valid_every=1,
                       patience=2)  # fmt: skip
_RANK, _TREES, _FOUNDATION, _BATCH, _KEPT = 4, 250, 16, 128, 0.25
_REPLAYED, _TOLD, _REQUESTS = 20_000, 200, 400
_FEWER = 200  # users at least


def placements(
    out: str | Path,
    *,
    users: int = 20_000,
    events: int = 75,
    seed: int = 0,
    tower: TowerSettings = TOWER,
    train: TrainSettings = TRAIN,
    rank: int = _RANK,
    trees: int = _TREES,
    times: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Predict conversions and clicks of a made-up log of channels, then decide what to show.

    The log is that of :func:`onoma.study.channels.channels`. Seven tenths of the users train, one
    tenth chooses epochs and numbers of trees, two tenths are reported; conversions count when their
    window had passed. Trees read counts over all of a user's past, towers his last events.

    Args:
        out: ``placements.json`` and ``decisions.jsonl`` go here.
        users: of the log.
        events: of a user, on average.
        seed: of log, users, weights and batches.
        tower: of every tower.
        train: the schedule of every training.
        rank: of the adapters.
        trees: at most, of every set of boosted trees.
        times: whether the unified tower is also trained without times, and with waves.
        quiet: no progress bars.
        tell: called with a line after each arm.

    Returns:
        ``log``; ``conversions``, a row an arm (by product ``auc``, ``logloss``, ``error`` of
        calibration; ``share`` of numbers trained); ``times``, rows of the same; ``clicks`` (AUC,
        and calibration before and after the correction for the impressions left out);
        ``policies`` (earned, replayed); ``latency``; ``slices``; ``drift``; ``reasons`` (mean size
        by channel) and ``acceptance``.

    Raises:
        OnomaError: too few users, or a product without enough conversions to learn from.
    """
    if users < _FEWER or events < 10:
        raise OnomaError(f"{users} users with {events} events", where="study placements",
                         fix=f"Use at least {_FEWER} users with 10 events")  # fmt: skip
    out = Path(out)
    log = channels(users, events, seed)
    role = np.random.default_rng([seed, 1]).permutation(users) * 10 // users
    sets = (role < 7, role == 7, role > 7)
    shown = np.flatnonzero(log.product >= 0)
    made = aggregates(log, shown)
    told = sets[0][log.users[shown]]
    axes = foundation(made.before[told], _FOUNDATION)
    activity = np.zeros((len(log.times), axes.shape[1]), dtype=np.float32)
    activity[shown] = made.before @ axes
    reader = Reader(log, activity, tower.length)
    bought = [_part(log, who, log.clicked & log.mature, log.converted) for who in sets]
    for product, name in enumerate(PRODUCTS):
        for part in (each.of(product) for each in bought):
            if min(int(part.labels.sum()), int((~part.labels).sum())) < 2:
                raise OnomaError(f"too few conversions of {name}", where="study placements",
                                 fix="Use more users or events")  # fmt: skip
    result: dict[str, Any] = {
        "log": {"users": users, "events": len(log.times), "impressions": len(shown),
                "clicks": int(log.clicked.sum()), "conversions": int(log.converted.sum()),
                "seed": seed, "train": [int(part.labels.sum()) for part in
                                        (bought[0].of(p) for p in range(len(PRODUCTS)))],
                "oracle": _oracle(log, bought[2])},
    }  # fmt: skip
    table = _table(made, activity, shown)
    found, towers, rows = _conversions(
        reader, bought, tower, train, rank, table, trees, seed, quiet, tell
    )
    result["conversions"] = rows
    if times:
        result["times"] = []
        for name, change in (("order alone", {"time": ()}), ("waves", {"encoding": "waves"})):
            other = TowerSettings.model_validate(tower.model_dump() | change)
            model, _ = models.train_conversions(
                reader, bought[0], bought[1], other, train, seed, _BATCH, quiet
            )
            logits = models.conversion_logits(model, reader, bought[2].rows)
            result["times"].append(_row(name, logits, bought[2]))
            tell(_said(result["times"][-1]))
    clicks, done = models.train_clicks(reader, sets[0], sets[1], tower, train, _KEPT, seed, quiet)
    chances = whole(models.click_logits(clicks, reader, sets[2], every=True), _KEPT)
    counted = _click_trees(log, table, shown, sets, seed, trees)
    result["clicks"] = _clicks(log, chances, sets[2], counted, table) | {"seconds": done["seconds"]}
    tell(f"clicks: AUC {result['clicks']['auc']:.4f}, trees {result['clicks']['trees']:.4f}")
    result |= _decided(out, reader, clicks, chances, towers, found, counted, table, sets[2], seed)
    result["acceptance"] = acceptance(result)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "placements.json")
    return result


def _part(
    log: Log, who: NDArray[np.bool_], among: NDArray[np.bool_], labels: NDArray[np.bool_]
) -> Part:
    rows = np.flatnonzero(among & who[log.users])
    return Part(rows, labels[rows], log.product[rows])


def _table(
    made: Aggregates, activity: NDArray[np.float32], shown: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Rows of what trees read, by places in the log."""
    features = np.concatenate([made.table[:, :-1], activity[shown], made.table[:, -1:]], axis=1)
    return lambda rows: features[np.searchsorted(shown, rows)]


def _oracle(log: Log, part: Part) -> dict[str, float]:
    """AUC by product of the chances that conversions were drawn from."""
    known = log.chances[part.rows, 2, part.product]
    return {name: auc(known[part.product == p], part.labels[part.product == p])
            for p, name in enumerate(PRODUCTS)}  # fmt: skip


def _row(arm: str, logits: NDArray[np.float64], part: Part, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "auc": {}, "logloss": {}, "error": {}}
    for product, name in enumerate(PRODUCTS):
        mine = part.product == product
        said, truth = logits[mine], part.labels[mine]
        row["auc"][name] = auc(said, truth)
        row["logloss"][name] = logloss(said, truth.astype(np.float64))
        row["error"][name] = reliability(1 / (1 + np.exp(-said)), truth).error
    return row | more


def _said(row: Mapping[str, Any]) -> str:
    return f"{row['arm']}: AUC " + " ".join(f"{value:.4f}" for value in row["auc"].values())


def _conversions(
    reader: Reader, sets: Sequence[Part], tower: TowerSettings, train: TrainSettings, rank: int,
    table: Callable[[NDArray[np.int64]], NDArray[np.float32]], most: int, seed: int,
    quiet: bool, tell: Callable[[str], None],
) -> tuple[list[models.Trees], list[models.Model], list[dict[str, Any]]]:  # fmt: skip
    """The trees and the adapted towers by product, and a row an arm."""
    fit, pick, test = sets
    base, done = models.train_conversions(reader, fit, pick, tower, train, seed, _BATCH, quiet)
    every = models.conversion_logits(base, reader, test.rows)
    logits = {arm: np.empty(len(test.rows)) for arm in ARMS} | {"unified": every}
    more: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    more["unified"] = {"seconds": done["seconds"], "best_epoch": done["best_epoch"],
                       "parameters": sum(value.numel() for value in base.parameters())}  # fmt: skip
    towers, trees = [], []
    everything = models.Trees(seed, most).fit(
        table(fit.rows), fit.labels, table(pick.rows), pick.labels
    )
    logits["trees of all"] = everything.logits(table(test.rows))
    for product in range(len(PRODUCTS)):
        own = [part.of(product) for part in sets]
        mine = test.product == product
        for arm, updates in (("unified, adapted", rank), ("unified, tuned whole", None)):
            model, told = models.tune(
                base, reader, own[0], own[1], train, updates, seed, _BATCH, quiet
            )
            logits[arm][mine] = models.conversion_logits(model, reader, own[2].rows)
            for key, value in told.items():
                more[arm].setdefault(key, []).append(value)
            if updates is not None:
                towers.append(model)
        alone, _ = models.train_conversions(
            reader, own[0], own[1], tower, train, seed, _BATCH, quiet
        )
        logits["alone"][mine] = models.conversion_logits(alone, reader, own[2].rows)
        trees.append(models.Trees(seed, most).fit(table(own[0].rows), own[0].labels,
                                            table(own[1].rows), own[1].labels))  # fmt: skip
        logits["trees"][mine] = trees[-1].logits(table(own[2].rows))
    rows = [_row(arm, logits[arm], test, **more[arm]) for arm in ARMS]
    for row in rows:
        tell(_said(row))
    return trees, towers, rows


def _click_trees(
    log: Log, table: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    shown: NDArray[np.int64], sets: Sequence[NDArray[np.bool_]], seed: int, most: int,
) -> models.Trees:  # fmt: skip
    fit, pick = (shown[who[log.users[shown]]] for who in sets[:2])
    return models.Trees(seed, most).fit(
        table(fit), log.clicked[fit], table(pick), log.clicked[pick]
    )


def _clicks(
    log: Log, chances: NDArray[np.float64], who: NDArray[np.bool_], trees: models.Trees,
    table: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> dict[str, Any]:  # fmt: skip
    rows = np.flatnonzero((log.product >= 0) & who[log.users] & ~np.isnan(chances[:, 0]))
    said, truth = chances[rows, log.product[rows]], log.clicked[rows]

    def error(logits: NDArray[np.float64]) -> float:
        return reliability(_chance(logits), truth).error

    return {"rows": len(rows), "auc": auc(said, truth),
            "trees": auc(trees.logits(table(rows)), truth),
            "logloss": logloss(said, truth.astype(np.float64)),
            "error": error(said), "uncorrected": error(said - np.log(_KEPT)),
            "oracle": auc(log.chances[rows, 1, log.product[rows]], truth)}  # fmt: skip


def _chance(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _decided(
    out: Path, reader: Reader, clicks: models.Model, said: NDArray[np.float64],
    towers: Sequence[models.Model], trees: Sequence[models.Trees], click_trees: models.Trees,
    table: Callable[[NDArray[np.int64]], NDArray[np.float32]], who: NDArray[np.bool_], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Policies, the audit log, reasons, slices, drift and latency, on the test users."""
    log, products = reader.log, range(len(PRODUCTS))
    able = (log.product >= 0) & log.mature & who[log.users] & ~np.isnan(said[:, 0])
    rng = np.random.default_rng([seed, 2])
    rows = np.sort(rng.permutation(np.flatnonzero(able))[:_REPLAYED])
    click = _chance(said[rows])
    bought = _chance(np.stack([models.conversion_logits(towers[p], reader, rows, p)
                               for p in products], axis=1))  # fmt: skip
    known = table(rows)
    theirs = []
    for product in products:
        known[:, -1] = product
        theirs.append(_chance(click_trees.logits(known)) * _chance(trees[product].logits(known)))
    values = {
        "at random": rng.random(click.shape),
        "most often shown": log.chances[rows, 0].astype(np.float64),
        "clicks alone": click,
        "trees": np.stack(theirs, axis=1) * VALUES,
        "towers": click * bought * VALUES,
        "true chances": (log.chances[rows, 1] * log.chances[rows, 2]) * VALUES,
    }
    policies = []
    for name, value in values.items():
        done = decisions.decide(log, rows, value)
        policies.append({"policy": name, "earned": done.earned, "replayed": done.replayed,
                         "agree": done.agree})  # fmt: skip
    both = np.array([[row["earned"], row["replayed"]] for row in policies])
    first = rows[:_TOLD]
    every = [decisions.reasons(towers[p], reader, first, p) for p in products]
    choice = decisions.decide(log, first, values["towers"][:_TOLD]).choice
    why = {name: np.stack([told[name] for told in every], axis=1)[np.arange(len(first)), choice]
           for name in every[0]}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    lines = decisions.write_decisions(
        out, log, first, click[:_TOLD], bought[:_TOLD], why, "unified, adapted"
    )
    shown = said[rows, log.product[rows]]
    return {
        "policies": policies, "correlation": float(np.corrcoef(both.T)[0, 1]),
        "decisions": lines,
        "reasons": {name: float(np.abs(part).mean()) for name, part in why.items()},
        "slices": decisions.slices(log, rows, _chance(shown), log.clicked[rows]),
        "drift": decisions.moved(log),
        "latency": decisions.latency([clicks, towers[0]], reader, rows[:_REQUESTS]),
    }  # fmt: skip


def acceptance(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What S118 asks, beside what was measured."""
    rows = {row["arm"]: row for row in result["conversions"]}
    ours, alone, trees = (rows[arm]["auc"] for arm in ("unified, adapted", "alone", "trees"))

    def beaten(others: Mapping[str, float]) -> int:
        return sum(ours[name] > others[name] for name in PRODUCTS)

    def beside(others: Mapping[str, float]) -> str:
        pairs = ", ".join(f"{ours[name]:.3f} by {others[name]:.3f}" for name in PRODUCTS)
        return f"{beaten(others)} of {len(PRODUCTS)} ({pairs})"

    share, p99 = max(rows["unified, adapted"]["share"]), result["latency"]["p99"]
    lines = [
        ("conversion AUC above that of towers of one product on at least 3 of 4", beside(alone),
         beaten(alone) >= 3),
        ("and above that of boosted trees on all 4", beside(trees), beaten(trees) == 4),
        ("with at most 10 % of the numbers trained for a product", f"{share:.1%}", share <= 0.1),
        ("one request takes less than 120 ms at the 99th percentile", f"{p99:.0f} ms", p99 < 120),
    ]  # fmt: skip
    return [{"system": "S118", "asked": asked, "measured": said, "holds": bool(holds)}
            for asked, said, holds in lines]  # fmt: skip
