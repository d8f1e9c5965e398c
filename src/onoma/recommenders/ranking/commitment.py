"""How far users went with what they took, what others took before, and figures by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from onoma.dataset import Cases, Split
from onoma.dataset.events import log_rows
from onoma.errors import OnomaError
from onoma.recommenders.ranking.clicks import auc

PERIODS = 16  # cuts of the training time, between which anchors stay as they are
_SEED = 0  # of the negatives that validation and test are asked about


@dataclass(frozen=True)
class Levels:
    """How far each interaction went: 0 for taken, 1 for the first of the chain, and so on.

    Attributes:
        train: int64, aligned with ``split.train.values``.
        valid: int64, aligned with ``split.valid.targets.values``.
        test: int64, aligned with ``split.test.targets.values``.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def levels(split: Split, chain: Sequence[float | str]) -> Levels:
    """The level of every interaction.

    Args:
        split: the data.
        chain: least ratings, rising, or names of events, each a stronger commitment than the one
            before. Where the log has neither ratings nor events, everything went all the way.

    Raises:
        OnomaError: ratings that do not rise, or no interaction has one of the events.
    """
    log, rows = split.dataset.interactions, log_rows(split)
    words = [step for step in chain if isinstance(step, str)]
    if words and len(words) != len(chain):
        raise OnomaError(f"{list(chain)} mixes ratings and events", where="recommender.levels")
    column = "event" if words else "rating"
    if not chain or column not in log.columns:
        found = np.full(log.height, len(chain), dtype=np.int64)
    elif words:
        places = {word: place + 1 for place, word in enumerate(words)}
        told = log["event"].replace_strict(places, default=0, return_dtype=pl.Int64)
        found = told.fill_null(0).to_numpy()
        if not found.any():
            raise OnomaError(f"no interaction is one of {words}", where=split.dataset.name)
    else:
        edges = np.array(chain, dtype=np.float64)
        if (np.diff(edges) <= 0).any():
            raise OnomaError(f"{list(chain)} does not rise", where="recommender.levels")
        rated = log["rating"].fill_null(-np.inf).to_numpy().astype(np.float64)
        found = np.searchsorted(edges, np.nan_to_num(rated, nan=-np.inf), side="right")
    return Levels(found[rows.train], found[rows.valid], found[rows.test])


def anchors(
    split: Split, level: NDArray[np.int64], kinds: NDArray[np.int64], tasks: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The items of each category that most people took, by level, as known at several times.

    Args:
        split: its training part is read, and of that only what lies before each time.
        level: int64, aligned with ``split.train.values``.
        kinds: int64[n_items], a category for each item.
        tasks: levels, ``taken`` among them.
        size: items a group.

    Returns:
        int64[p] times at which lists begin to hold, and int64[p, n_kinds, tasks, size] items, best
        first, n_items where there are no more. Where no time is known no list has an item: counts
        would hold the answers of training.
    """
    n, times, values = split.dataset.n_items, split.train_times, split.train.values
    known = times >= 0
    if not known.any():
        starts = np.zeros(1, dtype=np.int64)
        known = np.zeros(len(times), dtype=np.bool_)
    else:
        cuts = np.quantile(times[known], np.arange(PERIODS) / PERIODS, method="lower")
        starts = np.unique(np.append(cuts, times.max() + 1)).astype(np.int64)
    lists = np.full((len(starts), int(kinds.max(initial=0)) + 1, tasks, size), n, dtype=np.int64)
    for period, start in enumerate(starts):
        before = known & (times < start)
        for task in range(tasks):
            counts = np.bincount(values[before & (level >= task)], minlength=n)
            order = np.lexsort((np.arange(n), -counts, kinds))
            order = order[counts[order] > 0]
            of = kinds[order]
            place = np.arange(len(order)) - np.searchsorted(of, of)
            kept = place < size
            lists[period, of[kept], task, place[kept]] = order[kept]
    return starts, lists


def asked_about(cases: Cases, n_items: int, against: float) -> NDArray[np.int64]:
    """The targets of every case, and uniform items that its user did not take.

    Args:
        cases: n cases.
        n_items: of the catalogue.
        against: negatives for each target; what a user took is left out, so there may be fewer.

    Returns:
        int64[n, c], first the targets in their order, -1 behind what is there. The draw is the
        same for every model and seed.
    """
    targets = cases.targets.padded(-1)
    most = targets.shape[1]
    drawn = np.random.default_rng(_SEED).integers(0, n_items, (len(cases), round(most * against)))
    drawn = np.sort(drawn, axis=1)
    drawn[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = -1
    taken = cases.history.concat(cases.targets)
    keys = np.unique(taken.rows() * n_items + taken.values)
    asked = np.arange(len(cases))[:, None] * n_items + drawn
    drawn[np.isin(asked, keys)] = -1
    # As many as the case has targets for: long lists are cut by chance, not by code.
    noise = np.random.default_rng([_SEED, 1]).random(drawn.shape)
    order = np.argsort(np.where(drawn < 0, 2.0, noise), axis=1)
    drawn = np.take_along_axis(drawn, order, axis=1)
    wanted = np.round(cases.targets.lengths * against).astype(np.int64)
    drawn[np.arange(drawn.shape[1]) >= wanted[:, None]] = -1
    both = np.concatenate([targets, drawn], axis=1)
    order = np.argsort(both < 0, axis=1, kind="stable")
    return np.take_along_axis(both, order, axis=1)


def task_figures(
    cases: Cases, level: NDArray[np.int64], items: NDArray[np.int64], scores: NDArray[np.floating]
) -> dict[str, list[float] | int]:
    """How well scores tell what went how far.

    Args:
        cases: n cases.
        level: int64, aligned with ``cases.targets.values``.
        items: int64[n, c], by :func:`asked_about`.
        scores: float[n, c, tasks].

    Returns:
        ``auc``, a figure a task, over all that was asked about; ``gauc``, the same inside users,
        weighed by what they were asked about; ``taken_auc``, among targets alone; ``pairs``.
    """
    n, wide, tasks = scores.shape
    went = np.full((n, wide), -1, dtype=np.int64)
    column = np.arange(len(level)) - np.repeat(cases.targets.offsets[:-1], cases.targets.lengths)
    went[cases.targets.rows(), column] = level
    there = items >= 0
    out: dict[str, list[float] | int] = {"auc": [], "gauc": [], "taken_auc": []}
    for task in range(tasks):
        found, right = scores[:, :, task].astype(np.float64), went >= task
        row = {
            "auc": auc(found[there], right[there]),
            "gauc": _inside(found, right, there),
            "taken_auc": auc(found[there & (went >= 0)], right[there & (went >= 0)]),
        }
        for key, value in row.items():
            figures = out[key]
            assert isinstance(figures, list)
            figures.append(value)
    return out | {"pairs": int(there.sum())}


def _inside(
    scores: NDArray[np.float64], right: NDArray[np.bool_], there: NDArray[np.bool_]
) -> float:
    """Mean AUC of the rows that have both, weighed by their size."""
    # What is not there ranks last, so the ranks of the rest are theirs.
    ranks = rankdata(np.where(there, scores, np.inf), axis=1)
    yes = (right & there).sum(1)
    no = there.sum(1) - yes
    above = np.where(right & there, ranks, 0).sum(1) - yes * (yes + 1) / 2
    both = (yes > 0) & (no > 0)
    if not both.any():
        return 0.5
    value = above[both] / (yes * no)[both]
    return float(np.average(value, weights=(yes + no)[both]))
