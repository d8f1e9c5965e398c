"""Item vectors by alternating least squares on training interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import LogEncoder, unit_rows
from onoma.encoding.cooccurrence import interactions

_CHUNK = 64 << 20  # bytes of outer products held at once


class ALS(LogEncoder):
    """Weighted matrix factorisation of implicit feedback.

    Args:
        dim: width of the factors.
        steps: alternations.
        confidence: weight of a seen pair above an unseen one.
        penalty: L2 penalty.
        seed: of the first factors.

    Hu, Koren and Volinsky, ICDM 2008.
    """

    name = "als"

    def __init__(
        self, dim: int = 64, steps: int = 10, confidence: float = 10.0,
        penalty: float = 1.0, seed: int = 0,
    ) -> None:
        if dim < 1 or steps < 1 or confidence <= 0 or penalty <= 0:
            raise ValueError("dim, steps, confidence and penalty must be positive")
        self.dim, self.steps, self.confidence = dim, steps, confidence
        self.penalty, self.seed = penalty, seed

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "dim": self.dim, "steps": self.steps, "confidence": self.confidence,
            "penalty": self.penalty, "seed": self.seed,
        }

    def encode(self, split: Split) -> NDArray[np.float32]:
        """float32[n_items, dim] from ``split.train``."""
        n_items = split.dataset.n_items
        seen = interactions(split.train, n_items)
        back = sp.csr_array(seen.T)
        rng = np.random.default_rng(self.seed)
        items = (rng.standard_normal((n_items, self.dim)) * 0.1).astype(np.float32)
        for _ in range(self.steps):
            users = self._solve(seen, items)
            items = self._solve(back, users)
        return unit_rows(items)

    def _solve(self, seen: sp.csr_array, fixed: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best rows given the other side's; rows without interactions are zero."""
        shared = fixed.T @ fixed + self.penalty * np.eye(self.dim, dtype=np.float32)
        out = np.zeros((seen.shape[0], self.dim), dtype=np.float32)
        filled = np.flatnonzero(np.diff(seen.indptr))
        ends = seen.indptr[filled + 1]
        limit = max(1, _CHUNK // (4 * self.dim**2))
        start = 0
        while start < len(filled):
            first = seen.indptr[filled[start]]
            stop = max(start + 1, int(np.searchsorted(ends, first + limit, side="right")))
            rows = filled[start:stop]
            near = fixed[seen.indices[first : seen.indptr[rows[-1] + 1]]]
            begins = seen.indptr[rows] - first
            outer = np.add.reduceat(near[:, :, None] * near[:, None, :], begins, axis=0)
            pull = np.add.reduceat(near, begins, axis=0) * (1 + self.confidence)
            left = shared + self.confidence * outer
            out[rows] = np.linalg.solve(left, pull[:, :, None])[:, :, 0]
            start = stop
        return out
