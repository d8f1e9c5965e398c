"""What followed the last item in training."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.cooccurrence import transitions
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.baselines.sparse import brought, dense, last_items, tie_breaker
from onoma.recommenders.storage import load_model, save_model


class Markov(Recommender):
    """First-order transition counts from the last item.

    Equal counts, and items that never followed, are ordered by popularity; so is everything for
    an empty history.
    """

    name = "markov"

    def __init__(self) -> None:
        self._counts = sp.csr_array((0, 0), dtype=np.float32)
        self._popularity: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def fit(self, split: Split) -> Self:
        """Count the steps of the training sequences."""
        self._counts = transitions(split.train, split.dataset.n_items)
        self._popularity = tie_breaker(split.train_counts)
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], steps from the last item plus popularity below one half."""
        last = last_items(requests.history)
        counts = dense(self._counts[np.maximum(last, 0)])
        counts[torch.from_numpy(last < 0)] = 0
        return counts + torch.from_numpy(self._popularity)

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total]: all the steps for the last item, nothing for the others."""
        return brought(history, targets, self._counts, 0.0)

    def save(self, folder: str | Path) -> None:
        """Write the counts."""
        arrays = {"counts": self._counts, "popularity": self._popularity}
        save_model(folder, self.name, {}, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read the counts."""
        _, arrays = load_model(folder, cls.name, dataset)
        model = cls()
        model._counts, model._popularity = arrays["counts"], arrays["popularity"]
        return model
