"""What users alike to a history took."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.encoding.cooccurrence import interactions
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.baselines.sparse import dense, strongest, tie_breaker
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.tuning import choose, grid


class UserKNN(Recommender):
    """Training users by shrunk cosine to a history, summed over the items that they took.

    ``s_uv = |u and v| / (sqrt(|u| |v|) + shrink)`` over distinct items; the ``neighbours`` most
    alike have a say. A user whose training row is the history itself, or holds nothing else, adds
    nothing that is not masked. A setting left at None is chosen on validation NDCG@10.

    Args:
        neighbours: users who have a say.
        shrink: added below the line; large values distrust small counts.

    Resnick et al., CSCW 1994, for implicit data; S053 tries 20 to 100 neighbours.
    """

    name = "userknn"
    batch = 512

    def __init__(self, neighbours: int | None = None, shrink: float | None = None) -> None:
        if neighbours is not None and neighbours < 1:
            raise ValueError("neighbours must be at least 1")
        if shrink is not None and shrink < 0:
            raise ValueError("shrink must not be negative")
        self.neighbours, self.shrink = neighbours, shrink
        self.training: dict[str, Any] = {}
        self._seen = sp.csr_array((0, 0), dtype=np.float32)
        self._popularity: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._neighbours, self._shrink = neighbours or 1, shrink or 0.0

    def fit(self, split: Split) -> Self:
        """Keep who took what, then choose what is open on ``split.valid``."""
        self._seen = interactions(split.train, split.dataset.n_items)
        self._popularity = tie_breaker(split.train_counts)
        options = grid(
            neighbours=[20, 50, 100] if self.neighbours is None else [self.neighbours],
            shrink=[0.0, 10.0] if self.shrink is None else [self.shrink],
        )

        def apply(option: dict[str, Any]) -> Recommender:
            self._neighbours, self._shrink = option["neighbours"], option["shrink"]
            return self

        self.training = choose(options, apply, split.valid).describe()
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], summed likeness; popularity orders what no neighbour took."""
        asked = interactions(requests.history, self._seen.shape[1])
        shared = sp.csr_array(asked @ self._seen.T)
        own = np.sqrt(np.diff(asked.indptr)).astype(np.float32)
        theirs = np.sqrt(np.diff(self._seen.indptr)).astype(np.float32)
        rows = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
        shared.data = shared.data / (own[rows] * theirs[shared.indices] + np.float32(self._shrink))
        out = dense(sp.csr_array(strongest(shared, self._neighbours) @ self._seen))
        return out + torch.from_numpy(self._popularity * np.float32(1e-6))

    def save(self, folder: str | Path) -> None:
        """Write who took what and the chosen settings."""
        settings = {"neighbours": self._neighbours, "shrink": self._shrink}
        arrays = {"taken": sp.csr_array(self._seen.T), "popularity": self._popularity}
        save_model(folder, self.name, settings, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_model(folder, cls.name, dataset)
        model = cls(**settings)
        model._seen, model._popularity = sp.csr_array(arrays["taken"].T), arrays["popularity"]
        return model
