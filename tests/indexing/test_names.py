from dataclasses import replace

import numpy as np
import pytest
import torch

from onoma.errors import OnomaError
from onoma.indexing import Health, ItemIndex, balanced, build
from onoma.indexing.agreement import reconstruction_error
from onoma.indexing.autoencoder import Autoencoder


def clustered(n, dim=16, clusters=20, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim)) * 3
    return (centres[rng.integers(0, clusters, n)] + rng.normal(size=(n, dim))).astype(np.float32)


def named(method, n=600, seed=0, **settings):
    way = build(method, **{**QUICK.get(method, {}), **settings})
    if method == "random":
        return way.name_count(n, seed)
    return way.name_vectors(clustered(n), seed)


QUICK = {method: {"epochs": 10, "hidden": (32,), "batch": 256} for method in (
    "rqvae", "rqkmeans+", "fsq"
)}  # fmt: skip


def unique(codes):
    return len(np.unique(codes, axis=0))


TRAINED = list(QUICK)
QUANTISERS = [
    "rqkmeans",
    "hkmeans",
    "pq",
    "opq",
    "lsh",
    "balanced",
    "uniform",
    "parallel",
    *TRAINED,
]


@pytest.mark.parametrize("method", ["random", *QUANTISERS])
def test_contract_of_every_method(method, tmp_path):
    index = named(method)
    assert index.codes.dtype == np.int32 and index.codes.shape == (600, index.depth)
    assert unique(index.codes) == 600
    assert np.array_equal(index.codes, named(method).codes)
    assert not np.array_equal(index.codes, named(method, seed=1).codes)

    loaded = ItemIndex.load(index.save(tmp_path))
    assert np.array_equal(loaded.codes, index.codes)
    assert (loaded.sizes, loaded.method, loaded.meta) == (index.sizes, index.method, index.meta)

    new = clustered(200, seed=5)
    names = loaded.assign(new)
    assert np.array_equal(names, index.assign(new))
    grown = loaded.extended(names)
    assert unique(grown.codes) == 800 and grown.trie.n_items == 800
    assert unique(grown.extended(grown.assign(new)).codes) == 1000


@pytest.mark.parametrize("method", QUANTISERS)
def test_first_codes_follow_the_clusters_better_than_chance(method):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 16)) * 3
    label = rng.integers(0, 10, 1500)
    vectors = (centres[label] + rng.normal(size=(1500, 16))).astype(np.float32)
    codes = build(method, **QUICK.get(method, {})).name_vectors(vectors).codes[:, 0]
    purity = sum(np.bincount(label[codes == c]).max() for c in np.unique(codes)) / 1500
    shuffled = rng.permutation(codes)
    chance = sum(np.bincount(label[shuffled == c]).max() for c in np.unique(codes)) / 1500
    assert purity > chance + 0.5 * (1 - chance)


def test_a_rotation_lowers_the_error_of_products():
    rng = np.random.default_rng(0)
    spread = np.diag(np.geomspace(5, 0.2, 12)) @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    vectors = (rng.normal(size=(3000, 12)) @ spread).astype(np.float32)
    points = torch.from_numpy(vectors)
    error = {}
    for method in ("pq", "opq"):
        way = build(method, size=16)
        learnt = way.learn(points, torch.Generator().manual_seed(0))
        rotation = learnt["rotation"]
        assert torch.allclose(rotation.T @ rotation, torch.eye(12), atol=1e-4)
        error[method] = float(way.quantise(points, learnt)[1].mean())
    assert error["opq"] < 0.95 * error["pq"]


def test_near_items_share_prefixes_and_levels_explain_more_and_more():
    vectors = clustered(2000)
    index = build("rqkmeans", size=20).name_vectors(vectors)
    left = index.meta["unexplained"]
    assert left[0] < 0.25 and left == sorted(left, reverse=True)
    first = index.codes[:, 0]
    for code in np.unique(first):
        assert vectors[first == code].var(axis=0).sum() < 0.5 * vectors.var(axis=0).sum()


