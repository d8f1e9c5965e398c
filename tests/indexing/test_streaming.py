"""A stream of events: names move, stay apart, and new items are named in the same call."""

from __future__ import annotations

import numpy as np
import pytest

from onoma.errors import OnomaError
from onoma.indexing import build
from onoma.indexing.streaming import StreamingIndex


def stream_of(vectors: np.ndarray, size: int, balance: float = 1.0, beta: float = 0.5):
    n = len(vectors)
    books = vectors[-size:]
    cluster = np.square(vectors[:, None] - books).sum(2).argmin(1).astype(np.int32)
    counter = np.zeros(n, dtype=np.int32)
    for number in range(size):
        members = cluster == number
        counter[members] = np.arange(members.sum())
    weights = np.maximum(np.bincount(cluster, minlength=size), 1).astype(np.float64)
    return StreamingIndex(
        books, weights, cluster, counter, np.zeros(n, np.int64), 0,
        balance=balance, beta=beta, decay=0.9,
    )  # fmt: skip


def names(stream: StreamingIndex) -> np.ndarray:
    codes = stream.index().codes
    assert len(np.unique(codes, axis=0)) == stream.n_items
    return codes


def test_an_item_that_drifts_moves_and_new_items_are_named_at_once() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(8, 12)).astype(np.float32) * 4
    label = rng.integers(0, 8, 300)
    vectors = (centres[label] + rng.normal(size=(300, 12)) * 0.3).astype(np.float32)
    stream = stream_of(vectors, 8, balance=100)
    item, other = 0, int(np.flatnonzero(label != label[0])[0])
    vectors[item] = vectors[other] + 0.01
    assert stream.observe(np.array([item]), vectors[[item]]) == 1
    assert names(stream)[item, 0] == names(stream)[other, 0]
    before = stream.n_items
    added = stream.add(vectors[[other]] + 0.02)
    assert added[0, 0] == names(stream)[other, 0] and stream.n_items == before + 1
    again = StreamingIndex.resume(stream.index())
    assert np.array_equal(names(again), names(stream))
    with pytest.raises(OnomaError, match="do not move"):
        StreamingIndex.resume(build("random").name_count(5, 0))


def test_balance_and_discount_even_out_the_clusters() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(2000, 8)).astype(np.float32)
    vectors[:1200] = vectors[0] + 0.4 * vectors[:1200]
    popular = rng.permutation(2000)
    events = popular[np.minimum(rng.geometric(1 / 200, 30_000), 2000) - 1]
    largest = {}
    for balance, beta in ((1e9, 0.0), (1.0, 0.5)):
        stream = stream_of(vectors, 32, balance, beta)
        for start in range(0, len(events), 500):
            items = events[start : start + 500]
            stream.observe(items, vectors[items])
        stream.observe(np.arange(2000), vectors)
        sizes = np.bincount(names(stream)[:, 0], minlength=32)
        largest[beta] = sizes.max() / sizes.mean()
    assert largest[0.5] < 0.75 * largest[0.0]
