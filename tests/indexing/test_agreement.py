from dataclasses import replace
from itertools import permutations

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Dataset, split
from onoma.errors import OnomaError
from onoma.indexing import Agreement, ItemIndex, Stability, agreement, build
from onoma.indexing.stability import adjusted_mutual_information


def partitions(most=5):
    return st.lists(st.integers(0, most), min_size=8, max_size=30).map(np.array)


def numbered(group):
    return np.unique(group, return_inverse=True)[1]


@given(partitions(), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_pair_ratio_counts_pairs(group, seed):
    group = numbered(group)
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 2, (len(group), 4)).astype(float)
    found = agreement.pair_ratio(sp.csr_array(dense), group)
    known = [i for i in range(len(group)) if dense[i].any()]
    pairs = [(i, j) for i in known for j in known if i < j]
    inside = [dense[i] @ dense[j] for i, j in pairs if group[i] == group[j]]
    everywhere = np.mean([dense[i] @ dense[j] for i, j in pairs]) if pairs else 0
    if len(inside) < 20 or everywhere == 0:
        assert found is None
    else:
        assert found == pytest.approx(np.mean(inside) / everywhere)


@given(partitions(3), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_explained_variance_is_that_of_the_group_means(group, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(group), 3)).astype(np.float32) + 1
    vectors[0] = 0  # says nothing and must not count
    share, beyond = agreement.explained_variance(vectors, numbered(group))
    kept, group = vectors[1:].astype(float), group[1:]
    means = np.array([kept[group == g].mean(0) for g in group])
    total = np.square(kept - kept.mean(0)).sum()
    assert share == pytest.approx(1 - np.square(kept - means).sum() / total, abs=1e-9)
    assert beyond is None or beyond <= share + 1e-12


def test_chance_is_zero_or_one_over_all_ways_to_deal_the_names():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 2)).astype(np.float32)
    group = np.array([0, 0, 0, 1, 1, 2])
    beyond = [
        agreement.explained_variance(vectors[list(order)], group)[1]
        for order in permutations(range(6))
    ]
    assert np.mean(beyond) == pytest.approx(0, abs=1e-6)


def index_of(codes, sizes):
    return ItemIndex(np.asarray(codes, dtype=np.int32), sizes, "by hand")


def test_perfect_and_random_names(small_split):
    n = small_split.dataset.n_items
    kinds = [(row or ["none"])[-1] for row in small_split.dataset.items["categories"].to_list()]
    kind = numbered(np.array(kinds))
    vectors = np.eye(kind.max() + 1, dtype=np.float32)[kind]
    counter = np.array([int((kind[:i] == kind[i]).sum()) for i in range(n)])
    named = Agreement.of(index_of(np.stack([kind, counter], 1), (5, n)), small_split, vectors)
    first, last = named.levels
    assert first.explained == pytest.approx(1) and first.beyond_chance == pytest.approx(1)
    # Two of one kind are alike; two of any kind are by the share of such pairs.
    known = kind[np.array([name != "none" for name in kinds])]
    sizes, m = np.bincount(known), len(known)
    assert first.alike == pytest.approx(m * (m - 1) / (sizes * (sizes - 1)).sum())
    assert last.beyond_chance is None and last.alike is None and named.error is None

    ratios = []
    for seed in range(60):
        dealt = np.random.default_rng(seed).permutation(n) % 4
        codes = np.stack([dealt, np.arange(n)], 1)
        ratios.append(Agreement.of(index_of(codes, (4, n)), small_split, None).levels[0])
    for key in ("alike", "bought", "follows"):
        assert np.mean([getattr(level, key) for level in ratios]) == pytest.approx(1, abs=0.1)
    assert all(level.explained is None for level in ratios)


def test_the_two_halves_of_a_shop_are_bought_apart():
    rng = np.random.default_rng(0)
    log = [(f"u{u}", f"i{2 * rng.integers(10) + u % 2}") for u in range(60) for _ in range(6)]
    users, items = zip(*log, strict=True)
    data = Dataset.construct(pl.DataFrame({"user_id": users, "item_id": items}))
    half = np.array([int(name[1:]) % 2 for name in data.items["item_id"]])
    codes = np.stack([half, np.arange(data.n_items)], 1)
    first = Agreement.of(index_of(codes, (2, data.n_items)), split(data), None).levels[0]
    n, pairs = data.n_items, 2 * 10 * 9
    assert first.bought == pytest.approx(n * (n - 1) / pairs)
    assert first.follows == pytest.approx(n * (n - 1) / pairs)


