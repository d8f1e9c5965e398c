"""Methods ``pq`` and ``opq``: every code names one part of the vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans, nearest
from onoma.indexing.quantised import QuantisedNames


class ProductNames(QuantisedNames):
    """The vector is cut into equal parts and each part into centroids (Jegou et al., TPAMI 2011).

    Args:
        levels: parts.
        size: centroids a part; at most a quarter of the items.
        iterations: most rounds of Lloyd's algorithm a part.
    """

    name = "pq"
    _rounds = 0

    def __init__(self, levels: int = 3, size: int = 256, iterations: int = 20) -> None:
        if levels < 1 or size < 1 or iterations < 1:
            raise OnomaError(
                f"levels is {levels}, size {size} and iterations {iterations}; "
                "all must be at least 1"
            )
        self.levels, self.size, self.iterations = levels, size, iterations

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"levels": self.levels, "size": self.size, "iterations": self.iterations}

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """As many codes as centroids."""
        levels, size, _ = learnt["codebooks"].shape
        return (size,) * levels

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Codebooks of the parts, and the rotation that comes before."""
        n, width = points.shape
        part = -(-width // self.levels)
        size = min(self.size, max(1, n // 4))
        # Wide parts of narrow vectors are filled with zeros.
        rotation = torch.eye(width, part * self.levels)
        if not n:
            return {"rotation": rotation, "codebooks": torch.zeros(self.levels, size, part)}
        books = self._books(points @ rotation, size, generator)
        for _ in range(self._rounds):
            turned = points @ rotation
            codes = _nearest_parts(turned, books)[0]
            # The rotation that brings the points nearest to their own reconstruction.
            u, _, v = torch.linalg.svd(points.T @ _said(codes, books), full_matrices=False)
            rotation = u @ v
            books = _centred(points @ rotation, codes, books)
        if self._rounds:
            books = self._books(points @ rotation, size, generator)
        return {"rotation": rotation.contiguous(), "codebooks": books}

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """The nearest centroid of every part."""
        codes, distance = _nearest_parts(points @ learnt["rotation"], learnt["codebooks"])
        return codes.numpy().astype(np.int32), distance.numpy()

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """The centroids of the parts side by side, turned back."""
        return _said(codes, learnt["codebooks"]) @ learnt["rotation"].T

    def _books(self, turned: Tensor, size: int, generator: torch.Generator) -> Tensor:
        return torch.stack(
            [
                kmeans(part.contiguous(), size, generator, iterations=self.iterations)
                for part in turned.chunk(self.levels, dim=1)
            ]
        )


class OptimisedProductNames(ProductNames):
    """Product names after a rotation that suits the cut (OPQ, Ge et al., CVPR 2013).

    Args:
        levels: parts.
        size: centroids a part; at most a quarter of the items.
        iterations: most rounds of Lloyd's algorithm a part.
        rounds: alternations of rotation and centroids.
    """

    name = "opq"

    def __init__(
        self, levels: int = 3, size: int = 256, iterations: int = 20, rounds: int = 10
    ) -> None:
        super().__init__(levels, size, iterations)
        if rounds < 1:
            raise OnomaError(f"rounds is {rounds}; it must be at least 1")
        self._rounds = rounds

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {**super().settings(), "rounds": self._rounds}


def _nearest_parts(turned: Tensor, books: Tensor) -> tuple[Tensor, Tensor]:
    pairs = [
        nearest(part.contiguous(), book)
        for part, book in zip(turned.chunk(len(books), dim=1), books, strict=True)
    ]
    return torch.stack([found for found, _ in pairs], 1), sum(
        (distance for _, distance in pairs), torch.zeros(len(turned))
    )


def _said(codes: Tensor, books: Tensor) -> Tensor:
    return torch.cat([book[codes[:, level]] for level, book in enumerate(books)], dim=1)


def _centred(turned: Tensor, codes: Tensor, books: Tensor) -> Tensor:
    """Means of the points of each centroid; empty ones stay."""
    out = books.clone()
    for level, part in enumerate(turned.chunk(len(books), dim=1)):
        count = torch.bincount(codes[:, level], minlength=books.shape[1])
        sums = torch.zeros_like(books[level]).index_add_(0, codes[:, level], part.contiguous())
        full = count > 0
        out[level][full] = sums[full] / count[full, None]
    return out
