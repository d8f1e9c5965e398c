"""Paths that start at other people (SPINRec, S114)."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.explanation.base import Attribution
from onoma.explanation.fidelity import deletion
from onoma.explanation.path import Of, along
from onoma.recommenders.base import Recommender
from onoma.recommenders.inputs import Differentiable


class SPINRec(Attribution):
    """Path gradients from several training users' histories; the most faithful map is kept.

    For each row the same number of training histories is drawn, gradients are integrated from
    each to the row's own history, and the map whose deletion curve falls fastest is the answer.
    The choice is made by deletion alone and all figures are of the map so chosen; the paper's
    program picks anew for every metric, which no explanation shown to a person can do. An item
    that a drawn history holds too (for a sequence: at the same place from the end) does not move
    along that path and contributes 0 on it.

    Args:
        train: histories to draw from.
        draws: paths a row.
        steps: points on a path.
        seed: equal seeds draw equal histories for equal rows.
        of: what is differentiated, as for :class:`onoma.explanation.path.PathGradients`.

    Barkan et al., arXiv 2511.18047, section on stochastic path integration.
    """

    name = "spinrec"
    needs = "differentiable"

    def __init__(
        self,
        train: Ragged,
        draws: int = 10,
        steps: int = 10,
        seed: int = 0,
        of: Of = "logit",
    ) -> None:
        self.pool = train.take(np.flatnonzero(train.lengths > 0))
        self.draws, self.steps, self.seed, self.of = draws, steps, seed, of

    @classmethod
    def create(cls, split: Split, seed: int = 0) -> Self:
        """Draw from the training histories."""
        return cls(split.train, seed=seed)

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        assert isinstance(model, Differentiable)
        entry = model.enter(history)
        rng = np.random.default_rng(self.seed)
        rows = history.rows()
        best = np.zeros(len(rows), dtype=np.float32)
        fallen = np.full(len(history), np.inf)
        for _ in range(self.draws):
            drawn = self.pool.take(rng.integers(len(self.pool), size=len(history)))
            start = model.stand_in(drawn, entry)
            found = along(model, history, entry, start, targets, self.steps, self.of)
            area = deletion(model, history, found, targets)
            better = area < fallen
            fallen[better] = area[better]
            best = np.where(better[rows], found, best)
        return best