def test_equal_and_empty_vectors_get_different_names():
    vectors = clustered(1000)
    vectors[:400] = vectors[0]  # more than one vocabulary of 256 can tell apart
    vectors[400:700] = 0
    index = build("rqkmeans", group=10_000).name_vectors(vectors)
    assert unique(index.codes) == 1000
    assert index.sizes[-1] >= 400 > 256
    assert index.meta["without_signal"] == 300
    assert len(np.unique(index.codes[400:700, 0])) == 1
    assert Health.of(index).before.largest == 400
    # Order within a group must not tell the order of the catalogue.
    assert not np.array_equal(index.codes[:400, -1], np.arange(400))
    new = np.concatenate([vectors[:5], np.zeros((5, 16), np.float32)])
    assert unique(index.extended(index.assign(new)).codes) == 1010


def test_crowded_groups_spread_over_the_nearest_prefixes():
    vectors = clustered(1000)
    vectors[:400] = vectors[0]
    index = build("rqkmeans", size=32, group=50).name_vectors(vectors)
    assert unique(index.codes) == 1000 and Health.of(index).before.largest == 50
    assert index.meta["moved"] >= 350 and index.sizes[-1] < 60
    assert len(np.unique(index.codes[:400, :2], axis=0)) == 1
    # Where no prefix near has room the last vocabulary grows instead.
    full = build("rqkmeans", size=2, levels=1, group=10).name_vectors(vectors)
    assert unique(full.codes) == 1000 and full.sizes[-1] > 256


def test_new_item_takes_the_nearest_prefix_and_its_first_free_code():
    index = named("rqkmeans", size=8, levels=1)
    name = index.assign(clustered(600)[:1])[0]
    assert name[0] == index.codes[0, 0]
    assert name[1] == index.codes[index.codes[:, 0] == name[0], 1].max() + 1


def test_full_prefixes_overflow_to_the_next_nearest():
    index = named("rqkmeans", size=8, levels=1)
    names = index.assign(np.repeat(clustered(600)[:1], 60, axis=0))
    assert unique(index.extended(names).codes) == 660
    assert len(np.unique(names[:, 0])) > 1 and names[:, 1].max() < index.sizes[1]
    with pytest.raises(OnomaError, match="no free name"):
        index.assign(np.repeat(clustered(600)[:1], 2000, axis=0))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("method", ["random", *QUANTISERS])
def test_tiny_catalogues(method, n):
    assert named(method, n=n).trie.n_items == n


@pytest.mark.parametrize("method", QUANTISERS)
def test_nothing_known_of_any_item(method):
    index = build(method).name_vectors(np.zeros((7, 4), np.float32))
    assert unique(index.codes) == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_vectors_are_told(bad):
    vectors = clustered(10)
    vectors[3, 2] = bad
    with pytest.raises(OnomaError, match="item 3: a vector is not finite"):
        build("rqkmeans").name_vectors(vectors)


def test_build_refuses_unknown_methods_and_settings():
    with pytest.raises(OnomaError, match="no way of naming called 'nope'"):
        build("nope")
    with pytest.raises(OnomaError, match="wings"):
        build("rqkmeans", wings=2)


def test_broken_files_are_told(tmp_path):
    with pytest.raises(OnomaError, match=r"no index\.json"):
        ItemIndex.load(tmp_path)
    named("random", n=50).save(tmp_path)
    weights = tmp_path / "index.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    with pytest.raises(OnomaError, match="unreadable index"):
        ItemIndex.load(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "index.json").write_text('{"format": 1}')
    with pytest.raises(OnomaError, match="lacks or misstates"):
        ItemIndex.load(tmp_path)


