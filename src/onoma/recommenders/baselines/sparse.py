"""Histories and logs as sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged

_FAINT = 1e-6  # weights that are not read
_DENSE_CELLS = 1 << 22  # 16 MB of a dense block


def places(history: Ragged, decay: float) -> NDArray[np.float32]:
    """float32[total], ``decay ** d`` for an item d places before the end of its row."""
    ends = np.repeat(history.offsets[1:], history.lengths)
    back = ends - 1 - np.arange(len(history.values))
    return np.power(np.float32(decay), back.astype(np.float32))


def brought(
    history: Ragged, targets: NDArray[np.integer], weights: sp.csr_array, decay: float
) -> NDArray[np.float32]:
    """float32[total], what each item adds to its row's target in ``query(...) @ weights``."""
    each = np.repeat(targets, history.lengths)
    if not len(each):  # scipy answers no indices with a matrix
        return np.zeros(0, dtype=np.float32)
    entries = np.asarray(weights[history.values, each], dtype=np.float32)
    found = places(history, decay)
    return np.where(found > _FAINT, found * entries, np.float32(0))


def query(
    history: Ragged, n_items: int, decay: float = 1.0, last: int | None = None
) -> sp.csr_array:
    """float32[n, n_items]: an item d places before the end weighs ``decay ** d``; repeats add up.

    Args:
        history: rows of item codes, oldest first.
        n_items: catalogue size.
        decay: in [0, 1]; 0 reads the last item only.
        last: read this many items from the end of each row.
    """
    history = history if last is None else history.last(last)
    weights = places(history, decay)
    rows = history.rows()
    kept = weights > _FAINT
    matrix = sp.coo_array(
        (weights[kept], (rows[kept], history.values[kept])), shape=(len(history), n_items)
    ).tocsr()
    matrix.sum_duplicates()
    return matrix


def last_items(history: Ragged) -> NDArray[np.int64]:
    """int64[n], the last item of each row, -1 where there is none."""
    out = np.full(len(history), -1, dtype=np.int64)
    filled = history.lengths > 0
    out[filled] = history.values[history.offsets[1:][filled] - 1]
    return out


def strongest(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """The k entries of each row that are largest in size; the lower column among equals."""
    matrix = matrix.sorted_indices()
    lengths = np.diff(matrix.indptr)
    crowded = np.flatnonzero(lengths > k)
    if not len(crowded):
        return matrix
    # The k-th largest of each crowded row; sorting all entries takes four times as long.
    bar = np.full(matrix.shape[0], -1, dtype=matrix.dtype)
    step = max(1, _DENSE_CELLS // matrix.shape[1])
    for start in range(0, len(crowded), step):
        rows = crowded[start : start + step]
        part = np.abs(matrix[rows].toarray())
        bar[rows] = np.partition(part, part.shape[1] - k, axis=1)[:, part.shape[1] - k]
    rows = np.repeat(np.arange(matrix.shape[0]), lengths)
    size = np.abs(matrix.data)
    above, equal = size > bar[rows], size == bar[rows]
    room = k - np.bincount(rows[above], minlength=matrix.shape[0])
    counted = np.cumsum(equal)
    before = np.concatenate([[0], counted])[matrix.indptr[:-1]]
    kept = above | (equal & (counted - before[rows] <= room[rows]))
    return sp.csr_array(
        (matrix.data[kept], matrix.indices[kept], _pointers(rows[kept], matrix.shape[0])),
        shape=matrix.shape,
    )


def _pointers(rows: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    pointers = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=pointers[1:])
    return pointers


def dense(matrix: sp.csr_array) -> Tensor:
    """float32 tensor of a sparse matrix."""
    return torch.from_numpy(matrix.toarray().astype(np.float32, copy=False))


def tie_breaker(counts: NDArray[np.integer]) -> NDArray[np.float32]:
    """float32[n_items] in [0, 1/2), larger for items with more interactions."""
    return (counts / (2.0 * max(int(counts.max(initial=0)), 1) + 1)).astype(np.float32)
