"""One evaluator for every recommender: whole catalogue, all cases, hits counted on items."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Split
from onoma.evaluation import beyond as _beyond
from onoma.evaluation.metrics import FORMULAS, formula, metrics
from onoma.evaluation.significance import bootstrap_ci
from onoma.evaluation.slices import DESCRIPTIONS, slices
from onoma.evaluation.ties import averaged
from onoma.recommenders.base import Ranking, Recommender, Requests

KS = (1, 5, 10, 20, 50)


@dataclass(frozen=True)
class Evaluation:
    """What a recommender answered to n cases and how good each answer was.

    Attributes:
        ranking: items int32[n, max k] and scores.
        cases: the questions and what happened next.
        metrics: ``{"ndcg@10": float64[n], ...}``, one figure a case.
        slices: ``{"cold": bool[n], ...}``.
        beyond: ``{"coverage@10": float, ...}``.
        invalid_items: answers outside the catalogue or given twice in a row.
        ks: the cuts.
        mask_seen: whether items of the history were left out.
        mode: the recommender's mode, None for its default.
        seconds: time spent in ``recommend``.
    """

    ranking: Ranking
    cases: Cases
    metrics: dict[str, NDArray[np.float64]]
    slices: dict[str, NDArray[np.bool_]]
    beyond: dict[str, float]
    invalid_items: int
    ks: tuple[int, ...]
    mask_seen: bool
    mode: str | None = None
    seconds: float = 0.0
    formulas: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cases)

    def mean(self, key: str) -> float:
        """The mean of one metric, such as ``ndcg@10``, over all cases."""
        return float(self.metrics[key].mean())

    def summary(
        self, *, level: float = 0.95, samples: int = 1_000, seed: int = 0
    ) -> dict[str, Any]:
        """What a metrics file records, ready for JSON.

        The means stand flat under their keys (``recall@10``: number) and their bootstrap
        intervals in one map of the same keys (``ci95``: ``{"recall@10": [low, high]}``).
        Besides: ``cases``, ``mask_seen``, ``mode``, ``invalid_items``, ``slices`` (of each:
        ``cases``, ``share``, ``recall@k`` and ``ndcg@k`` at the reported k), ``beyond``,
        ``formulas``, ``seconds``; where answers can be of no use, ``unanswered`` (how many were)
        and ``worst`` (the means with 0 for these).

        Args:
            level: coverage; the map is called ``ci`` and its per cent, ``ci95``.
            samples: bootstrap draws.
            seed: of the bootstrap.
        """
        keys = list(self.metrics)
        table = np.stack([self.metrics[key] for key in keys], axis=1)
        intervals = bootstrap_ci(table, level=level, samples=samples, seed=seed)
        k = _middle(self.ks)
        shown = [f"recall@{k}", f"ndcg@{k}"]
        answered = self.ranking.answered
        bad: dict[str, Any] = {}
        if answered is not None:
            worst = (table * answered[:, None]).mean(axis=0)
            bad = {
                "unanswered": int((~answered).sum()),
                "worst": {key: float(mean) for key, mean in zip(keys, worst, strict=True)},
            }
        parts = {
            name: {
                "cases": int(rows.sum()),
                "share": float(rows.mean()),
                **{key: float(self.metrics[key][rows].mean()) for key in shown},
            }
            for name, rows in self.slices.items()
            if rows.any()
        }
        return {
            **{key: float(mean) for key, mean in zip(keys, table.mean(axis=0), strict=True)},
            f"ci{round(level * 100)}": {
                key: [float(low), float(high)]
                for key, (low, high) in zip(keys, intervals, strict=True)
            },
            "cases": len(self),
            **bad,
            "mask_seen": self.mask_seen,
            "mode": self.mode,
            "invalid_items": self.invalid_items,
            "slices": parts,
            "beyond": self.beyond,
            "formulas": self.formulas,
            "seconds": round(self.seconds, 3),
        }


def evaluate(
    recommender: Recommender,
    cases: Cases,
    split: Split,
    *,
    ks: Sequence[int] = KS,
    mask_seen: bool = True,
    mode: str | None = None,
    batch: int | None = None,
    vectors: Any = None,
    candidates: NDArray[np.int32] | None = None,
) -> Evaluation:
    """Ask every case once and measure the answers.

    Args:
        recommender: fitted.
        cases: usually ``split.valid`` or ``split.test``.
        split: its catalogue says what is a valid item, its training part defines the slices.
        ks: the cuts; the largest is asked for.
        mask_seen: leave items of the history out of the answers.
        mode: one of the recommender's modes.
        batch: cases a call of ``recommend``; default all (the recommender batches by itself).
        vectors: float[n_items, d], dense or sparse, for the intra-list distance.
        candidates: int32[n, c], a short list a case in place of the whole catalogue; all of it is
            asked for, and equal scores count as the mean over the orders that they leave open.

    Raises:
        ValueError: no cases, a k below one, or an unknown mode.
    """
    if not len(cases):
        raise ValueError("no cases to evaluate")
    ks = tuple(sorted(set(ks)))
    if not ks or ks[0] < 1:
        raise ValueError(f"k must be at least 1, not {ks}")
    start = time.perf_counter()
    requests = replace(Requests.of(cases, mask_seen=mask_seen), candidates=candidates)
    step, k = batch or len(cases), ks[-1]
    if candidates is not None:
        k = max(k, candidates.shape[1])
    parts = [
        recommender.recommend(requests.slice(low, min(low + step, len(cases))), k, mode=mode)
        for low in range(0, len(cases), step)
    ]
    ranking = Ranking.joined(parts)
    seconds = time.perf_counter() - start
    return measured(
        ranking,
        cases,
        split,
        ks=ks,
        mask_seen=mask_seen,
        mode=mode,
        vectors=vectors,
        seconds=seconds,
        ties=candidates is not None,
    )


def measured(
    ranking: Ranking,
    cases: Cases,
    split: Split,
    *,
    ks: Sequence[int] = KS,
    mask_seen: bool = True,
    mode: str | None = None,
    vectors: Any = None,
    seconds: float = 0.0,
    ties: bool = False,
) -> Evaluation:
    """The evaluation of answers that are already there; arguments as of :func:`evaluate`.

    ``ties``: the ranking holds all candidates, and equal scores count by
    :func:`onoma.evaluation.ties.averaged`.
    """
    n_items, k = split.dataset.n_items, _middle(tuple(ks))
    if ties:
        figures = averaged(ranking.items, ranking.scores, cases.targets, ks)
    else:
        figures = metrics(ranking.items, cases.targets, ks)
    names = dict.fromkeys(key.partition("@")[0] for key in figures)
    return Evaluation(
        ranking=ranking,
        cases=cases,
        metrics=figures,
        slices=slices(cases, split),
        beyond=_beyond.beyond(
            np.where(ranking.items < n_items, ranking.items, -1),
            split.train_counts,
            k=k,
            history=cases.history,
            targets=cases.targets,
            vectors=vectors,
        ),
        invalid_items=invalid_items(ranking.items, n_items),
        ks=tuple(ks),
        mask_seen=mask_seen,
        mode=mode,
        seconds=seconds,
        formulas={
            **{f"{name}@k": formula(name) for name in names if name in FORMULAS},
            **{f"{name}@{k}": text for name, text in _beyond.FORMULAS.items()},
            **DESCRIPTIONS,
        },
    )


def invalid_items(items: NDArray[np.integer], n_items: int) -> int:
    """How many answers are outside the catalogue or repeat an earlier one of their row.

    Args:
        items: int[n, k]; -1 is padding and no answer at all.
        n_items: catalogue size.
    """
    outside = (items >= n_items) | (items < -1)
    ordered = np.sort(items, axis=1)
    repeats = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return int(outside.sum() + (repeats & (ordered[:, 1:] < n_items)).sum())


def _middle(ks: tuple[int, ...]) -> int:
    """The k of slices and beyond-accuracy figures: 10 where it is measured, else the largest."""
    return 10 if 10 in ks else ks[-1]
