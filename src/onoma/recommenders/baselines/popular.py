"""Most popular items of the training data."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.storage import load_model, save_model


class MostPopular(Recommender):
    """The same answer to everybody: items by number of training interactions."""

    name = "popular"
    reads = frozenset[str]()

    def __init__(self) -> None:
        self._counts: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    @classmethod
    def of(cls, counts: NDArray[np.integer] | NDArray[np.float32]) -> Self:
        """Fitted, from how often each item was taken."""
        model = cls()
        model._counts = counts.astype(np.float32)
        return model

    @property
    def counts(self) -> NDArray[np.float32]:
        """float32[n_items], training interactions of each item."""
        return self._counts

    def fit(self, split: Split) -> Self:
        """Count."""
        self._counts = split.train_counts.astype(np.float32)
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], training interactions of each item."""
        return torch.from_numpy(np.tile(self._counts, (len(requests), 1)))

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], zeros: the answer is the same for everybody."""
        return np.zeros(len(history.values), dtype=np.float32)

    def save(self, folder: str | Path) -> None:
        """Write the counts."""
        save_model(folder, self.name, {}, {"counts": self._counts})

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read the counts."""
        _, arrays = load_model(folder, cls.name, dataset)
        model = cls()
        model._counts = arrays["counts"]
        return model
