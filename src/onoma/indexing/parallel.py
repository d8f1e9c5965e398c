"""Method ``parallel``: centroids that are added up, so that codes stand in no order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans, means, nearest
from onoma.indexing.quantised import QuantisedNames, summed

_ROWS = 1 << 16  # points quantised at a time
_SETTLED = 1e-3  # a round that takes less of the error than this share is the last
_TURNS = 10  # most times that each code of an item is chosen anew


class ParallelNames(QuantisedNames):
    """Codes whose centroids add up, as those of the experts do in REG4Rec's quantiser (2025).

    Additive quantisation (Babenko and Lempitsky, CVPR 2014): codebooks begin as residual k-means;
    then, by turns, each does one round of k-means on what all others leave, until no order is left
    in them. REG4Rec trains a network an expert, held apart by a penalty, and a gate over them;
    networks held apart rebuilt nothing of the item here, and a gate can switch an expert off.

    Args:
        levels: codebooks.
        size: centroids each; at most a quarter of the items.
        iterations: most rounds of Lloyd's algorithm to begin a codebook.
        rounds: most turns of all codebooks afterwards.
    """

    name = "parallel"

    def __init__(
        self, levels: int = 4, size: int = 256, iterations: int = 20, rounds: int = 30
    ) -> None:
        if levels < 1 or size < 1 or iterations < 1 or rounds < 0:
            raise OnomaError(
                f"levels is {levels}, size {size}, iterations {iterations} and rounds {rounds}; "
                "the first three must be at least 1, rounds at least 0"
            )
        self.levels, self.size = levels, size
        self.iterations, self.rounds = iterations, rounds

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"levels": self.levels, "size": self.size, "iterations": self.iterations,
                "rounds": self.rounds}  # fmt: skip

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """As many codes as centroids."""
        levels, size, _ = learnt["codebooks"].shape
        return (size,) * levels

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The codebooks, of at most 1,024 points a centroid."""
        size = min(self.size, max(1, len(points) // 4))
        books = torch.zeros(self.levels, size, points.shape[1])
        if not len(points):
            return {"codebooks": books}
        limit = 1024 * size
        if len(points) > limit:
            points = points[torch.randperm(len(points), generator=generator)[:limit]]
        left, codes = points.clone(), torch.zeros(self.levels, len(points), dtype=torch.int64)
        for level in range(self.levels):
            books[level] = kmeans(left, size, generator, iterations=self.iterations)
            codes[level], _ = nearest(left, books[level])
            left -= books[level][codes[level]]
        last = torch.inf
        for _ in range(self.rounds):
            for level in torch.randperm(self.levels, generator=generator).tolist():
                left += books[level][codes[level]]
                codes[level], distance = nearest(left, books[level])
                books[level] = means(left, books[level], codes[level], distance)[0]
                left -= books[level][codes[level]]
            error = float(left.square().sum(dtype=torch.float64))
            if error > last * (1 - _SETTLED):
                break
            last = error
        return {"codebooks": books}

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """Each code in turn the nearest to what the others leave, until none changes."""
        books = learnt["codebooks"]
        codes = torch.zeros(len(books), len(points), dtype=torch.int64)
        distance = torch.zeros(len(points))
        for start in range(0, len(points), _ROWS):
            left, here = points[start : start + _ROWS].clone(), slice(start, start + _ROWS)
            for turn in range(_TURNS):
                before = codes[:, here].clone()
                for level, book in enumerate(books):
                    if turn:
                        left += book[codes[level, here]]
                    codes[level, here], distance[here] = nearest(left, book)
                    left -= book[codes[level, here]]
                if turn and torch.equal(before, codes[:, here]):
                    break
        return codes.T.numpy().astype(np.int32), distance.numpy()

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """The sum of the centroids."""
        return summed(codes, learnt["codebooks"])
