"""Figures of yes-or-no questions: who tells liked items from the others?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged, Split
from onoma.dataset.files import write_parquet
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.ranking.clicks import auc

NAME = "judged.parquet"
DRAWS = 1000  # bootstrap samples
_SEED = 0


def majority(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The row of who gives the more frequent answer to every question; none without answers.

    Args:
        figures: of :meth:`Judged.summary`, or any other.
    """
    right = figures.get("majority_accuracy")
    if right is None:
        return {}
    row = {"auc": 0.5} | ({"uauc": 0.5} if "uauc" in figures else {})
    return {f"majority (right in {right:.1%})": row}


@dataclass(frozen=True)
class Judged:
    """Answers of a recommender to n questions.

    Attributes:
        scores: float64[n], higher is likelier liked.
        labels: bool[n], whether it was.
        users: int32[n].
        counts: int64[n], how often the target is judged in training.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.bool_]
    users: NDArray[np.int32]
    counts: NDArray[np.int64]

    def summary(self) -> dict[str, Any]:
        """``auc``, ``uauc`` where users have questions of both kinds, slices and intervals."""
        out: dict[str, Any] = {"cases": len(self.scores), "auc": auc(self.scores, self.labels)}
        found = user_auc(self.scores, self.labels, self.users)
        if found is not None:
            out["uauc"] = found
        out["liked"] = float(self.labels.mean())
        # What saying the more frequent answer to everything gets right.
        out["majority_accuracy"] = max(out["liked"], 1 - out["liked"])
        drawn = np.array([auc(self.scores[rows], self.labels[rows]) for rows in self._draws()])
        out["ci95"] = {"auc": [float(x) for x in np.quantile(drawn, [0.025, 0.975])]}
        out["slices"] = {
            name: {
                "cases": int(rows.sum()),
                "share": float(rows.mean()),
                "auc": auc(self.scores[rows], self.labels[rows]),
            }
            for name, rows in (("cold", self.counts == 0), ("warm", self.counts > 0))
            if rows.any()
        }
        return out

    def write(self, folder: Path) -> None:
        """Write ``judged.parquet``: a row a question."""
        columns = {
            "user": self.users, "liked": self.labels, "score": self.scores, "counted": self.counts
        }  # fmt: skip
        write_parquet(pl.DataFrame(columns), folder / NAME)

    @classmethod
    def read(cls, folder: Path) -> Judged | None:
        """What :meth:`write` wrote, or None where it is missing or damaged."""
        try:
            table = pl.read_parquet(folder / NAME)
            return cls(
                table["score"].to_numpy().astype(np.float64),
                table["liked"].to_numpy().astype(bool),
                table["user"].to_numpy().astype(np.int32),
                table["counted"].to_numpy().astype(np.int64),
            )
        except (OSError, pl.exceptions.PolarsError):
            return None

    def _draws(self) -> Iterator[NDArray[np.integer]]:
        """Bootstrap samples of users with all their questions, which are not independent."""
        _, owner = np.unique(self.users, return_inverse=True)
        order = np.argsort(owner, kind="stable")
        asked = Ragged.from_groups(owner[order], order, int(owner.max(initial=-1)) + 1)
        draw = np.random.default_rng(_SEED)
        for _ in range(DRAWS):
            yield asked.take(draw.integers(0, len(asked), len(asked))).values

    def above(self, other: Judged) -> dict[str, Any]:
        """The difference in AUC to another recommender on the same questions.

        Returns:
            ``difference``, its 95 % interval over paired bootstrap samples of users, and ``p``:
            twice the share of samples on the other side of zero.
        """
        drawn = np.array(
            [
                auc(self.scores[rows], self.labels[rows])
                - auc(other.scores[rows], other.labels[rows])
                for rows in self._draws()
            ]
        )
        low, high = np.quantile(drawn, [0.025, 0.975])
        sided = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
        return {
            "metric": "auc",
            "difference": auc(self.scores, self.labels) - auc(other.scores, other.labels),
            "ci95": [float(low), float(high)],
            "p": min(1.0, 2 * max(sided, 1 / DRAWS)),
        }


def judged(model: Recommender, cases: Cases, split: Split, mode: str | None = None) -> Judged:
    """What a recommender answers to questions with ``labels``.

    It is asked for the score of the target alone; a target that it cannot score comes last.

    Args:
        model: fitted.
        cases: n of them.
        split: whose training questions tell cold targets.
        mode: what answers; the recommender's first where not given.

    Raises:
        ValueError: cases without labels.
    """
    if cases.labels is None:
        raise ValueError("cases without labels")
    targets = cases.targets.values.astype(np.int32)
    requests = Requests(
        cases.history, cases.users, candidates=targets[:, None], mask_seen=False,
        times=cases.times, liked=cases.liked,
    )  # fmt: skip
    scores = model.recommend(requests, 1, mode=mode).scores[:, 0].astype(np.float64)
    asked = split.asked
    known = np.zeros(split.dataset.n_items, dtype=np.int64)
    if asked is not None:
        known = np.bincount(asked.targets.values, minlength=len(known))
    return Judged(scores, cases.labels, cases.users, known[targets])


def user_auc(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], users: NDArray[np.integer]
) -> float | None:
    """Mean AUC of the users with both answers; None where there is no such user."""
    order = np.argsort(users, kind="stable")
    edges = np.flatnonzero(np.diff(users[order])) + 1
    found = [
        auc(scores[rows], labels[rows])
        for rows in np.split(order, edges)
        if 0 < labels[rows].sum() < len(rows)
    ]
    return float(np.mean(found)) if found else None
