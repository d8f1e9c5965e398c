"""Method ``uniform``: residual k-means whose last level is shared out so that no two names meet."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.index import ItemIndex
from onoma.indexing.kmeans import kmeans, nearest
from onoma.indexing.quantised import VectorNames, checked, summed
from onoma.indexing.trie import name_order, prefix_starts


class UniformNames(VectorNames):
    """Names without a counter (uniform semantic mapping of LC-Rec, Zheng et al., ICDE 2024).

    Items whose names meet are shared out over the last codes by an optimal transport with equal
    masses (Sinkhorn), a few times; what still meets then gets different last codes within each
    prefix group by a linear assignment that leaves every residual as near to its code as can be.
    Where a group holds more items than the last level has codes, the farthest move to the nearest
    group with room.

    Args:
        levels: codes; there is no other.
        size: centroids a level; at most a quarter of the items.
        iterations: most rounds of Lloyd's algorithm a level.
        rounds: most repairs by transport.
        epsilon: entropy of the transport, on distances scaled to [-1, 1].
    """

    name = "uniform"

    def __init__(
        self,
        levels: int = 4,
        size: int = 256,
        iterations: int = 20,
        rounds: int = 20,
        epsilon: float = 0.003,
    ) -> None:
        if levels < 2 or size < 1 or iterations < 1 or rounds < 0 or epsilon <= 0:
            raise OnomaError(
                f"levels is {levels}, size {size}, iterations {iterations}, rounds {rounds} and "
                f"epsilon {epsilon}; levels must be at least 2, size and iterations 1, rounds 0, "
                "and epsilon positive"
            )
        self.levels, self.size, self.iterations = levels, size, iterations
        self.rounds, self.epsilon = rounds, epsilon

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "levels": self.levels, "size": self.size, "iterations": self.iterations,
            "rounds": self.rounds, "epsilon": self.epsilon,
        }  # fmt: skip

    def name_vectors(self, vectors: NDArray[np.float32], seed: int = 0) -> ItemIndex:
        """Name one item for each row of float32[n, dim]; no data set needed.

        Raises:
            OnomaError: more items than names.
        """
        points = checked(vectors)
        generator = torch.Generator().manual_seed(seed)
        n = len(points)
        silent = (~points.any(dim=1)).numpy()
        known = points[torch.from_numpy(~silent)]
        size = min(self.size, max(1, n // 4))
        while size**self.levels < n:
            size += 1  # tiny catalogues: a quarter of the items is too few codes to tell them apart
        books = torch.zeros(self.levels, size, points.shape[1])
        left = points.clone()
        codes = np.zeros((n, self.levels), dtype=np.int32)
        for level in range(self.levels):
            if len(known):
                rest = left[torch.from_numpy(~silent)]
                books[level] = kmeans(rest, size, generator, iterations=self.iterations)
            found, _ = nearest(left, books[level])
            codes[:, level] = found.numpy()
            if level < self.levels - 1:
                left -= books[level][found]
        rng = np.random.default_rng([seed, 1])
        codes[silent, 1:] = rng.integers(0, size, (int(silent.sum()), self.levels - 1))
        greedy = _meeting(codes, size)
        entropy = [_perplexity(codes[:, -1], size)]
        for _ in range(self.rounds):
            met = np.flatnonzero(_groups_of(codes, size)[1] > 1)
            if not len(met):
                break
            codes[met, -1] = _transported(left[torch.from_numpy(met)], books[-1], self.epsilon)
        repaired = _meeting(codes, size)
        entropy.append(_perplexity(codes[:, -1], size))
        moved = _told_apart(codes, left, books)
        return ItemIndex(
            codes,
            (size,) * self.levels,
            self.name,
            {"codebooks": books.numpy()},
            {
                **self.settings(), "size": size, "seed": seed, "without_signal": int(silent.sum()),
                "met": {"greedy": greedy, "after_transport": repaired,
                        "after_assignment": _meeting(codes, size)},
                "last_perplexity": [round(value, 2) for value in entropy], "moved": moved,
            },
        )  # fmt: skip

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The nearest free name; see :meth:`ItemIndex.assign`."""
        points = checked(vectors)
        books = torch.from_numpy(index.tensors["codebooks"])
        if points.shape[1] != books.shape[2]:
            raise OnomaError(f"vectors of width {points.shape[1]}, named with {books.shape[2]}")
        used = _used_prefixes(index.codes[:, :-1])
        taken = {tuple(name) for name in index.codes.tolist()}
        names = np.empty((len(points), index.depth), dtype=np.int32)
        for row, point in enumerate(points):
            prefix, rest = _roomy_prefix(point, books, used)
            order = (rest - books[-1]).square().sum(1).argsort(stable=True).tolist()
            name = next((*prefix, code) for code in order if (*prefix, code) not in taken)
            taken.add(name)
            names[row] = name
        return names

    def reconstruct(self, index: ItemIndex) -> NDArray[np.float32] | None:
        """The sum of the centroids, repaired last codes included."""
        books = torch.from_numpy(index.tensors["codebooks"])
        return summed(torch.from_numpy(index.codes).long(), books).numpy()


