"""Item vectors by alternating least squares on training interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import LogEncoder, unit_rows
from onoma.encoding.cooccurrence import interactions

_CHUNK = 1 << 18  # interactions whose factors are gathered at once


class ALS(LogEncoder):
    """Weighted matrix factorisation of implicit feedback, solved by conjugate gradients.

    Args:
        dim: width of the factors.
        steps: alternations.
        confidence: weight of a seen pair above an unseen one.
        penalty: L2 penalty.
        seed: of the first factors.
        inner: conjugate gradient steps of one alternation, from the factors at hand.

    Hu, Koren and Volinsky, ICDM 2008; the solver is that of Takacs, Pilaszy and Tikk, RecSys 2011.
    """

    name = "als"

    def __init__(
        self,
        dim: int = 64,
        steps: int = 15,
        confidence: float = 10.0,
        penalty: float = 1.0,
        seed: int = 0,
        inner: int = 3,
    ) -> None:
        if min(dim, steps, inner) < 1 or confidence <= 0 or penalty <= 0:
            raise ValueError("dim, steps, inner, confidence and penalty must be positive")
        self.dim, self.steps, self.confidence = dim, steps, confidence
        self.penalty, self.seed, self.inner = penalty, seed, inner

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "dim": self.dim,
            "steps": self.steps,
            "confidence": self.confidence,
            "penalty": self.penalty,
            "seed": self.seed,
            "inner": self.inner,
        }

    def encode(self, split: Split) -> NDArray[np.float32]:
        """float32[n_items, dim] from ``split.train``."""
        seen = interactions(split.train, split.dataset.n_items)
        back = sp.csr_array(seen.T)
        rng = np.random.default_rng(self.seed)
        items = (rng.standard_normal((seen.shape[1], self.dim)) * 0.1).astype(np.float32)
        users = np.zeros((seen.shape[0], self.dim), dtype=np.float32)
        for _ in range(self.steps):
            users = self._solve(seen, items, users)
            items = self._solve(back, users, items)
        return unit_rows(items)

    def _solve(
        self, seen: sp.csr_array, fixed: NDArray[np.float32], start: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Move each row towards its best given the other side; rows without a pair are zero."""
        shared = fixed.T @ fixed + np.float32(self.penalty) * np.eye(self.dim, dtype=np.float32)
        rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
        weights = seen.copy()

        def product(x: NDArray[np.float32]) -> NDArray[np.float32]:
            """(fixed' C fixed + penalty) x, all rows at once."""
            for at in range(0, len(rows), _CHUNK):
                part = slice(at, at + _CHUNK)
                near = fixed[seen.indices[part]]
                weights.data[part] = np.einsum("ij,ij->i", near, x[rows[part]])
            return np.asarray(x @ shared + np.float32(self.confidence) * (weights @ fixed))

        x = np.where((np.diff(seen.indptr) > 0)[:, None], start, np.float32(0))
        residual = np.float32(1 + self.confidence) * (seen @ fixed) - product(x)
        direction, size = residual, (residual**2).sum(axis=1)
        for _ in range(self.inner):
            image = product(direction)
            length = _ratio(size, (direction * image).sum(axis=1))
            x = x + length * direction
            residual = residual - length * image
            previous, size = size, (residual**2).sum(axis=1)
            direction = residual + _ratio(size, previous) * direction
        return x


def _ratio(above: NDArray[np.float32], below: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[n, 1], zero where a row has converged."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 1e-20)[:, None]
