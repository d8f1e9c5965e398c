"""Contributions to a sum, read off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.explanation.base import Attribution
from onoma.recommenders.base import Recommender
from onoma.recommenders.inputs import Additive


class Exact(Attribution):
    """The parts of an additive recommender's score; no path or perturbation can say more."""

    name = "exact"
    needs = "additive"

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        assert isinstance(model, Additive)
        return model.parts(history, targets)
