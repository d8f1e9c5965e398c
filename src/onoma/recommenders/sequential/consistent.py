"""What of a history hangs together: items linked where they are alike, the largest part kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from onoma.dataset import Ragged

_CELLS = 1 << 24  # numbers held at a time


def consistent(
    history: Ragged, vectors: NDArray[np.float32], threshold: float | None
) -> NDArray[np.bool_]:
    """Which places of histories belong to the largest connected part of their history.

    The nodes of a history's graph are its different items, an edge is a cosine above the
    threshold. Of parts of equal size the one with the newest item is kept. A history without an
    edge stays as it is, and so do items of which nothing is known.

    Args:
        history: n rows of item codes.
        vectors: float32[n_items, d] unit rows; a zero row where nothing is known.
        threshold: None keeps everything.

    Returns:
        bool[total], aligned with ``history.values``.

    ConsRec (S090), whose released code drops a history without an edge.
    """
    if threshold is None or not len(history.values):
        return np.ones(len(history.values), dtype=bool)
    n = len(vectors)
    keys, node = np.unique(history.rows() * n + history.values, return_inverse=True)
    owner, item = keys // n, keys % n
    newest = np.zeros(len(keys), dtype=np.int64)
    np.maximum.at(newest, node, np.arange(len(node)))
    sets = Ragged.from_groups(owner, item, len(history))
    part = np.arange(len(keys))
    for rows in _chunks(sets.lengths, vectors.shape[1]):
        some = sets.take(rows)
        nodes = _places(sets, rows)
        part[nodes] = nodes[_parts(some, vectors, threshold)]
    size = np.bincount(part, minlength=len(keys))
    last = np.zeros(len(keys), dtype=np.int64)
    np.maximum.at(last, part, newest)
    heads = np.flatnonzero(size > 1)
    order = heads[np.lexsort((last[heads], size[heads], owner[heads]))]
    best = np.full(len(history), -1, dtype=np.int64)
    best[owner[order]] = order  # the last of each row wins
    kept = (best[owner] < 0) | (part == best[owner]) | ~vectors[item].any(axis=1)
    return np.asarray(kept[node], dtype=bool)


def _chunks(lengths: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    """Rows of two and more in order of length, as many as fit."""
    order = np.argsort(lengths, kind="stable")
    order = order[np.searchsorted(lengths[order], 2) :]
    start = 0
    while start < len(order):
        longest = lengths[order[start:]]  # of a chunk that ends there
        cells = np.arange(1, len(longest) + 1) * longest * np.maximum(longest, width)
        size = max(1, int(np.searchsorted(cells, _CELLS, side="right")))
        yield order[start : start + size]
        start += size


def _places(sets: Ragged, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[total], where the values of rows stand among all values."""
    return np.asarray(Ragged(sets.offsets, np.arange(len(sets.values))).take(rows).values)


def _parts(sets: Ragged, vectors: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """int64[total]: one node of the connected part of each node, the same for all of the part."""
    padded = sets.padded()
    known = padded >= 0
    number = np.full(padded.shape, -1, dtype=np.int64)
    number[known] = np.arange(len(sets.values))  # rows are left aligned, so in order
    told = torch.from_numpy(vectors[np.maximum(padded, 0)])
    near = torch.bmm(told, told.transpose(1, 2)) > threshold
    pair = torch.from_numpy(known)
    near &= pair[:, :, None] & pair[:, None, :]
    row, left, right = np.nonzero(torch.triu(near, diagonal=1).numpy())
    a, b = number[row, left], number[row, right]
    shape = (len(sets.values), len(sets.values))
    graph = sp.coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=shape).tocsr()
    _, label = connected_components(graph, directed=False)
    first = np.full(int(label.max()) + 1, len(label), dtype=np.int64)
    np.minimum.at(first, label, np.arange(len(label)))
    return first[label]
