"""What an explanation may ask of a recommender besides scores: exact parts, or gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged


@dataclass(frozen=True)
class Entry:
    """What n histories enter a recommender as, before its first layer.

    Attributes:
        vectors: float32[n, slots, width]; a model that reads a set has a slot an item of the
            catalogue and width 1, one that reads a sequence a slot a position.
        slots: int64[total], the slot by which each item of the histories enters, -1 for an item
            that is not read.
        lengths: int64[n], slots in use, counted from the left.
    """

    vectors: Tensor
    slots: NDArray[np.int64]
    lengths: NDArray[np.int64]


@runtime_checkable
class Differentiable(Protocol):
    """A recommender whose scores are logits, differentiable in what a history enters as."""

    def enter(self, history: Ragged) -> Entry:
        """The histories as vectors; ``score_entry`` of them is ``score``, see :class:`Aside`."""
        ...

    def stand_in(self, others: Ragged, entry: Entry) -> Tensor:
        """float32[n, slots, width]: what other histories would enter as in the same slots."""
        ...

    def score_entry(self, vectors: Tensor, lengths: NDArray[np.int64]) -> Tensor:
        """float32[n, n_items], without dropout; gradients flow to ``vectors``."""
        ...


@runtime_checkable
class Additive(Protocol):
    """A recommender whose score is a sum over the items of the history."""

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], what each item of a history brings to the score of the row's target.

        They add up to the score but for a part that the history does not change.

        Args:
            history: n rows of item codes.
            targets: int[n] item codes.
        """
        ...


@runtime_checkable
class Aside(Protocol):
    """A differentiable recommender whose score has a part that no vector enters.

    ``score`` is then ``score_entry`` plus this part.
    """

    def aside(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], what each item of a history brings to that part of the target's score.

        Args:
            history: n rows of item codes.
            targets: int[n] item codes.
        """
        ...
