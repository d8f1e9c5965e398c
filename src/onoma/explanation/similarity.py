"""Explanations that never ask the recommender: likeness of training users, popularity, chance."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.encoding.cooccurrence import interactions
from onoma.explanation.base import Attribution, chances
from onoma.recommenders.base import Recommender


class _SharedUsers(Attribution):
    """From how many training users an item shares with the target."""

    def __init__(self, train: Ragged, n_items: int) -> None:
        self._users = sp.csr_array(interactions(train, n_items).T)
        self._counts = np.diff(self._users.indptr).astype(np.float32)

    @classmethod
    def create(cls, split: Split, seed: int = 0) -> Self:
        """Count in ``split.train``."""
        return cls(split.train, split.dataset.n_items)

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        each = np.repeat(targets, history.lengths)
        both = self._users[history.values].multiply(self._users[each]).sum(axis=1)
        return self._like(
            np.asarray(both, np.float32), self._counts[history.values], self._counts[each]
        )

    @abstractmethod
    def _like(
        self, both: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """float32[total] from users of both, of the one and of the other."""


class Cosine(_SharedUsers):
    """Cosine between an item's training users and the target's."""

    name = "cosine"

    def _like(
        self, both: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return both / np.sqrt(np.maximum(a * b, 1))


class Jaccard(_SharedUsers):
    """Shared training users over users of either."""

    name = "jaccard"

    def _like(
        self, both: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return both / np.maximum(a + b - both, 1)


class Popularity(_SharedUsers):
    """Training users of the item, whatever the target."""

    name = "popularity"

    def _like(
        self, both: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return a


class Chance(Attribution):
    """Random numbers: what an explanation must beat."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @classmethod
    def create(cls, split: Split, seed: int = 0) -> Self:
        """Nothing is read."""
        return cls(seed)

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total] in [0, 1)."""
        return chances(self.seed, history, targets, 1)[0]
