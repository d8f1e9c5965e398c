"""What is lost when one item is taken away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.explanation.base import Attribution
from onoma.explanation.told import told
from onoma.recommenders.base import Recommender

_AT_ONCE = 4096  # shortened histories held at the same time


class LeaveOneOut(Attribution):
    """The drop of the target's log-probability (or score) without each item in turn.

    A history of l items costs l + 1 scores, asked for together.
    """

    name = "leave-one-out"

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        rows = history.rows()
        gone = np.arange(len(rows)) - history.offsets[rows]
        without = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            copies = history.take(rows[part])
            place = np.arange(len(copies.values)) - np.repeat(copies.offsets[:-1], copies.lengths)
            rest = copies.where(place != np.repeat(gone[part], copies.lengths))
            without[part] = told(model, rest, targets[rows[part]])
        return told(model, history, targets)[rows] - without
