"""Method ``streaming``: a codebook that follows the log, and items that change their cluster."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.encoding.base import unit_rows
from onoma.errors import OnomaError
from onoma.indexing.disambiguation import SPARE
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.kmeans import kmeans, nearest
from onoma.indexing.quantised import checked

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_RAREST = 0.01  # of the mean count: without a floor all items would rush to a dying cluster


class StreamingIndex:
    """Names that move as interactions arrive (StreamingVQ, 2025).

    A name is a cluster and a counter within it. Every batch of events updates the clusters it
    touches by moving averages, in which an item counts by its gap since it was last seen to the
    power ``beta`` (so that popular items do not dominate), and attaches its items anew where
    ``|centroid - vector|^2 * (count / mean count)^balance`` is least: clusters that few items use
    look nearer, crowded ones farther. The paper's factor, ``min(1, s * count / mean count)``,
    sends items to centroids many times as far; a low power moves only those that lie between two.

    Args:
        books: float32[size, dim] centroids.
        weights: float64[size] running counts.
        cluster: int32[n] the cluster of every item.
        counter: int32[n] its place within.
        seen: int64[n] the event at which it was last seen.
        events: events so far.
        balance: as above; 0 does not balance.
        beta: as above; 0 counts every event alike.
        decay: share of the moving averages that a batch keeps.
    """

    def __init__(
        self,
        books: NDArray[np.float32],
        weights: NDArray[np.float64],
        cluster: NDArray[np.int32],
        counter: NDArray[np.int32],
        seen: NDArray[np.int64],
        events: int,
        *,
        balance: float,
        beta: float,
        decay: float,
    ) -> None:
        self.books, self.weights = books.astype(np.float32), weights.astype(np.float64)
        self.sums = self.books * self.weights[:, None]
        self.cluster, self.counter, self.seen = cluster.copy(), counter.copy(), seen.copy()
        self.events, self.balance, self.beta, self.decay = events, balance, beta, decay
        self._free: list[list[int]] = [[] for _ in range(len(books))]
        self._next = np.zeros(len(books), dtype=np.int64)
        np.maximum.at(self._next, cluster, counter.astype(np.int64) + 1)
        for number in range(len(books)):
            used = set(counter[cluster == number].tolist())
            self._free[number] = [c for c in range(int(self._next[number])) if c not in used]

    @property
    def n_items(self) -> int:
        """Named items."""
        return len(self.cluster)

    def attach(self, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """int32[m], the cluster of each of float32[m, dim]."""
        far = (
            np.square(vectors).sum(1, keepdims=True)
            - 2 * vectors @ self.books.T
            + np.square(self.books).sum(1)
        )
        crowd = np.maximum(self.weights / self.weights.mean(), _RAREST) ** self.balance
        return (np.maximum(far, 0) * crowd.astype(np.float32)).argmin(1).astype(np.int32)

    def probe(self, queries: NDArray[np.float32], budget: int) -> NDArray[np.int64]:
        """The items to score for each query, those of the clusters nearest by angle.

        Args:
            queries: float32[b, dim].
            budget: items a query; the last cluster is cut where it ends.

        Returns:
            int64[b, min(budget, n)] items, cluster by cluster.
        """
        budget = min(budget, self.n_items)
        count = np.bincount(self.cluster, minlength=len(self.books))
        members = np.lexsort((self.counter, self.cluster))
        order = np.argsort(-(queries @ unit_rows(self.books).T), axis=1, kind="stable")
        ends = np.minimum(count[order].cumsum(axis=1), budget)
        taken = np.diff(ends, axis=1, prepend=0).ravel()
        begin = np.repeat((count.cumsum() - count)[order.ravel()], taken)
        within = np.arange(len(begin)) - np.repeat(taken.cumsum() - taken, taken)
        return members[begin + within].reshape(len(queries), budget)

    def observe(self, items: NDArray[np.integer], vectors: NDArray[np.float32]) -> int:
        """Learn from events, in order; items that are new are named first.

        Args:
            items: int[m], the items of the events; new ones have the codes that follow those in
                use.
            vectors: float32[m, dim], the items' vectors now.

        Returns:
            How many of the items that were known have a new name.

        Raises:
            OnomaError: a new item whose code leaves a gap.
        """
        items = np.asarray(items, dtype=np.int64)
        fresh, first = np.unique(items, return_index=True)
        first = first[fresh >= self.n_items]
        fresh = fresh[fresh >= self.n_items]
        if not np.array_equal(fresh, self.n_items + np.arange(len(fresh))):
            raise OnomaError(
                f"item {fresh[0]} is new, and {self.n_items} items are named",
                fix=f"Number new items from {self.n_items}, without a gap",
            )
        if len(fresh):
            self.add(vectors[first])
        known = len(self.cluster) - len(fresh)
        now = self.events + np.arange(len(items))
        before = self.seen[items]
        order = np.argsort(items, kind="stable")
        again = np.flatnonzero(np.diff(items[order]) == 0)
        before[order[again + 1]] = now[order[again]]
        gaps = np.maximum(now - before, 1).astype(np.float64)
        weight = gaps**self.beta
        self.events += len(items)
        self.seen[items] = now
        here = self.cluster[items]
        self.weights *= self.decay
        self.sums *= np.float32(self.decay)
        np.add.at(self.weights, here, (1 - self.decay) * weight)
        share = ((1 - self.decay) * weight).astype(np.float32)
        np.add.at(self.sums, here, share[:, None] * vectors)
        touched = np.unique(here)
        self.books[touched] = self.sums[touched] / self.weights[touched, None]
        last, at = np.unique(items[::-1], return_index=True)  # the newest vector of each item
        goal = self.attach(vectors[::-1][at])
        moving = goal != self.cluster[last]
        for item, number in zip(last[moving].tolist(), goal[moving].tolist(), strict=True):
            heapq.heappush(self._free[self.cluster[item]], int(self.counter[item]))
            self.cluster[item], self.counter[item] = number, self._take(number)
        return int((moving & (last < known)).sum())

    def add(self, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """int32[m, 2], the names of new items, numbered behind those there are."""
        goal = self.attach(vectors)
        counter = np.array([self._take(number) for number in goal.tolist()], dtype=np.int32)
        self.cluster = np.concatenate([self.cluster, goal])
        self.counter = np.concatenate([self.counter, counter])
        self.seen = np.concatenate([self.seen, np.full(len(goal), self.events, np.int64)])
        return np.stack([goal, counter], axis=1)

    def index(self) -> ItemIndex:
        """The names as they are now; where a counter outgrew its vocabulary, that has grown."""
        return ItemIndex(
            np.stack([self.cluster, self.counter], axis=1),
            (len(self.books), int(self.counter.max(initial=0)) + 1 + SPARE),
            StreamingNames.name,
            {"books": self.books.copy(), "weights": self.weights.copy(), "seen": self.seen.copy()},
            {
                "size": len(self.books), "balance": self.balance, "beta": self.beta,
                "decay": self.decay, "events": self.events, "disambiguated": True,
            },
        )  # fmt: skip

    @classmethod
    def resume(cls, index: ItemIndex) -> StreamingIndex:
        """Go on from the names that :meth:`index` gave, and from those added to them since.

        Raises:
            OnomaError: names of another method.
        """
        if index.method != StreamingNames.name:
            raise OnomaError(f"names by {index.method} do not move", fix="Name by streaming")
        meta, events = index.meta, int(index.meta["events"])
        new = np.full(index.n_items - len(index.tensors["seen"]), events, dtype=np.int64)
        return cls(
            index.tensors["books"],
            index.tensors["weights"],
            index.codes[:, 0],
            index.codes[:, 1],
            np.concatenate([index.tensors["seen"], new]),
            events,
            balance=meta["balance"], beta=meta["beta"], decay=meta["decay"],
        )  # fmt: skip

    def _take(self, number: int) -> int:
        if self._free[number]:
            return heapq.heappop(self._free[number])
        self._next[number] += 1
        return int(self._next[number]) - 1


class StreamingNames(IndexMethod):
    """The names that a :class:`StreamingIndex` has after the training log went by.

    Args:
        size: clusters; at most a quarter of the items.
        balance: power of a cluster's crowd, by which it looks farther; 0 does not balance.
        beta: power of an item's gap since it was last seen.
        decay: share of the moving averages that a batch keeps.
        batch: events a batch.
    """

    name = "streaming"

    def __init__(
        self,
        size: int = 256,
        balance: float = 0.6,
        beta: float = 0.25,
        decay: float = 0.99,
        batch: int = 1024,
    ) -> None:
        if size < 1 or batch < 1 or min(balance, beta) < 0 or not 0 <= decay < 1:
            raise OnomaError(
                f"size is {size}, batch {batch}, balance {balance}, beta {beta} and decay {decay}; "
                "size and batch must be at least 1, balance and beta at least 0, decay from 0 to "
                "below 1"
            )
        self.size, self.balance, self.beta = size, balance, beta
        self.decay, self.batch = decay, batch

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """k-means, then the events of ``split.train`` in the order of their time."""
        if vectors is None:
            raise OnomaError("streaming names items by vectors", fix="Give the index an encoder")
        if len(vectors) != split.dataset.n_items:
            raise OnomaError(f"{len(vectors)} vectors for {split.dataset.n_items} items")
        events = split.train.values[np.argsort(split.train_times, kind="stable")]
        return self.name_log(vectors, events, seed)

    def name_log(
        self, vectors: NDArray[np.float32], events: NDArray[np.integer], seed: int = 0
    ) -> ItemIndex:
        """Name the items of a log; no data set needed.

        Args:
            vectors: float32[n, dim].
            events: int[m], the item of each event, in order.
            seed: equal seeds give equal names.

        Raises:
            OnomaError: vectors are misshapen or not finite.
        """
        points = checked(vectors)
        known = points[points.any(dim=1)]
        size = min(self.size, max(1, len(points) // 4))
        generator = torch.Generator().manual_seed(seed)
        book = kmeans(known, size, generator) if len(known) else points[:1].repeat(size, 1)
        cluster = nearest(points, book)[0].numpy().astype(np.int32)
        count = np.bincount(cluster, minlength=size)
        order = np.random.default_rng(seed).permutation(len(points))
        order = order[np.argsort(cluster[order], kind="stable")]
        counter = np.empty(len(points), dtype=np.int32)
        counter[order] = np.arange(len(points)) - np.repeat(np.cumsum(count) - count, count)
        stream = StreamingIndex(
            book.numpy(), np.maximum(count, 1).astype(np.float64), cluster, counter,
            np.zeros(len(points), dtype=np.int64), 0,
            balance=self.balance, beta=self.beta, decay=self.decay,
        )  # fmt: skip
        array = points.numpy()
        for start in range(0, len(events), self.batch):
            items = events[start : start + self.batch]
            stream.observe(items, array[items])
        return stream.index()

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Names as :meth:`StreamingIndex.add` gives them; see :meth:`ItemIndex.assign`."""
        points = checked(vectors).numpy()
        if points.shape[1] != index.tensors["books"].shape[1]:
            raise OnomaError(
                f"vectors of width {points.shape[1]}, named with {index.tensors['books'].shape[1]}"
            )
        names = StreamingIndex.resume(index).add(points)
        if (names[:, 1] >= index.sizes[1]).any():
            raise OnomaError(
                "a cluster has no counter left in this vocabulary",
                fix="Go on with StreamingIndex.resume(index), whose vocabulary grows",
            )
        return names

    def reconstruct(self, index: ItemIndex) -> NDArray[np.float32] | None:
        """The centroid of the cluster; see :meth:`ItemIndex.reconstruct`."""
        return index.tensors["books"][index.codes[:, 0]]
