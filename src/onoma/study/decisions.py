"""Which product a placement shows, what that would have earned, and why it was decided so."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset.files import write_text
from onoma.evaluation.calibration import drift, reliability
from onoma.recommenders.ranking.clicks import auc
from onoma.recommenders.ranking.events import Asked, Events
from onoma.study.channels import CHANNELS, DAY, PRODUCTS, STATICS, VALUES, Log
from onoma.study.placement_models import Model, Reader

_CAP, _WITHIN = 4, 2  # impressions of a product in so many days without a click: it rests
_SEGMENTS = ("plain", "middle", "premier")


@dataclass(frozen=True)
class Decided:
    """What a policy shows at m impressions.

    Attributes:
        choice: int64[m], products.
        earned: float, value of an impression by the chances that clicks were drawn from.
        replayed: float, the same as told by the log alone: logged rewards of the impressions where
            policy and log agree, weighed by how seldom the log agrees, and normalised by the sum
            of the weights (Swaminathan and Joachims, 2015).
        agree: int, those impressions.
    """

    choice: NDArray[np.int64]
    earned: float
    replayed: float
    agree: int


def allowed(log: Log, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[m, products]: who may be shown what at int64[m] impressions.

    The dearest product is not for the plain segment, and a product that was shown ``_CAP`` times in
    the last ``_WITHIN`` days without a click rests; where nothing is left, nothing rests.
    """
    users = log.users
    may = np.ones((len(rows), len(PRODUCTS)), dtype=bool)
    may[:, -1] = log.statics[users[rows], 0] > 0
    low = users.astype(np.int64) * (int(log.times.max()) + 1)
    first = np.searchsorted(low + log.times, low[rows] + log.times[rows] - _WITHIN * DAY)
    first = np.maximum(first, log.offsets[users[rows]])
    dull = (log.fields[:, 4] == 1)[:, None] & (log.product[:, None] == np.arange(len(PRODUCTS)))
    shown = np.concatenate([np.zeros((1, len(PRODUCTS)), int), dull.cumsum(axis=0)])
    rested = may & (shown[rows] - shown[first] < _CAP)
    return np.where(rested.any(axis=1)[:, None], rested, may)


def decide(log: Log, rows: NDArray[np.int64], values: NDArray[np.float64]) -> Decided:
    """Show the most valuable product that may be shown.

    Args:
        log: with the chances.
        rows: int64[m], impressions whose conversions are known.
        values: float64[m, products] as a policy sees them.
    """
    choice = np.where(allowed(log, rows), values, -np.inf).argmax(axis=1)
    at = np.arange(len(rows))
    shown, click, bought = (log.chances[rows, kind] for kind in range(3))
    earned = (click * bought)[at, choice] * VALUES[choice]
    agree = (choice == log.product[rows]) & (shown[at, choice] > 0)
    weight = agree / np.maximum(shown[at, choice], 1e-6)
    reward = log.converted[rows] * VALUES[log.product[rows]]
    return Decided(choice, float(earned.mean()),
                   float((weight * reward).sum() / max(weight.sum(), 1e-9)),
                   int(agree.sum()))  # fmt: skip


def without(events: Events, gone: Tensor) -> Events:
    """The events but for those of a bool[n, l] mask, left aligned again."""
    known = events.known & ~gone
    order = torch.argsort((~known).to(torch.int8), dim=1, stable=True)
    known = known.gather(1, order)
    fields = events.fields.gather(1, order[:, :, None].expand_as(events.fields))
    times = events.times.gather(1, order).masked_fill(~known, -1)
    return Events(fields * known[:, :, None], times, known)


@torch.no_grad()
def reasons(
    model: Model, reader: Reader, rows: NDArray[np.int64], product: int
) -> dict[str, NDArray[np.float64]]:
    """What each channel, and the profile, add to the log-odds of a product's conversion.

    Returns:
        float64[m] by name: how far the logit falls when those events are not told, or when the
        profile (user and whole activity) is not.
    """
    here = torch.from_numpy(rows)
    events, asked = reader.events(here), reader.asked(here, product)
    tower = model.tower.eval()

    def logit(read: Events, about: Asked) -> NDArray[np.float64]:
        return tower.logits(tower.states(read, about.now), about).double().numpy()

    whole = logit(events, asked)
    out = {
        channel: whole - logit(without(events, events.fields[:, :, 2] == code), asked)
        for code, channel in enumerate(CHANNELS, start=1)
    }
    nobody = Asked(asked.fields, torch.zeros_like(asked.dense), asked.now, asked.before)
    return out | {"profile": whole - logit(events, nobody)}


