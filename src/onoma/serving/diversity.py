"""Lists whose items differ from each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Maximal marginal relevance: places of the k chosen, first chosen first.

    Each next item has the largest ``(1 - diversity) * relevance - diversity * likeness``, where
    relevance is the score brought to 0 .. 1 over the pool and likeness the largest cosine to what
    is already chosen. Carbonell and Goldstein, SIGIR 1998.

    Args:
        scores: float32[n], the pool, best first.
        vectors: float32[n, dim], unit or zero rows.
        k: items to choose.
        diversity: 0 keeps the order, 1 ignores the scores after the first.
    """
    n = len(scores)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    low, high = float(scores.min()), float(scores.max())
    relevance = (scores - low) / max(high - low, 1e-12)
    likeness = np.full(n, -1.0, dtype=np.float32)
    free = np.ones(n, dtype=bool)
    chosen = [0]
    for _ in range(min(k, n) - 1):
        free[chosen[-1]] = False
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
        value = (1 - diversity) * relevance - diversity * likeness
        chosen.append(int(np.where(free, value, -np.inf).argmax()))
    return np.array(chosen[:k], dtype=np.int64)