def _groups_of(codes: NDArray[np.int32], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for every different row, and how many rows have the row's."""
    order = name_order(codes, (size,) * codes.shape[1])
    group = np.empty(len(codes), dtype=np.int64)
    group[order] = np.cumsum(prefix_starts(codes[order])[:, -1]) - 1
    return group, np.bincount(group)[group]


def _meeting(codes: NDArray[np.int32], size: int) -> float:
    """Share of items whose name another has: 1 - names / items, as the paper counts it."""
    group, _ = _groups_of(codes, size)
    return 1 - (int(group.max()) + 1) / len(codes)


def _perplexity(codes: NDArray[np.int32], size: int) -> float:
    share = np.bincount(codes, minlength=size) / len(codes)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _transported(left: Tensor, book: Tensor, epsilon: float) -> NDArray[np.int32]:
    """int32[m], the code that gets the most of each residual under equal masses."""
    far = torch.cdist(left.double(), book.double()).square()
    middle = (far.max() + far.min()) / 2
    far = (far - middle) / (far.max() - middle).clamp(min=1e-12)
    kernel = -far / epsilon
    rows, columns = -np.log(len(left)), -np.log(len(book))
    u, v = torch.zeros(len(left), 1).double(), torch.zeros(1, len(book)).double()
    for _ in range(50):
        v = columns - (kernel + u).logsumexp(0, keepdim=True)
        u = rows - (kernel + v).logsumexp(1, keepdim=True)
    return (kernel + v).argmax(1).numpy().astype(np.int32)


def _told_apart(codes: NDArray[np.int32], left: Tensor, books: Tensor) -> int:
    """Give every item of a prefix group its own last code, in place; items that left their group.

    ``left`` are the residuals before the last level.
    """
    size, depth = books.shape[1], codes.shape[1]
    group, count = _groups_of(codes[:, :-1], size)
    leaving: list[int] = []
    for number in np.unique(group[count > size]):
        members = np.flatnonzero(group == number)
        picked = torch.from_numpy(members)
        far = (left[picked] - books[-1][torch.from_numpy(codes[members, -1]).long()]).square()
        order = far.sum(1).argsort(descending=True, stable=True)[: len(members) - size]
        leaving += members[order.numpy()].tolist()
    if leaving:
        used = _used_prefixes(np.delete(codes, leaving, axis=0)[:, :-1])
        for item in leaving:
            said = sum(books[i][codes[item, i]] for i in range(depth - 1))
            prefix, rest = _roomy_prefix(left[item] + said, books, used)
            codes[item, :-1], left[item] = prefix, rest
            codes[item, -1] = int((rest - books[-1]).square().sum(1).argmin())
    group, _ = _groups_of(codes[:, :-1], size)
    _, alike = _groups_of(codes, size)
    for number in np.unique(group[alike > 1]):
        members = np.flatnonzero(group == number)
        cost = torch.cdist(left[torch.from_numpy(members)], books[-1]).square().numpy()
        rows, columns = linear_sum_assignment(cost)
        codes[members[rows], -1] = columns
    return len(leaving)


def _used_prefixes(prefixes: NDArray[np.int32]) -> Counter[tuple[int, ...]]:
    """How many items stand under every prefix, the empty one included."""
    used: Counter[tuple[int, ...]] = Counter()
    for length in range(prefixes.shape[1] + 1):
        rows, counts = np.unique(prefixes[:, :length], axis=0, return_counts=True)
        used.update(dict(zip(map(tuple, rows.tolist()), counts.tolist(), strict=True)))
    return used


def _roomy_prefix(
    point: Tensor, books: Tensor, used: Counter[tuple[int, ...]]
) -> tuple[tuple[int, ...], Tensor]:
    """The codes but the last of the nearest group with room, now used once more, and the residual.

    Raises:
        OnomaError: all names are taken.
    """
    size, rest = books.shape[1], point
    prefix: tuple[int, ...] = ()
    for level, book in enumerate(books[:-1]):
        room = size ** (len(books) - level - 1)
        for code in (rest - book).square().sum(1).argsort(stable=True).tolist():
            if used[(*prefix, code)] < room:
                break
        else:
            raise OnomaError("no name is free", fix="Give the index more levels or a larger size")
        prefix, rest = (*prefix, code), rest - book[code]
    for length in range(len(prefix) + 1):
        used[prefix[:length]] += 1
    return prefix, rest