def test_health_of_planted_names():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, -1, -1]], dtype=np.int32)
    health = Health.of(ItemIndex(codes, (4, 2, 2), "planted", meta={"disambiguated": True}))
    assert (health.before.items, health.before.names, health.before.largest) == (2, 3, 2)
    assert health.after.items == 0 and health.after.names == 4
    first, second, third = health.levels
    assert (first.used, first.utilisation, first.prefixes, first.largest) == (2, 0.5, 2, 3)
    assert first.entropy == pytest.approx(0.75 * np.log2(4 / 3) + 0.25 * 2)
    assert (first.branching, second.branching, second.widest) == (2.0, 2.0, 2)
    assert (second.ended, second.prefixes, third.prefixes) == (1, 3, 4)
    assert third.balance == pytest.approx(1.0)
    even = Health.of(ItemIndex(np.array([[0], [1], [2], [3]], np.int32), (4,), "planted"))
    assert even.levels[0].entropy == 2.0 and even.levels[0].evenness == 1.0
    same = Health.of(ItemIndex(np.zeros((5, 2), np.int32), (4, 4), "planted"))
    assert same.after.share == 1.0 and same.levels[0].entropy == 0.0
    assert health.to_dict()["levels"][0]["used"] == 2 and health.table().row_count == 3


def test_a_counter_behind_a_short_path_is_no_part_of_it():
    # Counters of the first level begin at 2: two items on path (0,), two on (1, 0), one on (1, 1).
    codes = np.array([[0, 2, -1], [0, 3, -1], [1, 0, 0], [1, 0, 1], [1, 1, 0]], dtype=np.int32)
    meta = {"disambiguated": True, "counter": True}
    health = Health.of(ItemIndex(codes, (4, 4, 2), "planted", meta=meta))
    assert (health.before.items, health.before.names, health.before.largest) == (4, 3, 2)
    assert health.after.items == 0


def test_training_lowers_the_error_and_no_code_dies():
    vectors = clustered(4000, dim=24, clusters=60)
    points = torch.from_numpy(vectors)
    short = build("rqvae", size=32, latent=8, hidden=(32,), epochs=1)
    long = build("rqvae", size=32, latent=8, hidden=(32,), epochs=30, lr=3e-3)
    error = {}
    for way in (short, long):
        learnt = way.learn(points, torch.Generator().manual_seed(0))
        network, bottleneck = way._parts(24, 32)
        network.load_state_dict(_part(learnt, "network."))
        bottleneck.load_state_dict(_part(learnt, "bottleneck."))
        with torch.no_grad():
            said, codes, _ = bottleneck(network.encode(points))
            error[way] = float((network.decode(said) - points).square().mean())
    assert error[long] < 0.7 * error[short]
    assert all(len(torch.unique(codes[:, level])) >= 26 for level in range(3))


def _part(learnt, word):
    return {k.removeprefix(word): v for k, v in learnt.items() if k.startswith(word)}


