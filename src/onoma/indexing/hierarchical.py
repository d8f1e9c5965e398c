"""Method ``hkmeans``: k-means inside each cluster of k-means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans
from onoma.indexing.quantised import QuantisedNames


class HierarchicalNames(QuantisedNames):
    """A tree of centroids of the vectors themselves (Nister and Stewenius, CVPR 2006).

    Unlike residual codes a code means nothing without those before it, as in the trees of DSI
    (Tay et al., NeurIPS 2022).

    Args:
        levels: depth of the tree.
        size: children of a node; fewer in groups of fewer than four items a child.
        iterations: most rounds of Lloyd's algorithm a node.
    """

    name = "hkmeans"

    def __init__(self, levels: int = 3, size: int = 24, iterations: int = 20) -> None:
        if levels < 1 or size < 2 or iterations < 1:
            raise OnomaError(
                f"levels is {levels}, size {size} and iterations {iterations}; "
                "they must be at least 1, 2 and 1"
            )
        if size ** (levels - 1) > 1 << 20:
            raise OnomaError(
                f"a tree of {levels} levels of {size} has too many nodes",
                fix="Use fewer levels or a smaller size",
            )
        self.levels, self.size, self.iterations = levels, size, iterations

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"levels": self.levels, "size": self.size, "iterations": self.iterations}

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The same at every level."""
        size = learnt["level0"].shape[1]
        return (size,) * len(learnt)

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One float32[nodes, size, dim] of children's centroids a level; NaN: no such child."""
        n, width = points.shape
        size = max(1, min(self.size, n // 4))
        node = torch.zeros(n, dtype=torch.int64)
        learnt = {}
        for level in range(self.levels):
            book = torch.full((size**level, size, width), torch.nan)
            order = node.argsort(stable=True)
            count = torch.bincount(node, minlength=size**level)
            ends = count.cumsum(0).tolist()
            child = torch.zeros(n, dtype=torch.int64)
            for number in torch.nonzero(count)[:, 0].tolist():
                rows = order[ends[number] - int(count[number]) : ends[number]]
                inside = points[rows]
                some = max(1, min(size, len(rows) // 4))
                centres = kmeans(inside, some, generator, iterations=self.iterations)
                book[number, :some] = centres
                child[rows] = torch.cdist(inside, centres).argmin(1)
            learnt[f"level{level}"] = book
            node = node * size + child
        if not n:
            learnt["level0"][:] = 0
        return learnt

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """Down the tree, the nearest child at every node."""
        n = len(points)
        codes = torch.zeros(n, len(learnt), dtype=torch.int64)
        distance, node = torch.zeros(n), torch.zeros(n, dtype=torch.int64)
        for level in range(len(learnt)):
            book = learnt[f"level{level}"]
            for start in range(0, n, 4096):
                rows = slice(start, start + 4096)
                apart = (points[rows, None] - book[node[rows]]).square().sum(-1)
                # A node nobody was in at building has no centroids: its first child stands.
                best, which = apart.nan_to_num(nan=torch.inf).min(dim=1)
                codes[rows, level], distance[rows] = which, best.nan_to_num(posinf=0)
            node = node * book.shape[1] + codes[:, level]
        return codes.numpy().astype(np.int32), distance.numpy()

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """The centroid of the leaf; nothing where a leaf has none."""
        size = learnt["level0"].shape[1]
        node = torch.zeros(len(codes), dtype=torch.int64)
        for level in range(len(learnt) - 1):
            node = node * size + codes[:, level]
        return learnt[f"level{len(learnt) - 1}"][node, codes[:, -1]].nan_to_num(nan=0.0)
