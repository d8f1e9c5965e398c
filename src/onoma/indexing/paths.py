"""Names that are a path in a tree, as long as the path is, and a counter at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onoma.encoding.base import unit_rows
from onoma.errors import OnomaError
from onoma.indexing.disambiguation import disambiguate, free_codes
from onoma.indexing.index import ItemIndex


def with_counters(
    paths: NDArray[np.int32],
    sizes: Sequence[int],
    distance: NDArray[np.floating] | None,
    seed: int,
) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Names of all items: the counter stands directly behind the path.

    A level's vocabulary is its nodes and, after them, the counters of paths that end before it.

    Args:
        paths: int32[n, depth], -1 behind the end.
        sizes: nodes of each level.
        distance: float[n], the smallest of a leaf is counted first; None for a shuffle.
        seed: of the shuffle.

    Returns:
        int32[n, depth + 1] names, -1 behind the end, and the vocabularies.
    """
    counter, counters = disambiguate(
        np.where(paths < 0, sizes, paths), [size + 1 for size in sizes], distance, seed
    )
    return _closed(paths, counter, sizes), (*(size + counters for size in sizes), counters)


def apart(index: ItemIndex) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """int32[n, depth] paths and int32[n] counters of names made by :func:`with_counters`."""
    paths = index.codes[:, :-1].copy()
    ends = (index.codes >= 0).sum(axis=1) - 1
    paths[np.arange(paths.shape[1]) >= ends[:, None]] = -1
    nodes = np.array([*(size - index.sizes[-1] for size in index.sizes[:-1]), 0])
    return paths, (index.codes[np.arange(len(paths)), ends] - nodes[ends]).astype(np.int32)


def together(
    paths: NDArray[np.int32], counters: NDArray[np.integer], sizes: Sequence[int]
) -> NDArray[np.int32]:
    """int32[n, depth + 1], the names that :func:`apart` took apart.

    Args:
        paths: int32[n, depth], -1 behind the end.
        counters: int[n].
        sizes: vocabulary of each level of the names, counters included.
    """
    return _closed(paths, counters, [size - sizes[-1] for size in sizes[:-1]])


def without_counters(index: ItemIndex) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """The names of any method without the code that tells equals apart.

    Returns:
        int32[n, depth], -1 behind the end, and the vocabularies of what is left; names that no
        such code ends are whole.
    """
    if index.meta.get("counter"):
        # The first levels of a hybrid hold no counters.
        whole = int(index.meta.get("uncounted", 0))
        sizes = index.sizes[:-1]
        left = (size - index.sizes[-1] for size in sizes[whole:])
        return apart(index)[0], (*sizes[:whole], *left)
    if index.meta.get("disambiguated") and index.depth > 1:
        return index.codes[:, :-1], index.sizes[:-1]
    return index.codes, index.sizes


def free_names(index: ItemIndex, paths: NDArray[np.int32]) -> NDArray[np.int32]:
    """Names for new items on given paths, behind those in use.

    Raises:
        OnomaError: a leaf has no counter left.
    """
    counters = index.sizes[-1]
    sizes = [size - counters for size in index.sizes[:-1]]
    used, counter = apart(index)
    taken = np.concatenate([np.where(used < 0, sizes, used), counter[:, None]], axis=1)
    free = free_codes(np.where(paths < 0, sizes, paths), taken, [size + 1 for size in sizes])
    if (free >= counters).any():
        raise OnomaError(
            f"{int((free >= counters).sum())} new items find no free name in their leaf",
            fix="Build the index again with the new items in the catalogue",
        )
    return _closed(paths, free, sizes)


def centres(
    paths: NDArray[np.int32], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The different paths, int32[leaves, depth], and the mean direction of the items of each."""
    leaves, place = np.unique(paths, axis=0, return_inverse=True)
    sums = np.zeros((len(leaves), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, place.ravel(), unit_rows(vectors))
    return leaves, unit_rows(sums)


def nearest_leaf(
    leaves: NDArray[np.int32], centre: NDArray[np.float32], vectors: NDArray[np.float32]
) -> NDArray[np.int32]:
    """int32[m, depth], for each vector the path whose centre is nearest by angle.

    Raises:
        OnomaError: vectors of another width.
    """
    if vectors.ndim != 2 or vectors.shape[1] != centre.shape[1]:
        raise OnomaError(f"vectors of shape {vectors.shape}, named with width {centre.shape[1]}")
    return leaves[(unit_rows(vectors) @ centre.T).argmax(axis=1)]


def _closed(
    paths: NDArray[np.int32], counter: NDArray[np.integer], sizes: Sequence[int]
) -> NDArray[np.int32]:
    n, depth = paths.shape
    names = np.full((n, depth + 1), -1, dtype=np.int32)
    names[:, :depth] = paths
    ends = (paths >= 0).sum(axis=1)
    names[np.arange(n), ends] = np.array([*sizes, 0])[ends] + counter
    return names
