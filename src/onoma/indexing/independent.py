"""Method ``independent``: one code an item, the vocabulary of a classic softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.index import IndexMethod, ItemIndex

if TYPE_CHECKING:
    from onoma.dataset.split import Split


class IndependentNames(IndexMethod):
    """A new word for every item (IID of Hua et al., How to Index Item IDs, SIGIR-AP 2023).

    Args:
        spare: share of the vocabulary kept for new items.
    """

    name = "independent"
    needs_vectors = False

    def __init__(self, spare: float = 0.1) -> None:
        if not 0 <= spare <= 1:
            raise OnomaError(f"spare is {spare}; it must be from 0 to 1")
        self.spare = spare

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Number the items in random order; ``vectors`` are not read."""
        n = split.dataset.n_items
        codes = np.random.default_rng(seed).permutation(n).astype(np.int32)[:, None]
        size = n + max(8, int(n * self.spare))
        return ItemIndex(codes, (size,), self.name, {}, {"spare": self.spare, "seed": seed})

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The next free words; see :meth:`ItemIndex.assign`."""
        first = int(index.codes.max(initial=-1)) + 1
        if first + len(vectors) > index.sizes[0]:
            raise OnomaError(
                f"{len(vectors)} new items, {index.sizes[0] - first} names left",
                fix="Build the index again with the new items in the catalogue",
            )
        return np.arange(first, first + len(vectors), dtype=np.int32)[:, None]