def test_a_fresh_encoder_tells_points_apart():
    points = torch.nn.functional.normalize(
        torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    network = Autoencoder(64, (512, 256, 128), 32, skip=False)
    ratio = network.encode(points).std(0).mean() / points.std(0).mean()
    assert 0.3 < float(ratio.detach()) < 3


def test_rqkmeans_plus_starts_from_residual_kmeans():
    vectors = clustered(800)
    plain = build("rqkmeans", size=16).name_vectors(vectors)
    still = build("rqkmeans+", size=16, epochs=1, lr=1e-12)
    points = torch.from_numpy(vectors)
    _, distance = still.quantise(points, still.learn(points, torch.Generator().manual_seed(0)))
    left = float(distance.sum() / points.square().sum())
    assert left == pytest.approx(plain.meta["unexplained"][-1], rel=0.05)


def test_uniform_names_need_no_counter_even_where_a_group_overflows():
    vectors = clustered(900, clusters=30)
    index = build("uniform", levels=3, size=12).name_vectors(vectors)
    assert index.depth == 3 and unique(index.codes) == 900
    met = index.meta["met"]
    assert met["greedy"] > met["after_transport"] >= met["after_assignment"] == 0
    assert index.meta["last_perplexity"][1] >= index.meta["last_perplexity"][0]
    same = np.repeat(vectors[:1], 300, axis=0) + np.float32(1e-4) * clustered(300)
    both = np.concatenate([vectors, same.astype(np.float32)])
    crowded = build("uniform", levels=3, size=12).name_vectors(both)
    assert crowded.meta["moved"] > 0 and unique(crowded.codes) == 1200


def test_balanced_groups_are_even():
    rng = np.random.default_rng(0)
    crowd = clustered(1500, clusters=2) * 0.5 + 4
    vectors = np.concatenate([crowd, clustered(500, clusters=40, seed=1)]).astype(np.float32)
    vectors = vectors[rng.permutation(len(vectors))]
    largest = {
        method: build(method, size=20).name_vectors(vectors).health().levels[0].largest
        for method in ("rqkmeans", "balanced")
    }
    assert largest["balanced"] < 1.5 * 2000 / 20 < largest["rqkmeans"]


def test_prices_of_few_points_still_even_the_groups_and_huge_books_are_refused(monkeypatch):
    crowd = clustered(6000, clusters=2) * 0.5 + 4
    vectors = np.concatenate([crowd, clustered(2000, clusters=40, seed=1)]).astype(np.float32)
    way = build("balanced", levels=1, size=40)
    monkeypatch.setattr(balanced, "_CELLS", 40 * 40 * balanced._FEWEST)
    assert way.name_vectors(vectors).health().levels[0].largest < 2 * 8000 / 40
    monkeypatch.setattr(balanced, "_CELLS", 40 * 40 * balanced._FEWEST - 1)
    with pytest.raises(OnomaError, match=r"size is 40; .* a price to at most 39 .*rqkmeans"):
        way.name_vectors(vectors)


def test_a_tree_of_many_children_keeps_the_nodes_in_use_alone(tmp_path):
    index = named("hkmeans", n=2000, levels=4, size=256)
    assert index.sizes[:4] == (256,) * 4
    assert sum(tensor.nbytes for tensor in index.tensors.values()) < 4 * 2000 * 16 * 4
    assert unique(index.extended(index.assign(clustered(50, seed=3))).codes) == 2050


def test_a_tree_saved_with_a_place_for_every_node_still_names():
    index = named("hkmeans", n=400, levels=3, size=5)
    rows, old = np.zeros(1, np.int64), {}
    for level in range(3):
        books, first = index.tensors[f"level{level}"], index.tensors[f"first{level}"]
        count = np.diff(first)
        whole = np.full((5**level, 5, 16), np.nan, np.float32)
        node = np.repeat(np.arange(len(count)), count)
        code = np.arange(len(books)) - first[node]
        whole[rows[node], code] = books
        rows, old[f"level{level}"] = rows[node] * 5 + code, whole
    before = replace(index, tensors=old)
    assert np.array_equal(before.assign(clustered(60)), index.assign(clustered(60)))
    assert np.array_equal(before.reconstruct(), index.reconstruct())


@pytest.mark.parametrize("settings", [{"levels": 8}, {"levels": 70, "size": 2}])
def test_more_random_names_than_can_be_counted_are_refused(settings):
    with pytest.raises(OnomaError, match=f"levels is {settings['levels']}.*fewer levels"):
        build("random", **settings).name_count(2000)


def test_parallel_codes_add_up_nearer_to_the_item_than_residual_ones():
    vectors = clustered(3000, dim=24, clusters=200)
    ours, theirs = (
        reconstruction_error(
            vectors, build(method, levels=3, size=32).name_vectors(vectors).reconstruct()
        )
        for method in ("parallel", "rqkmeans")
    )
    assert ours < 0.97 * theirs


def test_no_single_code_of_a_parallel_name_can_be_bettered():
    vectors = clustered(500, dim=12)
    way = build("parallel", levels=3, size=16)
    points = torch.from_numpy(vectors)
    learnt = way.learn(points, torch.Generator().manual_seed(0))
    codes = torch.from_numpy(way.quantise(points, learnt)[0]).long()
    best = (points - way.said(codes, learnt)).square().sum(1)
    for level in range(3):
        for code in range(16):
            other = codes.clone()
            other[:, level] = code
            assert bool(((points - way.said(other, learnt)).square().sum(1) >= best - 1e-3).all())
