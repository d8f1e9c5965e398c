"""How many directions a table of vectors uses: the diagnosis of collapsed embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a centred table.

    Attributes:
        values: float64[d], descending, adding up to 1 unless the table is constant.
    """

    values: NDArray[np.float64]

    @classmethod
    def of(cls, table: ArrayLike) -> Spectrum:
        """Of float[n, d]; the mean row is taken away first, it separates no item from another."""
        rows = np.asarray(table, dtype=np.float64)
        rows = rows - rows.mean(axis=0)
        # The eigenvalues of [d, d] are those singular values squared, at a fraction of the cost.
        values = np.sqrt(np.maximum(np.linalg.eigvalsh(rows.T @ rows)[::-1], 0))
        return cls(values / max(float(values.sum()), 1e-12))

    @property
    def effective_rank(self) -> float:
        """E to the entropy of the normalised values (Roy and Vetterli, EUSIPCO 2007)."""
        used = self.values[self.values > 0]
        return float(np.exp(-(used * np.log(used)).sum())) if len(used) else 0.0

    def directions(self, share: float = 0.9) -> int:
        """How many directions hold this share of the variance."""
        energy = np.cumsum(self.values**2)
        if not len(energy) or energy[-1] <= 0:
            return 0
        return int(np.searchsorted(energy, share * energy[-1] * (1 - 1e-12)) + 1)

    def describe(self) -> dict[str, float | int]:
        """What a metrics file records: ``width``, ``effective_rank``, ``used`` and ``directions``.

        ``used`` is the effective rank as a share of the width.
        """
        width = len(self.values)
        return {
            "width": width,
            "effective_rank": round(self.effective_rank, 2),
            "used": round(self.effective_rank / max(width, 1), 4),
            "directions": self.directions(),
        }
