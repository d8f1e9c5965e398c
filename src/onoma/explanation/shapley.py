"""Shares by the order in which items arrive, over random orders."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.explanation.base import Attribution, chances
from onoma.explanation.fidelity import rank_in_rows
from onoma.explanation.told import told
from onoma.recommenders.base import Recommender


class Shapley(Attribution):
    """Shapley values sampled over random orders, in blocks (Castro et al., 2009).

    In each order the history arrives in ``blocks`` blocks, and what a block adds is shared
    equally by its items, so an order costs ``blocks`` scores however long the history is.

    Args:
        orders: random orders.
        blocks: blocks of an order.
        seed: of the orders.
    """

    name = "shap"

    def __init__(self, orders: int = 20, blocks: int = 10, seed: int = 0) -> None:
        self.orders, self.blocks, self.seed = orders, blocks, seed

    @classmethod
    def create(cls, split: Split, seed: int = 0) -> Self:
        """Nothing is read."""
        return cls(seed=seed)

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        rows, lengths = history.rows(), np.maximum(history.lengths, 1)
        keys = chances(self.seed, history, targets, self.orders)
        out = np.zeros(len(rows))
        nothing = told(model, Ragged.empty(len(history)), targets)
        for order in keys:
            arrival = rank_in_rows(history, order)
            block = arrival * self.blocks // lengths[rows]
            before = nothing
            for turn in range(self.blocks):
                now = told(model, history.where(block <= turn), targets)
                mine = block == turn
                size = np.bincount(rows[mine], minlength=len(history))
                out[mine] += ((now - before) / np.maximum(size, 1))[rows[mine]]
                before = now
        return (out / self.orders).astype(np.float32)
