"""The last code of a name: what tells apart items whose other codes are equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onoma.indexing.trie import name_order, prefix_starts

SPARE = 8  # codes beyond the largest group, so that new items find room


def disambiguate(
    prefixes: NDArray[np.integer],
    sizes: Sequence[int],
    distance: NDArray[np.floating] | None,
    seed: int,
) -> tuple[NDArray[np.int32], int]:
    """A code for every item, different within each group of equal prefixes.

    Codes count from 0 in order of ``distance``; equals are ordered by a seeded shuffle, never by
    item code, which would tell the order of the catalogue.

    Args:
        prefixes: int[n, levels].
        sizes: vocabulary of each level of ``prefixes``.
        distance: float[n], smaller comes first; None for a shuffle alone.
        seed: of the shuffle.

    Returns:
        int32[n] the codes, and the size of their own vocabulary (beyond 256 where a group is).
    """
    n = len(prefixes)
    codes = np.zeros(n, dtype=np.int32)
    order = np.random.default_rng(seed).permutation(n)
    if distance is not None:
        order = order[np.argsort(distance[order], kind="stable")]
    order = order[name_order(prefixes[order], sizes)]
    starts = np.flatnonzero(prefix_starts(prefixes[order])[:, -1])
    counts = np.diff(np.append(starts, n))
    codes[order] = np.arange(n) - np.repeat(starts, counts)
    return codes, int(counts.max(initial=0)) + SPARE


def free_codes(
    prefixes: NDArray[np.integer], codes: NDArray[np.integer], sizes: Sequence[int]
) -> NDArray[np.int64]:
    """int64[m], the first code after all those used, by the new prefixes and by the catalogue.

    Args:
        prefixes: int[m, levels] of new items; equal ones get codes in row order.
        codes: int[n, levels + 1], the names in use.
        sizes: vocabulary of each level of ``prefixes``.
    """
    n, m = len(codes), len(prefixes)
    both = np.concatenate([codes[:, :-1], prefixes])
    order = name_order(both, sizes)
    fresh = prefix_starts(both[order])[:, -1]
    group = np.empty(n + m, dtype=np.int64)
    group[order] = np.cumsum(fresh) - 1
    used = np.zeros(int(fresh.sum()), dtype=np.int64)
    np.maximum.at(used, group[:n], codes[:, -1].astype(np.int64) + 1)
    new = group[n:]
    by_group = np.argsort(new, kind="stable")
    start = np.flatnonzero(np.diff(new[by_group], prepend=-1))
    rank = np.empty(m, dtype=np.int64)
    rank[by_group] = np.arange(m) - np.repeat(start, np.diff(np.append(start, m)))
    return used[new] + rank


def place(
    prefixes: NDArray[np.int32],
    last: NDArray[np.integer],
    codes: NDArray[np.int32],
    sizes: Sequence[int],
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Free names beside those in use.

    An item whose group is full takes its next choice of the last level before disambiguation.

    Args:
        prefixes: int32[m, levels], first choices.
        last: int[m, choices], codes of the last of those levels, best first.
        codes: int32[n, levels + 1], the names in use.
        sizes: vocabulary of every level, disambiguation included.

    Returns:
        int32[m, levels + 1] the names, and bool[m] whether the item found one; the names of
        those that did not mean nothing.
    """
    names = np.concatenate([prefixes, np.zeros((len(prefixes), 1), np.int32)], axis=1)
    waiting = np.arange(len(prefixes))
    taken = codes
    for choice in range(last.shape[1]):
        names[waiting, -2] = last[waiting, choice]
        free = free_codes(names[waiting, :-1], taken, sizes[:-1])
        fits = free < sizes[-1]
        names[waiting[fits], -1] = free[fits]
        taken = np.concatenate([taken, names[waiting[fits]]])
        waiting = waiting[~fits]
        if not len(waiting):
            break
    found = np.ones(len(names), dtype=bool)
    found[waiting] = False
    return names, found
