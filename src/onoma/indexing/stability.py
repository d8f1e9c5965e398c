"""How much two namings of one catalogue agree: what another seed or another day changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

from onoma.errors import OnomaError
from onoma.indexing.agreement import prefix_groups

if TYPE_CHECKING:
    from onoma.indexing.index import ItemIndex

_MOST_MATCHED = 4096  # matching more groups would take minutes


@dataclass(frozen=True)
class Stability:
    """Two namings of the same items.

    Attributes:
        unchanged: share of items whose whole name is the same.
        first: share of items whose first code is the same once the first codes of one naming are
            matched to those of the other as well as can be: labels alone may change. None above
            4,096 first codes.
        mutual: adjusted mutual information of the groups under the first code; 1 is the same
            groups, 0 chance.
    """

    unchanged: float
    first: float | None
    mutual: float

    @classmethod
    def between(cls, one: ItemIndex, other: ItemIndex) -> Stability:
        """Compare two namings.

        Raises:
            OnomaError: they name different numbers of items.
        """
        if one.n_items != other.n_items:
            raise OnomaError(f"{one.n_items} names against {other.n_items}")
        same = one.depth == other.depth and (one.codes == other.codes).all(axis=1).mean()
        left, right = prefix_groups(one)[0], prefix_groups(other)[0]
        table, kept = _contingency(left, right), None
        if max(table.shape) <= _MOST_MATCHED:
            dense = table.toarray()
            kept = float(dense[linear_sum_assignment(dense, maximize=True)].sum()) / one.n_items
        return cls(float(same), kept, adjusted_mutual_information(left, right))

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    def line(self) -> str:
        """For the terminal."""
        kept = "" if self.first is None else f"{self.first:.1%} of first groups after matching, "
        return (
            f"built again: {self.unchanged:.1%} of the names unchanged, {kept}"
            f"adjusted mutual information of first groups {self.mutual:.3f}"
        )


def adjusted_mutual_information(left: NDArray[np.integer], right: NDArray[np.integer]) -> float:
    """Mutual information of two partitions, corrected for chance (Vinh et al., JMLR 2010).

    The mean of both entropies normalises.

    Args:
        left: int[n], a group an item, numbered from 0.
        right: the same of the other partition.

    Returns:
        1 for equal partitions, about 0 for independent ones.
    """
    n = len(left)
    table = _contingency(left, right).tocoo()
    a, b = np.bincount(left), np.bincount(right)
    a, b = a[a > 0], b[b > 0]
    share = table.data / n
    outer = np.bincount(left)[table.row] * np.bincount(right)[table.col] / (n * n)
    mutual = float((share * np.log(share / outer)).sum())
    expected = _expected(a, b, n)
    mean = (_entropy(a, n) + _entropy(b, n)) / 2
    return 1.0 if mean - expected < 1e-12 else (mutual - expected) / (mean - expected)


def _contingency(left: NDArray[np.integer], right: NDArray[np.integer]) -> sp.csr_array:
    ones = np.ones(len(left))
    shape = (int(left.max(initial=-1)) + 1, int(right.max(initial=-1)) + 1)
    return sp.csr_array(sp.coo_array((ones, (left, right)), shape=shape))


def _entropy(sizes: NDArray[np.integer], n: int) -> float:
    return float(-(sizes / n * np.log(sizes / n)).sum())


def _expected(a: NDArray[np.integer], b: NDArray[np.integer], n: int) -> float:
    """The mean of the mutual information over all partitions of these group sizes.

    Groups of one size share their terms, so the work grows with the number of different sizes.
    """
    log = gammaln(np.arange(n + 2))  # log[k + 1] is log(k!)
    wide, times = np.unique(b, return_counts=True)
    total = 0.0
    for size, count in zip(*np.unique(a, return_counts=True), strict=True):
        most = np.minimum(size, wide)
        least = np.maximum(1, size + wide - n)
        runs = most - least + 1
        both = np.repeat(np.arange(len(wide)), runs)
        k = np.arange(len(both)) - np.repeat(np.cumsum(runs) - runs - least, runs)
        other = wide[both]
        chance = (
            log[size + 1] + log[other + 1] + log[n - size + 1] + log[n - other + 1]
            - log[n + 1] - log[k + 1] - log[size - k + 1] - log[other - k + 1]
            - log[n - size - other + k + 1]
        )  # fmt: skip
        terms = k / n * np.log(n * k / (size * other)) * np.exp(chance)
        total += float(count) * float((terms * times[both]).sum())
    return total
