"""All names of a catalogue as a tensor trie: what may follow a prefix, for batch x beam at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError

_DENSE_CELLS = 1 << 25  # a level above this (128 MB a table) is not worth its memory
_DENSE_CHILDREN = 4  # with fewer children a node, or fewer than a 16th of the codes,
_DENSE_SHARE = 1 / 16  # listing them is cheaper than going over the vocabulary


def name_order(codes: NDArray[np.integer], sizes: Sequence[int]) -> NDArray[np.int64]:
    """int64[n], the stable order that sorts names code by code; an end (-1) sorts last."""
    bits = [int(size).bit_length() for size in sizes]
    columns = [np.where(codes[:, i] < 0, sizes[i], codes[:, i]) for i in range(len(sizes))]
    if sum(bits) > 63:
        return np.lexsort(columns[::-1]).astype(np.int64)
    key = np.zeros(len(codes), dtype=np.int64)
    for column, width in zip(columns, bits, strict=True):
        key = (key << width) | column
    return np.argsort(key, kind="stable").astype(np.int64)


def prefix_starts(sorted_codes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """bool[n, depth]: row r of sorted names is the first with its prefix of length c + 1."""
    fresh = np.ones(sorted_codes.shape, dtype=bool)
    if len(sorted_codes) > 1:
        np.not_equal(sorted_codes[1:], sorted_codes[:-1], out=fresh[1:])
        np.logical_or.accumulate(fresh, axis=1, out=fresh)
    return fresh


def check_codes(codes: NDArray[np.integer], sizes: Sequence[int]) -> None:
    """Refuse names that no speller could spell.

    Raises:
        OnomaError: a wrong shape, a code outside its vocabulary, a code after an end, or an
            empty name.
    """
    if codes.ndim != 2 or codes.shape[1] != len(sizes) or not len(sizes):
        raise OnomaError(f"names of shape {codes.shape} against {len(sizes)} vocabularies")
    outside = (codes < -1) | (codes >= np.asarray(sizes)[None, :])
    if outside.any():
        row, level = np.argwhere(outside)[0]
        raise OnomaError(
            f"code {codes[row, level]} is outside the vocabulary of {sizes[level]}",
            where=f"item {row}, level {level}",
        )
    ended = codes < 0
    if ended.any():
        bad = ended[:, 0] | (ended[:, :-1] & ~ended[:, 1:]).any(axis=1)
        if bad.any():
            raise OnomaError(
                "a name is empty or goes on after its end", where=f"item {bad.argmax()}"
            )


@dataclass(frozen=True)
class Level:
    """The nodes that choose the code of one level.

    Nodes are numbered within their level in the order of their prefixes, so the children of node
    ``i`` are the nodes ``first[i]`` to ``first[i + 1]`` of the next level. One more node than
    there are prefixes stands for a dead beam: it allows nothing.

    Attributes:
        size: vocabulary of the level; the code ``size`` stands for the end of a name.
        nodes: number of prefixes.
        first: int32[nodes + 2], first child.
        codes: int32[children + 1], the code that leads to each child of the next level.
        penalty: float32[nodes + 1, size], 0 where a code may follow, else -inf; None for levels
            whose nodes have few children for their vocabulary, or where names end. Floats,
            because adding a row takes a fifth of the time of masking by booleans.
        next: int32[nodes + 1, size], the child by code (dead where none), beside ``penalty``.
        ends: whether some names are shorter than this level.
    """

    size: int
    nodes: int
    first: Tensor
    codes: Tensor
    penalty: Tensor | None
    next: Tensor | None
    ends: bool

    @property
    def children(self) -> int:
        """Number of nodes of the next level, which is also the number of its dead node."""
        return len(self.codes) - 1

    def parents(self) -> Tensor:
        """int64[children], the node above each node of the next level."""
        return torch.repeat_interleave(
            torch.arange(self.nodes, device=self.first.device), self.first[1:-1] - self.first[:-2]
        )

    def mask_(self, values: Tensor, nodes: Tensor) -> Tensor:
        """Add -inf to float32[n, b, size] where int64[n, b] nodes forbid the code; needs tables."""
        assert self.penalty is not None
        return values.add_(self.penalty.index_select(0, nodes.reshape(-1)).view(values.shape))

    def follow(self, nodes: Tensor, codes: Tensor) -> Tensor:
        """int64, the child of each node by a code below ``size``; needs tables."""
        assert self.next is not None
        return self.next.view(-1)[nodes * self.size + codes].long()

    def children_of(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The row, node (of the next level) and code of every child of int64[m] nodes, int32."""
        first = self.first.index_select(0, nodes)
        count = self.first.index_select(0, nodes + 1) - first
        before = count.cumsum(0, dtype=torch.int32) - count
        rows = torch.repeat_interleave(count)
        children = torch.arange(len(rows), dtype=torch.int32, device=nodes.device)
        children += (first - before).index_select(0, rows)
        return rows, children, self.codes.index_select(0, children)

    def child(self, nodes: Tensor, codes: Tensor) -> Tensor:
        """int64, the child of each node by code; the dead node where the code is not allowed."""
        if self.next is not None:
            inside = codes.clamp(0, self.size - 1)
            return torch.where(inside == codes, self.follow(nodes, inside), self.children)
        low, high = self.first[nodes], self.first[nodes + 1]
        end = high
        widest = int((high - low).max()) if nodes.numel() else 0
        for _ in range(widest.bit_length()):  # binary search of all at once
            middle = (low + high) // 2
            right = (self.codes[middle] < codes) & (middle < high)
            low = torch.where(right, middle + 1, low)
            high = torch.where(right, high, middle)
        hit = (low < end) & (self.codes[low] == codes)
        return torch.where(hit, low, self.children)


