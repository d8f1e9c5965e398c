"""Who has what, and which items follow and surround which, as sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Ragged


def interactions(sequences: Ragged, n_items: int) -> sp.csr_array:
    """float32[n, n_items], one where the row holds the item at least once."""
    ones = np.ones(len(sequences.values), dtype=np.float32)
    # By way of COO: scipy would sort the split's own arrays in place.
    places = (sequences.rows(), sequences.values)
    matrix = sp.coo_array((ones, places), shape=(len(sequences), n_items)).tocsr()
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def steps(sequences: Ragged, lag: int = 1) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """All (item, item ``lag`` places later) pairs inside rows, two arrays of item codes."""
    values, rows = sequences.values, sequences.rows()
    together = rows[lag:] == rows[:-lag]
    return values[:-lag][together], values[lag:][together]


def transitions(sequences: Ragged, n_items: int, lag: int = 1) -> sp.csr_array:
    """float32[n_items, n_items], how often the column follows the row ``lag`` places later."""
    source, target = steps(sequences, lag)
    ones = np.ones(len(source), dtype=np.float32)
    counts = sp.coo_array((ones, (source, target)), shape=(n_items, n_items)).tocsr()
    counts.sum_duplicates()
    return counts


def windowed(sequences: Ragged, n_items: int, window: int) -> sp.csr_array:
    """float32[n_items, n_items], symmetric: pairs up to ``window`` places apart, each 1 / distance.

    An item is not its own neighbour.
    """
    total = sp.csr_array((n_items, n_items), dtype=np.float32)
    for lag in range(1, min(window, int(sequences.lengths.max(initial=1))) + 1):
        total = total + transitions(sequences, n_items, lag) * np.float32(1 / lag)
    both = sp.csr_array(total + total.T)
    both.setdiag(0)
    both.eliminate_zeros()
    both.sort_indices()
    return both
