"""Method ``random``: names that say nothing of the items, the control of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.index import IndexMethod, ItemIndex

if TYPE_CHECKING:
    from onoma.dataset.split import Split


class RandomNames(IndexMethod):
    """Different names drawn evenly from all there are.

    Args:
        levels: codes of a name.
        size: vocabulary a level; smaller for small catalogues, larger where the names would
            not reach twice round the catalogue.
    """

    name = "random"
    needs_vectors = False

    def __init__(self, levels: int = 3, size: int = 256) -> None:
        if levels < 1 or size < 1:
            raise OnomaError(f"levels is {levels} and size {size}; both must be at least 1")
        self.levels, self.size = levels, size

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Draw the names; ``vectors`` are not read. See :meth:`IndexMethod.build`."""
        return self.name_count(split.dataset.n_items, seed)

    def name_count(self, n: int, seed: int = 0) -> ItemIndex:
        """Name ``n`` items; no data set needed.

        Raises:
            OnomaError: 2 to the power of 63 names or more.
        """
        size = min(self.size, max(1, n // 4))
        while size**self.levels < 2 * n:
            size += 1
        if size**self.levels >= 1 << 63:
            raise OnomaError(
                f"levels is {self.levels} and size {size}: more names than 64 bits can number",
                fix="Use fewer levels or a smaller size",
            )
        keys = _draw(n, size**self.levels, np.zeros(0, np.int64), seed)
        return ItemIndex(
            digits(keys, self.levels, size),
            (size,) * self.levels,
            self.name,
            {},
            {"levels": self.levels, "size": size, "seed": seed, "disambiguated": False},
        )

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Names drawn from those left; see :meth:`ItemIndex.assign`."""
        m, size = len(vectors), index.sizes[0]
        space = size**index.depth
        if m > space - index.n_items:
            raise OnomaError(f"{m} new items, {space - index.n_items} names left")
        used = np.zeros(index.n_items, dtype=np.int64)
        for level in range(index.depth):
            used = used * size + index.codes[:, level]
        seed = int(index.meta.get("seed", 0)) + index.n_items
        return digits(_draw(m, space, np.sort(used), seed), index.depth, size)


def _draw(n: int, space: int, used: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """int64[n] different numbers below ``space``, none of ``used`` (sorted), in random order."""
    rng = np.random.default_rng([seed, len(used)])
    if space - len(used) <= 4 * n or space < 1 << 16:
        return rng.permutation(np.setdiff1d(np.arange(space), used, assume_unique=True))[:n]
    found = np.zeros(0, dtype=np.int64)
    while len(found) < n:
        found = np.union1d(found, rng.integers(0, space, 2 * (n - len(found))))
        at = np.searchsorted(used, found).clip(max=max(len(used) - 1, 0))
        found = found[used[at] != found] if len(used) else found
    return rng.permutation(found)[:n]


def digits(keys: NDArray[np.int64], levels: int, size: int) -> NDArray[np.int32]:
    """int32[n, levels]: the numbers int64[n] written in base ``size``, the first digit first."""
    powers = size ** np.arange(levels - 1, -1, -1, dtype=np.int64)
    return (keys[:, None] // powers % size).astype(np.int32)