@dataclass(frozen=True)
class Trie:
    """The names of a catalogue, ready for constrained decoding.

    Attributes:
        levels: one :class:`Level` a code.
        items: int64[n_items + 1], the item of each complete name in sorted order; -1 for the
            dead node.
    """

    levels: tuple[Level, ...]
    items: Tensor

    @classmethod
    def build(cls, codes: NDArray[np.integer], sizes: Sequence[int]) -> Trie:
        """Sort the names, then read the levels off the places where prefixes change: O(n log n).

        Args:
            codes: int[n_items, depth], -1 after the end of a shorter name.
            sizes: vocabulary of each level.

        Raises:
            OnomaError: a code outside its vocabulary, or two items with one name.
        """
        codes = np.asarray(codes)
        check_codes(codes, sizes)
        order = name_order(codes, sizes)
        names = codes[order]
        fresh = prefix_starts(names)
        if not fresh[:, -1].all():
            row = int((~fresh[:, -1]).argmax())
            raise OnomaError(
                f"items {order[row - 1]} and {order[row]} have the same name",
                fix="Add a disambiguation level",
            )
        n = len(codes)
        starts = np.zeros(min(n, 1), dtype=np.int64)
        levels = []
        for level, size in enumerate(sizes):
            below = np.flatnonzero(fresh[:, level])
            column = names[below, level].astype(np.int64)
            levels.append(_level(starts, below, column, int(size)))
            starts = below
        items = torch.from_numpy(np.append(order, -1))
        return cls(tuple(levels), items)

    @property
    def depth(self) -> int:
        """Longest name."""
        return len(self.levels)

    @property
    def n_items(self) -> int:
        """Number of names."""
        return len(self.items) - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Vocabulary of each level."""
        return tuple(level.size for level in self.levels)

    @property
    def nbytes(self) -> int:
        """Memory of all tables."""
        tables = [self.items]
        for level in self.levels:
            tables += [level.first, level.codes]
            tables += [t for t in (level.penalty, level.next) if t is not None]
        return sum(t.numel() * t.element_size() for t in tables)

    def to(self, device: torch.device | str) -> Trie:
        """The same trie on another device."""
        move = [
            Level(
                x.size, x.nodes, x.first.to(device), x.codes.to(device),
                None if x.penalty is None else x.penalty.to(device),
                None if x.next is None else x.next.to(device), x.ends,
            )
            for x in self.levels
        ]  # fmt: skip
        return Trie(tuple(move), self.items.to(device))

    def allowed(self, level: int, nodes: Tensor) -> Tensor:
        """bool[..., size + 1]: codes that may follow; the last column is the end of the name."""
        table = self.levels[level]
        if table.penalty is not None:
            return torch.nn.functional.pad(table.penalty[nodes] == 0, (0, 1), value=False)
        flat = nodes.reshape(-1)
        rows, _, codes = table.children_of(flat)
        mask = torch.zeros(len(flat), table.size + 1, dtype=torch.bool, device=nodes.device)
        mask[rows, codes] = True
        return mask.view(*nodes.shape, table.size + 1)

    def advance(self, level: int, nodes: Tensor, codes: Tensor) -> Tensor:
        """int64, the nodes of the next level; an end is the code -1 or ``size``."""
        table = self.levels[level]
        return table.child(nodes, torch.where(codes < 0, table.size, codes))

    def find(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """int64[m], the item of each name (int[m, depth]); -1 where the catalogue has none."""
        names = torch.from_numpy(np.asarray(codes, dtype=np.int64)).to(self.items.device)
        nodes = torch.zeros(len(names), dtype=torch.int64, device=names.device)
        for level in range(self.depth):
            nodes = self.advance(level, nodes, names[:, level])
        return self.items[nodes].cpu().numpy()


def _level(
    starts: NDArray[np.int64], below: NDArray[np.int64], column: NDArray[np.int64], size: int
) -> Level:
    """One level from the first rows of its nodes and of their children in the sorted names."""
    nodes, children = len(starts), len(below)
    first = np.full(nodes + 2, children, dtype=np.int64)
    first[:nodes] = np.searchsorted(below, starts)
    ends = bool((column < 0).any())
    codes = np.where(column < 0, size, column)
    penalty = following = None
    cells = (nodes + 1) * size
    few = nodes * max(size * _DENSE_SHARE, _DENSE_CHILDREN)
    if not ends and nodes and cells <= _DENSE_CELLS and children >= few:
        following = np.full((nodes + 1, size), children, dtype=np.int32)
        parent = np.repeat(np.arange(nodes), np.diff(first[: nodes + 1]))
        following[parent, codes] = np.arange(children, dtype=np.int32)
        penalty = torch.zeros(nodes + 1, size)
        penalty.masked_fill_(torch.from_numpy(following == children), -torch.inf)
    return Level(
        size,
        nodes,
        torch.from_numpy(first.astype(np.int32)),
        torch.from_numpy(np.append(codes, size + 1).astype(np.int32)),
        penalty,
        None if following is None else torch.from_numpy(following),
        ends,
    )
