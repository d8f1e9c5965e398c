"""Where short walks over training steps lead from the last items of a history."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.encoding.cooccurrence import transitions
from onoma.recommenders.baselines.sparse import places, strongest

_EDGES = 100  # steps kept from an item
_KEPT = 100  # items kept that two steps lead to
_LATER = 0.5  # of the second step against the first
_DECAY = 0.7  # of an item against the one after it
_READ = 10  # items of a history that walks start from
_FLOOR = 1e-4  # share of a walk that counts as none
_CELLS = 1 << 24  # of a block of two-step walks


class Walk:
    """The items that one or two training steps lead to from each item, and how strongly.

    Steps join items that followed one another in training (both directions, the backward one at
    half weight), rows summing to one. A history's reach is the mean of the rows of its last ten
    items, each at 0.7 of the one after it.

    Args:
        table: float32[n_items, n_items], the weight of walks from the row to the column.

    The graph of arXiv 2605.07125, as a term of another model's logits.
    """

    def __init__(self, table: sp.csr_array) -> None:
        self.table = table

    @classmethod
    def of(cls, sequences: Ragged, n_items: int) -> Self:
        """Count the steps of training sequences; memory grows with items times 100."""
        once = walkable(transitions(sequences, n_items), _EDGES)
        size = max(1, _CELLS // max(n_items, 1))
        blocks = []
        for start in range(0, n_items, size):
            here = once[start : start + size]
            blocks.append(strongest(sp.csr_array(here + here @ once * np.float32(_LATER)), _KEPT))
        return cls(sp.csr_array(sp.vstack(blocks)) if blocks else once)

    def __len__(self) -> int:
        return int(self.table.shape[0])

    def reach(self, history: Ragged) -> sp.csr_array:
        """float32[n, n_items], the weight of walks from the last items of each history."""
        return sp.csr_array(self._start(history) @ self.table)

    def lift(self, history: Ragged) -> sp.csr_array:
        """float32[n, n_items]: log(1 + reach / floor), zero where no walk leads."""
        found = self.reach(history)
        found.data = np.log1p(found.data / np.float32(_FLOOR))
        return found

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], the share of each item of a history in its row's lift of the target."""
        out = np.zeros(len(history.values), dtype=np.float32)
        if not len(out):
            return out
        asked, rows = np.asarray(targets), history.rows()
        place = np.arange(len(out)) - np.repeat(history.offsets[1:], history.lengths)
        read = np.flatnonzero(place >= -_READ)
        weight = _DECAY ** (-1.0 - place[read])
        weight /= np.bincount(rows[read], weight, minlength=len(history))[rows[read]]
        brought = weight * np.asarray(self.table[history.values[read], asked[rows[read]]])
        reach = np.bincount(rows[read], brought, minlength=len(history))
        per_reach = np.divide(np.log1p(reach / _FLOOR), reach, out=np.zeros_like(reach),
                              where=reach > 0)  # fmt: skip
        out[read] = brought * per_reach[rows[read]]
        return out

    def extended(self, nearest: NDArray[np.integer]) -> Walk:
        """With new items, which walks reach and leave as they do their nearest known ones.

        Args:
            nearest: int[m, c] known items, -1 for none.
        """
        rows, columns = np.nonzero(nearest >= 0)
        count = np.maximum((nearest >= 0).sum(axis=1), 1)
        shares = (1 / count[rows]).astype(np.float32)
        shape = (len(nearest), len(self))
        like = sp.coo_array((shares, (rows, nearest[rows, columns])), shape=shape).tocsr()
        into = sp.csr_array(self.table @ like.T)
        out = sp.csr_array(like @ self.table)
        among = sp.csr_array(out @ like.T)
        return Walk(sp.csr_array(sp.block_array([[self.table, into], [out, among]])))

    def _start(self, history: Ragged) -> sp.csr_array:
        """float32[n, n_items], rows summing to one, or empty; an item may stand in it twice."""
        short = history.last(_READ)
        weights = places(short, _DECAY)
        total = np.bincount(short.rows(), weights, minlength=len(short))
        weights /= np.repeat(total, short.lengths).astype(np.float32)
        return sp.csr_array(
            (weights, short.values, short.offsets), shape=(len(short), len(self)), dtype=np.float32
        )


def walkable(forward: sp.csr_array, edges: int) -> sp.csr_array:
    """Steps of both directions, the strongest of each item, rows summing to one.

    Args:
        forward: float32[n_items, n_items], how often the column follows the row.
        edges: steps kept from an item.
    """
    both = sp.csr_array(forward + forward.T * np.float32(0.5))
    both.setdiag(0)
    both.eliminate_zeros()
    both = strongest(both, edges)
    total = both.sum(axis=1)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    return sp.csr_array(sp.diags_array(scale.astype(np.float32)) @ both)
