"""Method ``lsh``: the side of random planes on which a vector lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.quantised import QuantisedNames


class HashedNames(QuantisedNames):
    """Locality-sensitive hashing with random planes (Charikar, STOC 2002), the control of TIGER.

    Args:
        levels: codes.
        bits: planes a code; the vocabulary is two to this power.
    """

    name = "lsh"

    def __init__(self, levels: int = 3, bits: int = 8) -> None:
        if levels < 1 or not 1 <= bits <= 16:
            raise OnomaError(f"levels is {levels} and bits {bits}; at least 1, and from 1 to 16")
        self.levels, self.bits = levels, bits

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"levels": self.levels, "bits": self.bits}

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """Two to the power of the planes a code."""
        return (1 << self.bits,) * (learnt["planes"].shape[1] // self.bits)

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The planes, through the mean of the points so that they part them evenly."""
        width = points.shape[1]
        planes = torch.randn(width, self.levels * self.bits, generator=generator)
        return {"planes": planes, "mean": points.mean(0) if len(points) else torch.zeros(width)}

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """The sides as binary numbers."""
        sides = (points - learnt["mean"]) @ learnt["planes"] > 0
        powers = 2 ** torch.arange(self.bits - 1, -1, -1)
        codes = (sides.view(len(points), -1, self.bits) * powers).sum(-1)
        return codes.numpy().astype(np.int32), None