def test_test_targets_are_not_read(small_split):
    other = replace(small_split, test=small_split.valid)
    index = build("random", size=4).build(small_split, None, 0)
    assert Agreement.of(index, other, None) == Agreement.of(index, small_split, None)


RECONSTRUCTS = {
    "rqkmeans": {}, "balanced": {}, "uniform": {}, "pq": {}, "opq": {}, "hkmeans": {"size": 8},
    "rqvae": {"epochs": 60, "hidden": (64,), "batch": 64, "lr": 0.01},
    "rqkmeans+": {"epochs": 1, "hidden": (32,), "batch": 25},
    "fsq": {"epochs": 60, "hidden": (64,), "batch": 64, "lr": 0.01, "steps": (4, 4)},
    "parallel": {},
}  # fmt: skip


@pytest.mark.parametrize("method", RECONSTRUCTS)
def test_names_say_their_vectors_again(method, tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 16)) * 3
    vectors = (centres[rng.integers(0, 10, 500)] + rng.normal(size=(500, 16))).astype(np.float32)
    settings = {"size": 16, **RECONSTRUCTS[method]}
    if method == "fsq":
        settings.pop("size")
    index = build(method, **settings).name_vectors(vectors)
    said = ItemIndex.load(index.save(tmp_path)).reconstruct()
    error = agreement.reconstruction_error(vectors, said)
    shuffled = agreement.reconstruction_error(vectors, said[rng.permutation(500)])
    assert error < 0.5 < shuffled


def test_names_without_vectors_say_none():
    assert build("lsh").name_vectors(np.eye(8, dtype=np.float32)).reconstruct() is None


@given(partitions(), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_mutual_information_is_the_libraries(left, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    left = numbered(left)
    right = numbered(np.random.default_rng(seed).integers(0, 5, len(left)))
    ours = adjusted_mutual_information(left, right)
    assert ours == pytest.approx(metrics.adjusted_mutual_info_score(left, right), abs=1e-8)
    assert adjusted_mutual_information(left, left) == pytest.approx(1)


def test_stability_sees_through_labels_but_not_through_names():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 6, 300)
    one = index_of(np.stack([first, np.arange(300)], 1), (6, 300))
    relabelled = index_of(np.stack([(first + 1) % 6, np.arange(300)], 1), (6, 300))
    found = Stability.between(one, relabelled)
    assert found.unchanged == 0 and found.first == 1 and found.mutual == pytest.approx(1)
    assert Stability.between(one, one).unchanged == 1
    dealt = index_of(np.stack([rng.permutation(first), np.arange(300)], 1), (6, 300))
    assert abs(Stability.between(one, dealt).mutual) < 0.05
    with pytest.raises(OnomaError, match="300 names against 10"):
        Stability.between(one, index_of(one.codes[:10], (6, 300)))


def test_tags_of_texts_and_lists():
    log = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"]})
    for value in (["x|y", "x|z", None], [["x", "y"], ["x", "z"], []]):
        items = pl.DataFrame({"item_id": ["a", "b", "c"], "genres": value})
        data = Dataset.construct(log, items)
        matrix, names = agreement.tag_rows(data)
        assert names == ["y", "z"]
        rows = matrix[data.item_codes(["a", "b", "c"])].toarray()
        # x stands on both items that have tags: it says nothing.
        assert np.allclose(np.sort(rows, axis=1), [[0, 1], [0, 1], [0, 0]])
        assert not np.allclose(rows[0], rows[1])
    assert agreement.tag_rows(split(Dataset.construct(log)).dataset) is None


def test_a_user_has_as_many_pairs_as_items(small_split):
    rows = agreement.purchase_rows(small_split).T
    for user in range(len(small_split.train)):
        row = rows[[user]].toarray()[0]
        had = len(set(small_split.train[user].tolist()))
        pairs = row.sum() ** 2 - (row**2).sum()
        assert pairs == pytest.approx(had if had > 1 else 0)
