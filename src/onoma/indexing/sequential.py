"""Method ``sequential``: numbers in the order of a walk over the users' training histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.random_names import digits

if TYPE_CHECKING:
    from onoma.dataset.split import Split

ORDERS = ("time", "id", "item", "short-to-long", "long-to-short", "random")


class SequentialNames(IndexMethod):
    """Items met one after the other get numbers that begin alike (SID of Hua et al. 2023).

    Users are walked in an order, each user's training items in time; an item without a number
    gets the next. Items that no training history holds come last, shuffled: numbering over whole
    histories would put the test item next to its history.

    Args:
        order: of the users: ``time`` of their first interaction (``id`` in a log without times),
            ``id`` (numbers as numbers; the order of files that count their users), ``item`` (along
            the items by id, whoever trained on one; the order of files that are sorted by product,
            without their leak), ``short-to-long``, ``long-to-short`` or ``random``.
        size: the numbers are written in this base, a digit a level.
    """

    name = "sequential"
    needs_vectors = False

    def __init__(self, order: str = "time", size: int = 32) -> None:
        if order not in ORDERS:
            raise OnomaError(f"no order {order!r}", fix=f"Known: {', '.join(ORDERS)}")
        if size < 2:
            raise OnomaError(f"size is {size}; it must be at least 2")
        self.order, self.size = order, size

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Walk ``split.train``; ``vectors`` are not read."""
        n, rng = split.dataset.n_items, np.random.default_rng(seed)
        walk = split.train.take(self._users(split, rng)).values
        _, first = np.unique(walk, return_index=True)
        met = walk[np.sort(first)]
        rest = rng.permutation(np.setdiff1d(np.arange(n), met))
        number = np.empty(n, dtype=np.int64)
        number[np.concatenate([met, rest]).astype(np.int64)] = np.arange(n)
        levels = 1
        while self.size**levels < n + max(8, n // 10):
            levels += 1
        return ItemIndex(
            digits(number, levels, self.size),
            (self.size,) * levels,
            self.name,
            {},
            {"order": self._order(split), "seed": seed, "unseen": len(rest)},
        )

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The next numbers; see :meth:`ItemIndex.assign`."""
        powers = index.sizes[0] ** np.arange(index.depth - 1, -1, -1, dtype=np.int64)
        first = int((index.codes * powers).sum(axis=1).max(initial=-1)) + 1
        space = index.sizes[0] ** index.depth
        if first + len(vectors) > space:
            raise OnomaError(
                f"{len(vectors)} new items, {space - first} names left",
                fix="Build the index again with the new items in the catalogue",
            )
        return digits(np.arange(first, first + len(vectors)), index.depth, index.sizes[0])

    def _order(self, split: Split) -> str:
        """Users of a log without times would stand as they were shuffled."""
        timed = bool((split.train_times >= 0).any())
        return "id" if self.order == "time" and not timed else self.order

    def _users(self, split: Split, rng: np.random.Generator) -> NDArray[np.int64]:
        train, order = split.train, self._order(split)
        shuffled = rng.permutation(len(train))
        if order == "random":
            return shuffled
        if order == "id":
            ids = split.dataset.users["user_id"].to_numpy()
            if all(word.isdecimal() for word in ids):  # of any length, so no int64
                ids = np.array([int(word) for word in ids], dtype=object)
            return np.argsort(ids, kind="stable")
        if order == "item":
            place = np.empty(split.dataset.n_items, dtype=np.int64)
            place[np.argsort(split.dataset.item_ids)] = np.arange(len(place))
            least = np.full(len(train), len(place))
            np.minimum.at(least, train.rows(), place[train.values])
            return shuffled[np.argsort(least[shuffled], kind="stable")]
        if order == "time":
            first = np.zeros(len(train), dtype=np.int64)
            some = train.lengths > 0
            first[some] = split.train_times[train.offsets[:-1][some]]
            return shuffled[np.argsort(first[shuffled], kind="stable")]
        lengths = train.lengths[shuffled]
        key = lengths if order == "short-to-long" else -lengths
        return shuffled[np.argsort(key, kind="stable")]
