"""Planted clicks: which items of a history bear on a candidate is known, and so is the best AUC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.recommenders.ranking.clicks import Pairs

CATEGORIES, GROUPS, LATENT = 12, 4, 4
_SAME, _NEAR, _AGE, _STRENGTH = 3.0, 2.0, 8.0, 4.0


@dataclass(frozen=True)
class Planted:
    """Questions whose answers were drawn from a known chance.

    Attributes:
        pairs: m of them.
        clicked: bool[m].
        logits: float64[m], the log-odds that clicks were drawn from.
        weights: float64[m, l], how each item of a history bears on its candidate; rows add up
            to 1.
        kinds: int64[n_items, 2], categories (from 1) and 0.
    """

    pairs: Pairs
    clicked: NDArray[np.bool_]
    logits: NDArray[np.float64]
    weights: NDArray[np.float64]
    kinds: NDArray[np.int64]

    def part(self, start: int, stop: int) -> Planted:
        """Rows ``start`` to ``stop``."""
        rows = slice(start, stop)
        return Planted(
            self.pairs[rows], self.clicked[rows], self.logits[rows], self.weights[rows], self.kinds
        )


def planted(pairs: int, items: int = 300, length: int = 20, seed: int = 0) -> Planted:
    """Draw histories, candidates and clicks.

    Candidates and histories are uniform. An item bears on a candidate by a softmax of what their
    categories are to each other (the same, of one of four groups, or strangers; symmetric) and of
    how long ago it was. What it then says is the product of two hidden vectors, drawn item by
    item with no regard to categories: who is asked and what is heard have nothing in common.

    Args:
        pairs: questions.
        items: of the catalogue.
        length: of every history.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    category = rng.permutation(items) % CATEGORIES
    hidden = rng.standard_normal((items, LATENT))
    history = rng.integers(0, items, (pairs, length))
    target = rng.integers(0, items, pairs)
    group = category % GROUPS
    same = category[history] == category[target][:, None]
    near = group[history] == group[target][:, None]
    ago = np.arange(length, 0, -1)
    bears = np.where(same, _SAME, np.where(near, _NEAR, 0.0)) - ago / _AGE
    weights = np.exp(bears - bears.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    heard = np.einsum("ml,mld->md", weights, hidden[history])
    logits = _STRENGTH * (heard * hidden[target]).sum(axis=1) / LATENT**0.5
    clicked = rng.random(pairs) < 1 / (1 + np.exp(-logits))
    nobody = torch.zeros(pairs, dtype=torch.int64)
    asked = Pairs(torch.from_numpy(history), nobody, torch.from_numpy(target), nobody + length)
    kinds = np.stack([category + 1, np.zeros(items, dtype=np.int64)], axis=1)
    return Planted(asked, clicked, logits, weights, kinds)
