"""Neighbours of the items of a history."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.cooccurrence import interactions
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.baselines.sparse import brought, dense, query, strongest, tie_breaker
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.tuning import choose, grid

_BLOCK = 2048


class ItemKNN(Recommender):
    """Shrunk cosine between items over the users they share, summed over a history.

    ``s_ij = c_ij / (sqrt(c_i c_j) + shrink)``; the item d places before the end of a history
    weighs ``decay ** d``. A setting left at None is chosen on validation NDCG@10.

    Args:
        neighbours: kept for each item.
        shrink: added below the line; large values distrust small counts.
        decay: in [0, 1]; 1 reads the history as a set, 0 reads the last item only.

    Deshpande and Karypis, TOIS 2004.
    """

    name = "itemknn"

    def __init__(
        self,
        neighbours: int | None = None,
        shrink: float | None = None,
        decay: float | None = None,
    ) -> None:
        if neighbours is not None and neighbours < 1:
            raise ValueError("neighbours must be at least 1")
        if shrink is not None and shrink < 0:
            raise ValueError("shrink must not be negative")
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError("decay must be between 0 and 1")
        self.neighbours, self.shrink, self.decay = neighbours, shrink, decay
        self.training: dict[str, Any] = {}
        self._similar = sp.csr_array((0, 0), dtype=np.float32)
        self._popularity: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._decay = 1.0

    def fit(self, split: Split) -> Self:
        """Count pairs, then choose what is open on ``split.valid``."""
        sizes = [100, 200, 500] if self.neighbours is None else [self.neighbours]
        options = grid(
            shrink=[0.0, 10.0, 50.0, 200.0] if self.shrink is None else [self.shrink],
            decay=[1.0, 0.8, 0.5, 0.2] if self.decay is None else [self.decay],
            neighbours=[max(sizes)],
        )
        seen = interactions(split.train, split.dataset.n_items)
        self._popularity = tie_breaker(split.train_counts)
        made: dict[float, sp.csr_array] = {}

        def apply(option: dict[str, Any]) -> Recommender:
            shrink = option["shrink"]
            if shrink not in made:
                made.clear()
                made[shrink] = _cosine(seen, shrink, max(sizes))
            self._similar = strongest(made[shrink], option["neighbours"])
            self._decay = option["decay"]
            return self

        first = choose(options, apply, split.valid)
        # The neighbourhood matters least: it is chosen last, with the others fixed.
        second = choose([{**first.settings, "neighbours": k} for k in sizes], apply, split.valid)
        self.training = {**second.describe(), "tried": first.tried + second.tried}
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], summed similarity; popularity orders what no neighbour reaches."""
        asked = query(requests.history, self._similar.shape[0], self._decay)
        out = dense(asked @ self._similar)
        return out + torch.from_numpy(self._popularity * np.float32(1e-6))

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], the weight from each item to its row's target, times its decay."""
        return brought(history, targets, self._similar, self._decay)

    def save(self, folder: str | Path) -> None:
        """Write similarities and the chosen settings."""
        arrays = {"similar": self._similar, "popularity": self._popularity}
        save_model(folder, self.name, {"decay": self._decay}, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read similarities."""
        settings, arrays = load_model(folder, cls.name, dataset)
        model = cls(decay=settings["decay"])
        model._similar, model._popularity = arrays["similar"], arrays["popularity"]
        model._decay = settings["decay"]
        return model


def _cosine(seen: sp.csr_array, shrink: float, keep: int) -> sp.csr_array:
    """float32[n_items, n_items]: the ``keep`` nearest of each item, block by block."""
    back = sp.csr_array(seen.T)
    root = np.sqrt(np.diff(back.indptr)).astype(np.float32)
    blocks = []
    for start in range(0, back.shape[0], _BLOCK):
        shared = sp.csr_array(back[start : start + _BLOCK] @ seen)
        rows = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr)) + start
        shared.data = shared.data / (root[rows] * root[shared.indices] + np.float32(shrink))
        shared.data[rows == shared.indices] = 0
        shared.eliminate_zeros()
        blocks.append(strongest(shared, keep))
    return sp.csr_array(sp.vstack(blocks, format="csr"))