def write_decisions(
    folder: Path, log: Log, rows: NDArray[np.int64], click: NDArray[np.float64],
    conversion: NDArray[np.float64], why: dict[str, NDArray[np.float64]], model: str,
) -> int:  # fmt: skip
    """Write ``decisions.jsonl``, a line a decision: what was known, possible, chosen, and why.

    Args:
        folder: where it goes.
        log: the events.
        rows: int64[m], impressions.
        click: float64[m, products], chances of a click.
        conversion: float64[m, products], chances of a conversion after it.
        why: of :func:`reasons`.
        model: what decided.

    Returns:
        How many lines.
    """
    may, value = allowed(log, rows), click * conversion * VALUES
    choice = np.where(may, value, -np.inf).argmax(axis=1)
    users = log.users[rows]
    lines = []
    for n, row in enumerate(rows):
        parts = sorted(((key, float(part[n])) for key, part in why.items()), key=lambda x: -x[1])
        lines.append(json.dumps({
            "user": int(users[n]), "time": int(log.times[row]), "model": model,
            "context": log.context[row].tolist(), "shown": PRODUCTS[choice[n]],
            "products": {name: {"may": bool(may[n, p]), "click": round(float(click[n, p]), 5),
                                "conversion": round(float(conversion[n, p]), 5),
                                "value": round(float(value[n, p]), 4)}
                         for p, name in enumerate(PRODUCTS)},
            "reasons": [{"of": key, "log_odds": round(part, 4)} for key, part in parts[:3]],
        }))  # fmt: skip
    write_text("\n".join(lines) + "\n", folder / "decisions.jsonl")
    return len(lines)


def slices(
    log: Log, rows: NDArray[np.int64], chances: NDArray[np.float64], labels: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """AUC and calibration error by segment of the user."""
    segment = log.statics[log.users[rows], 0]
    out = []
    for code in range(STATICS[0]):
        mine = segment == code
        out.append(
            {
                "slice": _SEGMENTS[code],
                "cases": int(mine.sum()),
                "auc": auc(chances[mine], labels[mine]),
                "error": reliability(chances[mine], labels[mine]).error if mine.any() else 0.0,
            }
        )
    return out  # fmt: skip


def moved(log: Log, days: int = 60) -> dict[str, float]:
    """Population stability of every field of events, the last days against those before."""
    late = log.times > int(log.times.max()) - days * DAY
    names = ("entity", "kind", "channel", "amount", "response")
    return {name: drift(column[~late], column[late])
            for name, column in zip(names, log.fields.T, strict=True)}  # fmt: skip


def latency(models: Sequence[Model], reader: Reader, rows: NDArray[np.int64]) -> dict[str, float]:
    """Milliseconds of one request: read the history, ask both towers about every product.

    Args:
        models: the causal tower, then the one that reads the whole.
        reader: of the log.
        rows: int64[m], requests, one at a time.

    Returns:
        ``p50``, ``p99`` and ``requests``.
    """
    taken = []
    products = len(PRODUCTS)
    for model in models:
        model.eval()
    for row in rows:
        began = time.perf_counter()
        here = torch.tensor([row])
        events = reader.events(here)
        asked = reader.asked(here.expand(products))
        fields = torch.cat([torch.arange(1, products + 1)[:, None], asked.fields[:, 1:]], dim=1)
        about = Asked(fields, asked.dense, asked.now, asked.before)
        with torch.no_grad():
            click = models[0].tower.states(events)[:, int(events.known.sum())]
            whole = models[1].tower.states(events, about.now[:1])
            for model, state in zip(models, (click, whole), strict=True):
                model.tower.logits(state.expand(products, -1), about).sigmoid()
        taken.append(1000 * (time.perf_counter() - began))
    timed = np.array(taken[min(20, len(taken) // 2) :])  # the first ones warm up
    return {"p50": float(np.quantile(timed, 0.5)), "p99": float(np.quantile(timed, 0.99)),
            "requests": len(timed)}  # fmt: skip
