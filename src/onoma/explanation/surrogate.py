"""A straight line fitted to what happens when random parts of a history are hidden."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.explanation.base import Attribution, chances
from onoma.explanation.told import told
from onoma.recommenders.base import Recommender


class Surrogate(Attribution):
    """LIME's ridge regression of the answer on which items were kept (Ribeiro et al., KDD 2016).

    Args:
        samples: random halves of each history.
        ridge: penalty.
        kernel: width of the weight ``exp(-(share hidden / kernel) ** 2)`` of a sample.
        seed: of the samples.
    """

    name = "lime"

    def __init__(
        self, samples: int = 200, ridge: float = 1.0, kernel: float = 0.75, seed: int = 0
    ) -> None:
        self.samples, self.ridge, self.kernel, self.seed = samples, ridge, kernel, seed

    @classmethod
    def create(cls, split: Split, seed: int = 0) -> Self:
        """Nothing is read."""
        return cls(seed=seed)

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        kept = chances(self.seed, history, targets, self.samples) < 0.5
        answers = np.stack([told(model, history.where(mask), targets) for mask in kept])
        out = np.zeros(len(history.values), dtype=np.float32)
        for row in range(len(history)):  # a regression each; scoring above is what costs
            own = slice(history.offsets[row], history.offsets[row + 1])
            out[own] = self._fit(kept[:, own].astype(np.float64), answers[:, row])
        return out

    def _fit(self, kept: NDArray[np.float64], answers: NDArray[np.float32]) -> NDArray[np.float64]:
        if not kept.shape[1]:
            return np.zeros(0)
        weight = np.exp(-(((1 - kept.mean(axis=1)) / self.kernel) ** 2))
        centred = kept - np.average(kept, axis=0, weights=weight)
        rest = answers - np.average(answers, weights=weight)
        gram = (centred * weight[:, None]).T @ centred + self.ridge * np.eye(kept.shape[1])
        return np.linalg.solve(gram, (centred * weight[:, None]).T @ rest)
