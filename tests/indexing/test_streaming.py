"""A stream of events: names move, stay apart, and new items are named in the same call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onoma.encoding.base import unit_rows
from onoma.errors import OnomaError
from onoma.indexing import build
from onoma.indexing.streaming import StreamingIndex, StreamingNames
from onoma.study.streaming import NEW, streaming


def stream_of(vectors: np.ndarray, size: int, balance: float = 0.25, beta: float = 0.5):
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
    stream = stream_of(vectors, 8, balance=0)
    item, other = 0, int(np.flatnonzero(label != label[0])[0])
    vectors[item] = vectors[other] + 0.01
    assert stream.observe(np.array([item]), vectors[[item]]) == 1
    assert names(stream)[item, 0] == names(stream)[other, 0]
    before = stream.n_items
    added = stream.add(vectors[[other]] + 0.02)
    assert added[0, 0] == names(stream)[other, 0] and stream.n_items == before + 1
    near = vectors[[other, other, item]] + 0.01
    events = np.array([before + 2, before + 1, before + 2])
    assert stream.observe(events, near) == 0  # two new items in one call; none that was known moved
    assert stream.n_items == before + 3
    assert names(stream)[-2:, 0].tolist() == [names(stream)[other, 0]] * 2
    with pytest.raises(OnomaError, match=f"from {before + 3}, without a gap"):
        stream.observe(np.array([before + 4]), near[:1])
    assert stream.n_items == before + 3
    again = StreamingIndex.resume(stream.index())
    assert np.array_equal(names(again), names(stream))
    with pytest.raises(OnomaError, match="do not move"):
        StreamingIndex.resume(build("random").name_count(5, 0))


def test_a_probe_scores_the_nearest_clusters_up_to_its_budget() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(200, 6)).astype(np.float32)
    stream = stream_of(vectors, 10)
    queries = rng.normal(size=(7, 6)).astype(np.float32)
    clusters = (queries @ unit_rows(stream.books).T).argsort(axis=1)[:, ::-1]
    found = stream.probe(queries, 60)
    assert found.shape == (7, 60)
    for row, order in zip(found, clusters, strict=True):
        ranked = [item for c in order for item in np.flatnonzero(stream.cluster == c)]
        assert len(set(row)) == 60
        full = np.cumsum(np.bincount(stream.cluster, minlength=10)[order]).searchsorted(60, "right")
        whole = np.isin(stream.cluster[row], order[:full])
        assert set(row[whole]) == {i for i in ranked if stream.cluster[i] in order[:full]}
        assert set(stream.cluster[row[~whole]]) <= {order[full]}
    assert np.array_equal(np.sort(stream.probe(queries[:1], 999)[0]), np.arange(200))
    # A new item is among the candidates as soon as it is added.
    new = rng.normal(size=(1, 6)).astype(np.float32)
    stream.add(new)
    mates = int((stream.cluster == stream.cluster[-1]).sum())
    assert 200 in stream.probe(stream.books[stream.cluster[-1:]], mates)


def test_on_beauty_a_tenth_of_the_items_holds_what_exact_search_finds(
    data_folder: Path, tmp_path: Path
) -> None:
    """S062, whole: agreement, evenness and its price, new items."""
    result = streaming(str(data_folder / "amazon-beauty-2014"), tmp_path)
    assert len(result["acceptance"]) == 5
    for row in result["acceptance"]:
        assert row["holds"], row


def test_a_gap_ends_at_the_last_occurrence_even_within_a_batch() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(40, 4)).astype(np.float32)
    items = np.where(rng.random(512) < 0.5, 0, rng.integers(0, 40, 512))
    share = []
    for batch in (1, 512):
        stream = stream_of(vectors, 40, balance=0)  # a cluster an item: none moves
        stream.decay, stream.weights[:] = 1 - 1e-6, 1e-12
        stream.sums = stream.books * stream.weights[:, None].astype(np.float32)
        for start in range(0, len(items), batch):
            here = items[start : start + batch]
            stream.observe(here, vectors[here])
        share.append(stream.weights[stream.cluster[0]] / stream.weights.sum())
    assert share[0] == pytest.approx(share[1], rel=1e-2)


def test_items_named_by_assign_go_on_in_the_stream() -> None:
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    index = stream_of(vectors, 6).index()
    grown = index.extended(index.assign(vectors[:2] + 0.01))
    stream = StreamingIndex.resume(grown)
    stream.observe(np.array([61]), vectors[[1]])
    assert len(names(stream)) == 62


def test_new_items_are_held_out_of_the_clusters_and_can_be_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = []
    log = StreamingNames.name_log

    def counted(self, vectors, events, seed=0):
        counts.append(len(vectors))
        return log(self, vectors, events, seed)

    def lost(self, vectors):
        return np.zeros(len(vectors), dtype=np.int32)

    monkeypatch.setattr(StreamingNames, "name_log", counted)
    told = streaming("packaged:movielens", tmp_path, users=20)["new"]
    assert counts[-2:] == [counts[0] - NEW, counts[0]]
    assert told["before"] == 0 and min(told["found"], told["rebuilt"]) > 0.9
    monkeypatch.setattr(StreamingIndex, "attach", lost)
    assert streaming("packaged:movielens", tmp_path, users=20)["new"]["found"] < 0.5


def test_balance_and_discount_even_out_the_clusters() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(2000, 8)).astype(np.float32)
    vectors[:1200] = vectors[0] + 0.4 * vectors[:1200]
    popular = rng.permutation(2000)
    events = popular[np.minimum(rng.geometric(1 / 200, 30_000), 2000) - 1]
    largest = {}
    for balance, beta in ((0.0, 0.0), (0.25, 0.5)):
        stream = stream_of(vectors, 32, balance, beta)
        for start in range(0, len(events), 500):
            items = events[start : start + 500]
            stream.observe(items, vectors[items])
        stream.observe(np.arange(2000), vectors)
        sizes = np.bincount(names(stream)[:, 0], minlength=32)
        largest[beta] = sizes.max() / sizes.mean()
    assert largest[0.5] < 0.75 * largest[0.0]
