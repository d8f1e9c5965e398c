"""Item vectors dealt out anew among the items: the control of everything that reads content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.joined import Composite


class Shuffled(Composite):
    """Every item gets the vector of another one, so that content says nothing of it any more.

    The vectors as a cloud, their number and the items without one stay what they were: whatever a
    model still gains from them it owes to more inputs or weights, not to what they mean. A system
    that gains as much from these as from its real vectors has learnt nothing from language.

    Args:
        of: description of the encoder whose vectors are dealt out.
        seed: of the deal.
    """

    name = "shuffled"

    def __init__(self, of: Any = "tfidf", seed: int = 0) -> None:
        from onoma.encoding import build

        if seed < 0:
            raise ValueError("seed must not be negative")
        self.parts, self.seed = [build(of)], seed

    def settings(self) -> dict[str, Any]:
        """What is dealt out, and the seed."""
        (part,) = self.parts
        return {"of": {"name": part.name, **part.settings()}, "seed": self.seed}

    def join(self, views: Sequence[NDArray[np.float32]], split: Split) -> NDArray[np.float32]:
        """The same rows in another order; zero rows stay where they are."""
        return deal(views[0], self.seed)


def deal(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """float32[n, d]: every non-zero row moves to the place of another one, by ``seed``."""
    known = np.flatnonzero(vectors.any(axis=1))
    order = np.random.default_rng([seed, 8_191]).permutation(known)
    out = vectors.copy()
    out[order] = vectors[np.roll(order, 1)]  # one ring: no row keeps its place
    return out
