"""Item vectors from who stands near whom in training sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import LogEncoder, unit_rows
from onoma.encoding.cooccurrence import windowed
from onoma.encoding.svd import truncated_svd


class Cooccurrence(LogEncoder):
    """Positive pointwise mutual information of windowed co-occurrence, then a truncated SVD.

    Item i is ``u_i * s ** power``; an item without training neighbours has a zero row.

    Args:
        dim: directions kept.
        window: places apart that still count, weighted 1 / distance.
        smoothing: exponent on the context distribution, which tames rare contexts.
        shift: ln k subtracted from every value before the cut at zero.
        power: exponent of the singular values.

    Levy, Goldberg and Dagan, TACL 2015, sections 2 and 3.
    """

    name = "collaborative"

    def __init__(
        self,
        dim: int = 128,
        window: int = 5,
        smoothing: float = 0.75,
        shift: float = 0.0,
        power: float = 0.5,
    ) -> None:
        if dim < 1 or window < 1:
            raise ValueError("dim and window must be at least 1")
        self.dim, self.window, self.smoothing = dim, window, smoothing
        self.shift, self.power = shift, power

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "dim": self.dim,
            "window": self.window,
            "smoothing": self.smoothing,
            "shift": self.shift,
            "power": self.power,
        }

    def encode(self, split: Split) -> NDArray[np.float32]:
        """float32[n_items, dim] from ``split.train``."""
        counts = windowed(split.train, split.dataset.n_items, self.window)
        u, s, _ = truncated_svd(self._information(counts), self.dim)
        # Items without neighbours have zero rows in the matrix; rounding may leave dust in u.
        u[np.diff(counts.indptr) == 0] = 0
        return unit_rows(u * s**self.power)

    def _information(self, counts: sp.csr_array) -> sp.csr_array:
        total = counts.sum(axis=1)
        context = total**self.smoothing
        context /= max(float(context.sum()), 1e-12)
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        expected = total[rows] * context[counts.indices]
        values = np.log(counts.data / expected) - self.shift
        out = counts.copy()
        out.data = np.maximum(values, 0).astype(np.float32)
        out.eliminate_zeros()
        return out
