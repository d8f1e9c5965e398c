"""Truncated singular value decomposition that gives the same answer twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray


def truncated_svd(
    matrix: Any, rank: int, *, power: int = 4, spare: int = 16, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The leading singular triplets by a seeded random range finder.

    Args:
        matrix: float[n, m], sparse or dense.
        rank: triplets wanted; fewer come back where the matrix is smaller.
        power: power iterations, which sharpen slowly decaying spectra.
        spare: extra directions that are sampled and dropped.
        seed: of the random start.

    Returns:
        ``u`` float32[n, r], ``s`` float32[r] descending, ``vt`` float32[r, m]. The entry of each
        row of ``vt`` that is largest in size is positive.

    Halko, Martinsson and Tropp, SIAM Review 2011, algorithms 4.4 and 5.1.
    """
    n, m = matrix.shape
    rank = min(rank, n, m)
    width = min(rank + spare, n, m)
    start = np.random.default_rng(seed).standard_normal((m, width)).astype(np.float32)
    basis = _orthonormal(matrix @ start)
    for _ in range(power):
        basis = _orthonormal(matrix @ _orthonormal(matrix.T @ basis))
    small = np.asarray((matrix.T @ basis).T)
    left, s, vt = scipy.linalg.svd(small, full_matrices=False, check_finite=False)
    u, s, vt = (basis @ left)[:, :rank], s[:rank], vt[:rank]
    sign = np.sign(vt[np.arange(rank), np.abs(vt).argmax(axis=1)])
    sign[sign == 0] = 1
    return (
        np.ascontiguousarray(u * sign, dtype=np.float32),
        s.astype(np.float32),
        np.ascontiguousarray(vt * sign[:, None], dtype=np.float32),
    )


def _orthonormal(columns: Any) -> NDArray[np.float32]:
    q, _ = scipy.linalg.qr(np.asarray(columns), mode="economic", check_finite=False)
    return np.asarray(q, dtype=np.float32)
