"""Items at random: the floor of accuracy and the ceiling of coverage."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.storage import load_model, save_model


class Random(Recommender):
    """An order of the catalogue drawn for each history: all orders are equally likely.

    Args:
        seed: of the draws. Equal histories have equal answers.
    """

    name = "random"
    takes = frozenset({"seed"})

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._n_items = 0

    def fit(self, split: Split) -> Self:
        """Count the catalogue."""
        self._n_items = split.dataset.n_items
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], uniform in [0, 1)."""
        out = np.empty((len(requests), self._n_items), dtype=np.float32)
        for row in range(len(requests)):
            had = np.asarray(requests.history[row], dtype=np.int64).tobytes()
            drawn = int.from_bytes(hashlib.sha256(had).digest()[:8], "little")
            out[row] = np.random.default_rng([self.seed, drawn]).random(self._n_items, np.float32)
        return torch.from_numpy(out)

    def save(self, folder: str | Path) -> None:
        """Write the seed and the size of the catalogue."""
        save_model(folder, self.name, {"seed": self.seed}, {"known": np.ones(self._n_items, bool)})

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_model(folder, cls.name, dataset)
        model = cls(**settings)
        model._n_items = len(arrays["known"])
        return model
