"""A linear model of the whole catalogue in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.cooccurrence import interactions
from onoma.errors import OnomaError
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.baselines.sparse import brought, dense, query, tie_breaker
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.tuning import choose, grid

_BLOCK = 512


class EASE(Recommender):
    """Ridge regression of every item on all others, with a zero diagonal.

    ``P = (X'X + penalty I)^-1``, ``B_ij = -P_ij / P_jj``. Only the strongest weights of each row
    are kept, which makes the model sparse. A setting left at None is chosen on validation NDCG@10.

    Args:
        penalty: L2 penalty; each value tried costs one inverse.
        decay: weight of the item d places before the end of a history is ``decay ** d``.
        keep: weights kept for each item.
        limit: largest catalogue; the inverse needs ``4 n^2`` bytes and ``n^3`` operations.

    Steck, WWW 2019, equation 8.
    """

    name = "ease"

    def __init__(
        self,
        penalty: float | None = None,
        decay: float | None = None,
        keep: int = 1000,
        limit: int = 30_000,
    ) -> None:
        if penalty is not None and penalty <= 0:
            raise ValueError("penalty must be positive")
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError("decay must be between 0 and 1")
        if keep < 1:
            raise ValueError("keep must be at least 1")
        self.penalty, self.decay, self.keep, self.limit = penalty, decay, keep, limit
        self.training: dict[str, Any] = {}
        self._weights = sp.csr_array((0, 0), dtype=np.float32)
        self._popularity: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._decay = 1.0

    def fit(self, split: Split) -> Self:
        """Invert the item-item matrix, then choose what is open on ``split.valid``.

        Raises:
            OnomaError: the catalogue is larger than ``limit``.
        """
        n = split.dataset.n_items
        if n > self.limit:
            raise OnomaError(
                f"EASE inverts a matrix of {n} x {n} items; the limit is {self.limit}",
                where=split.dataset.name,
                fix="Use itemknn, filter with data.k_core, or raise recommender.limit",
            )
        seen = interactions(split.train, n)
        gram = sp.csr_array(seen.T @ seen)
        self._popularity = tie_breaker(split.train_counts)
        # The inverse is most of the cost: a large catalogue gets one penalty.
        open_penalties = [10.0, 50.0, 100.0, 200.0, 500.0] if n <= 5000 else [100.0]
        options = grid(
            penalty=open_penalties if self.penalty is None else [self.penalty],
            decay=[1.0, 0.8, 0.7, 0.6, 0.5, 0.3] if self.decay is None else [self.decay],
        )
        made: dict[float, sp.csr_array] = {}

        def apply(option: dict[str, Any]) -> Recommender:
            penalty = option["penalty"]
            if penalty not in made:
                made[penalty] = _weights(gram, penalty, self.keep)
            self._weights, self._decay = made[penalty], option["decay"]
            return self

        self.training = choose(options, apply, split.valid).describe()
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the regression's answer; popularity orders exact equals."""
        asked = query(requests.history, self._weights.shape[0], self._decay)
        out = dense(asked @ self._weights)
        return out + torch.from_numpy(self._popularity * np.float32(1e-6))

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], the weight from each item to its row's target, times its decay."""
        return brought(history, targets, self._weights, self._decay)

    def save(self, folder: str | Path) -> None:
        """Write the weights and the chosen decay."""
        arrays = {"weights": self._weights, "popularity": self._popularity}
        save_model(folder, self.name, {"decay": self._decay}, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read the weights."""
        settings, arrays = load_model(folder, cls.name, dataset)
        model = cls(decay=settings["decay"])
        model._weights, model._popularity = arrays["weights"], arrays["popularity"]
        model._decay = settings["decay"]
        return model


def _weights(gram: sp.csr_array, penalty: float, keep: int) -> sp.csr_array:
    """float32[n, n]: the regression weights, row = item seen, column = item scored."""
    n = gram.shape[0]
    matrix = np.asfortranarray(gram.toarray().astype(np.float32, copy=False).T)
    matrix[np.diag_indices(n)] += np.float32(penalty)
    # In place: the factor and then the inverse overwrite the upper triangle.
    matrix, failed = lapack.spotrf(matrix, lower=0, clean=0, overwrite_a=1)
    if not failed:
        matrix, failed = lapack.spotri(matrix, lower=0, overwrite_c=1)
    if failed:
        raise OnomaError("the item-item matrix cannot be inverted", fix="Raise recommender.penalty")
    diagonal = matrix.diagonal().copy()
    keep = min(keep, n)
    blocks = []
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        block = np.concatenate([matrix[:start, start:stop].T, matrix[start:stop, start:]], axis=1)
        square = np.triu(block[:, start:stop])
        block[:, start:stop] = square + np.triu(square, 1).T
        block /= -diagonal
        block[np.arange(stop - start), np.arange(start, stop)] = 0
        columns = np.sort(np.argpartition(-np.abs(block), keep - 1, axis=1)[:, :keep], axis=1)
        values = np.take_along_axis(block, columns, axis=1)
        pointers = np.arange(0, keep * (stop - start) + 1, keep)
        part = sp.csr_array((values.ravel(), columns.ravel(), pointers), shape=(stop - start, n))
        part.eliminate_zeros()
        blocks.append(part)
    return sp.csr_array(sp.vstack(blocks, format="csr"))
