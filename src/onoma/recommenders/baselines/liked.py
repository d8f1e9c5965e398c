"""How often an item is liked: what a yes-or-no question is worth without its history."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.tuned.questions import questions


class Liked(Recommender):
    """Ranks by the share of likes among an item's training answers, drawn to the share of all.

    Args:
        prior: answers that the share of all counts for.

    Raises:
        ValueError: a prior below zero.
    """

    name = "liked"

    def __init__(self, prior: float = 5.0) -> None:
        if prior < 0:
            raise ValueError("prior must be at least 0")
        self.prior = prior
        self._share: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def fit(self, split: Split) -> Self:
        """Count the training answers."""
        asked, _ = questions(split)
        items = asked.targets.values.astype(np.int64)
        labels = np.ones(len(items), bool) if asked.labels is None else asked.labels
        size = split.dataset.n_items
        total = np.bincount(items, minlength=size).astype(np.float64)
        yes = np.bincount(items[labels], minlength=size).astype(np.float64)
        overall = float(labels.mean()) if len(labels) else 0.5
        self._share = ((yes + self.prior * overall) / (total + self.prior + 1e-9)).astype(
            np.float32
        )
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the same in every row."""
        return torch.from_numpy(np.tile(self._share, (len(requests), 1)))

    def save(self, folder: str | Path) -> None:
        """Write the shares."""
        save_model(folder, self.name, {"prior": self.prior}, {"share": self._share})

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_model(folder, cls.name, dataset)
        model = cls(**settings)
        model._share = arrays["share"]
        return model
