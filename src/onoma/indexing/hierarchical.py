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

_CELLS = 1 << 24  # distances are taken from differences of at most 64 MB


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
        self.levels, self.size, self.iterations = levels, size, iterations

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"levels": self.levels, "size": self.size, "iterations": self.iterations}

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The same at every level: as many as the root has children."""
        return (int(learnt["first0"][-1]),) * (len(learnt) // 2)

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The tree, a pair of tensors a level.

        ``level{l}`` are the centroids of the children of all nodes, float32[children, dim], and
        ``first{l}`` says where those of each node begin, int64[nodes + 1]. The children are the
        nodes of the next level; a node that nobody is in has none.
        """
        if not len(points):
            points = points.new_zeros(1, points.shape[1])
        n = len(points)
        size = max(1, min(self.size, n // 4))
        node = torch.zeros(n, dtype=torch.int64)
        nodes, learnt = 1, {}
        for level in range(self.levels):
            order = node.argsort(stable=True)
            count = torch.bincount(node, minlength=nodes)
            ends = count.cumsum(0).tolist()
            children = torch.zeros(nodes, dtype=torch.int64)
            child = torch.zeros(n, dtype=torch.int64)
            books = []
            for number in torch.nonzero(count)[:, 0].tolist():
                rows = order[ends[number] - int(count[number]) : ends[number]]
                inside = points[rows]
                some = max(1, min(size, len(rows) // 4))
                centres = kmeans(inside, some, generator, iterations=self.iterations)
                books.append(centres)
                children[number] = some
                child[rows] = torch.cdist(inside, centres).argmin(1)
            first = torch.cat([torch.zeros(1, dtype=torch.int64), children.cumsum(0)])
            learnt[f"level{level}"], learnt[f"first{level}"] = torch.cat(books), first
            node, nodes = first[node] + child, int(first[-1])
        return learnt

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """Down the tree, the nearest child at every node; 0 where a node has no children."""
        n, tree = len(points), _tree(learnt)
        codes = torch.zeros(n, len(tree), dtype=torch.int64)
        node = torch.zeros(n, dtype=torch.int64)
        for level, (book, first) in enumerate(tree):
            distance = torch.zeros(n)
            order = node.argsort(stable=True)
            # Points in no node (-1) have come to a place that nobody was in at building.
            count = torch.bincount(node + 1, minlength=len(first))
            ends = count.cumsum(0).tolist()
            below = torch.full((n,), -1, dtype=torch.int64)
            for number in (torch.nonzero(count[1:] * first.diff())[:, 0]).tolist():
                rows = order[ends[number] : ends[number + 1]]
                centres = book[first[number] : first[number + 1]]
                for few in torch.split(rows, max(1, _CELLS // centres.numel())):
                    apart = (points[few, None] - centres).square().sum(-1)
                    distance[few], codes[few, level] = apart.min(dim=1)
                below[rows] = first[number] + codes[rows, level]
            node = below
        return codes.numpy().astype(np.int32), distance.numpy()

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """The centroid of the leaf; nothing where a leaf has none."""
        tree = _tree(learnt)
        node = torch.zeros(len(codes), dtype=torch.int64)
        for level, (_, first) in enumerate(tree):
            # A place that nobody is in leads to the node behind the last, which has no children.
            ends = torch.cat([first, first[-1:]])
            into = ends[node] + codes[:, level]
            node = torch.where(into < ends[node + 1], into, ends[-1])
        book = tree[-1][0]
        return torch.cat([book, torch.zeros(1, book.shape[1])])[node]


def _tree(learnt: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The pairs of :meth:`HierarchicalNames.learn`, level by level."""
    if "first0" in learnt:
        levels = range(len(learnt) // 2)
        return [(learnt[f"level{level}"], learnt[f"first{level}"]) for level in levels]
    # A file may also hold a place for every node there could be, NaN where none is.
    tree, rows = [], torch.zeros(1, dtype=torch.int64)
    for level in range(len(learnt)):
        places = learnt[f"level{level}"]
        book = places[rows]
        there = ~book[:, :, 0].isnan()
        first = torch.cat([torch.zeros(1, dtype=torch.int64), there.sum(1).cumsum(0)])
        tree.append((book[there], first))
        node, code = there.nonzero(as_tuple=True)
        rows = rows[node] * places.shape[1] + code
    return tree
