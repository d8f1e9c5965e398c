"""Method ``collaborative``: paths in a tree of clusters of the co-occurrence graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.sparse.linalg import eigsh

from onoma.dataset import Ragged
from onoma.encoding.cooccurrence import interactions
from onoma.errors import OnomaError
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.paths import centres, free_names, nearest_leaf, with_counters

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_DEEPEST = 12
_ROUNDS = 200  # a few do, unless one item has nearly half of all edges
_TINY = 3  # a group this many times the number of clusters or smaller is dealt out, not clustered


class CollaborativeNames(IndexMethod):
    """Recursive spectral clustering of who is bought with whom (CID of Hua et al. 2023).

    Two items are joined by the number of training histories that hold both. The graph is cut into
    clusters, every cluster above ``leaf`` items again, and so on; a name is the path to the leaf
    and a last code for the place in it. The leading eigenvectors of the normalised graph are
    taken directly (Lanczos, memory linear in the edges) and turned into clusters by a pivoted QR
    (Damle, Minden and Ying 2019).

    Items no training history holds with another get a branch of their own, or, where vectors
    are given and theirs is not zero, the leaf whose mean vector is nearest.

    Args:
        clusters: parts of a cut.
        leaf: most items of a leaf.
        control: shuffle the graph, keeping every item's number of co-occurrences: names of the
            same shape that know nothing, for comparisons.
    """

    name = "collaborative"
    needs_vectors = False

    def __init__(self, clusters: int = 20, leaf: int = 500, control: bool = False) -> None:
        if clusters < 2 or leaf < 1:
            raise OnomaError(f"clusters is {clusters} and leaf {leaf}; they must be above 1 and 0")
        self.clusters, self.leaf, self.control = clusters, leaf, control

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Cluster ``split.train``; see :meth:`IndexMethod.build`."""
        graph = co_occurrence(split)
        if self.control:
            graph = rewired(graph, seed)
        known = np.flatnonzero(graph.indptr[1:] > graph.indptr[:-1])
        paths = np.full((graph.shape[0], _DEEPEST), -1, dtype=np.int32)
        self._cut(graph, known, paths, 0, np.random.default_rng(seed))
        depth = max(1, int((paths >= 0).any(axis=0).sum()))
        paths = paths[:, :depth]
        strangers = np.setdiff1d(np.arange(len(paths)), known)
        tensors: dict[str, NDArray[np.generic]] = {}
        if vectors is not None and len(known):
            leaves, middle = centres(paths[known], vectors[known])
            tensors = {"leaves": leaves, "centres": middle}
            paths[strangers] = _placed(tensors, vectors[strangers], depth, self.clusters)
        else:
            paths[strangers, 0] = self.clusters
        sizes = [self.clusters + 1] + [self.clusters] * (depth - 1)
        # The most connected items of a leaf are counted first.
        names, vocabularies = with_counters(paths, sizes, -_degree(graph), seed)
        meta = {
            "clusters": self.clusters, "leaf": self.leaf, "control": self.control, "seed": seed,
            "leaves": len(np.unique(paths, axis=0)), "edges": int(graph.nnz // 2),
            "unseen": len(strangers), "disambiguated": True, "counter": True,
        }  # fmt: skip
        return ItemIndex(names, vocabularies, self.name, tensors, meta)

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The leaf with the nearest mean vector, then its first free counter.

        Zero vectors, and all without vectors at building, go to the branch of the unseen. See
        :meth:`ItemIndex.assign`.
        """
        branch = index.sizes[0] - index.sizes[-1] - 1
        return free_names(index, _placed(index.tensors, vectors, index.depth - 1, branch))

    def _cut(
        self,
        graph: sp.csr_array,
        items: NDArray[np.int64],
        paths: NDArray[np.int32],
        depth: int,
        rng: np.random.Generator,
    ) -> None:
        """Write the paths of a group of items, from one depth on."""
        if not len(items) or (depth and len(items) <= self.leaf) or depth == _DEEPEST:
            return
        label = self._labels(graph[items][:, items], rng)
        counts = np.bincount(label, minlength=self.clusters)
        if counts.max() == len(items):
            # A group that does not split is dealt out: the path would go on for ever.
            label = rng.permutation(len(items)) % self.clusters
        # Clusters are numbered from the largest, so that codes do not tell the solver's order.
        label = np.argsort(np.argsort(-np.bincount(label, minlength=self.clusters)))[label]
        paths[items, depth] = label
        for cluster in range(self.clusters):
            self._cut(graph, items[label == cluster], paths, depth + 1, rng)

    def _labels(self, part: sp.csr_array, rng: np.random.Generator) -> NDArray[np.int64]:
        n, k = part.shape[0], self.clusters
        if n <= _TINY * k:
            return rng.permutation(n) % k
        degree = np.asarray(part.sum(axis=1)).ravel()
        # Items without a neighbour in the group hang on themselves: no division by zero.
        scale = sp.diags_array(1 / np.sqrt(np.maximum(degree, 1)))
        normal = scale @ (part + sp.diags_array((degree == 0).astype(float))) @ scale
        _, vectors = eigsh(normal, k=k, which="LA", v0=rng.random(n), tol=1e-3)
        _, _, pivots = qr(vectors.T, pivoting=True, mode="economic")
        u, _, v = np.linalg.svd(vectors[pivots[:k]].T)
        return np.abs(vectors @ (u @ v)).argmax(axis=1)


def co_occurrence(split: Split, longest: int = 200) -> sp.csr_array:
    """Float64[n_items, n_items], in how many training histories two items meet; zero diagonal.

    Args:
        split: only ``train`` is read.
        longest: histories count with their last items only, so that one user with a thousand
            items does not make a million edges. Items that are among the last of no history
            meet those of their own part of a history, in parts of at most so many items.
    """
    n = split.dataset.n_items
    held = interactions(split.train.last(longest), n).astype(np.float64)
    graph = sp.csr_array(held.T @ held)
    early = (split.train_counts > 0) & (graph.diagonal() == 0)
    if early.any():
        parts = interactions(_parted(split.train, longest), n).astype(np.float64)
        only = sp.diags_array(early.astype(np.float64))
        beside = (parts @ only).T @ parts
        graph = sp.csr_array(graph + beside + beside.T - beside @ only)
    graph.setdiag(0)
    graph.eliminate_zeros()
    return graph


def _parted(histories: Ragged, longest: int) -> Ragged:
    """The same values in rows of at most ``longest``."""
    lengths = histories.lengths
    parts = -(-lengths // longest)
    row = np.repeat(np.arange(len(histories)), parts)
    number = np.arange(len(row)) - np.repeat(parts.cumsum() - parts, parts)
    starts = histories.offsets[row] + number * lengths[row] // parts[row]
    return Ragged(np.append(starts, histories.offsets[-1]), histories.values)


def _placed(
    tensors: Mapping[str, NDArray[Any]], vectors: NDArray[np.float32], depth: int, branch: int
) -> NDArray[np.int32]:
    """int32[m, depth], the leaf nearest to each vector; the branch where nothing is near."""
    paths = np.full((len(vectors), depth), -1, dtype=np.int32)
    paths[:, 0] = branch
    if "centres" in tensors:
        told = vectors.any(axis=1)
        paths[told] = nearest_leaf(tensors["leaves"], tensors["centres"], vectors[told])
    return paths


def rewired(graph: sp.csr_array, seed: int) -> sp.csr_array:
    """A random graph in which every item has as many co-occurrences as before.

    The ends of all edges are shuffled (the configuration model). Edges that then join an item to
    itself are shuffled again with as many others, until none is left.

    Args:
        graph: symmetric, whole numbers, zero diagonal.
        seed: equal seeds give equal graphs.

    Returns:
        float64, symmetric. Where one item has more than half of all ends no such graph exists:
        what remains of its loops is dropped.
    """
    rng = np.random.default_rng(seed)
    upper = sp.coo_array(sp.triu(graph, k=1))
    times = upper.data.astype(np.int64)
    ends = np.concatenate([np.repeat(upper.row, times), np.repeat(upper.col, times)])
    left, right = rng.permutation(ends).reshape(2, -1)
    for _ in range(_ROUNDS):
        loops = np.flatnonzero(left == right)
        if not len(loops):
            break
        again = np.union1d(loops, rng.integers(0, len(right), len(loops) + 8))
        right[again] = rng.permutation(right[again])
    apart = left != right
    left, right = left[apart], right[apart]
    both = (np.append(left, right), np.append(right, left))
    out = sp.csr_array((np.ones(2 * len(left)), both), shape=graph.shape)
    out.sum_duplicates()
    return out


def _degree(graph: sp.csr_array) -> NDArray[np.float64]:
    return np.asarray(graph.sum(axis=1)).ravel()
