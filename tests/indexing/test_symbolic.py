"""Names from behaviour and categories: what is read, what is not, and the order they follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from onoma.dataset import Dataset, Ragged, Split, split
from onoma.errors import MissingColumn, OnomaError
from onoma.indexing import ItemIndex, build
from onoma.indexing.collaborative import co_occurrence, rewired
from onoma.indexing.independent import IndependentNames
from onoma.indexing.paths import without_counters

METHODS = [
    ("independent", {}),
    ("sequential", {"size": 4}),
    ("collaborative", {"clusters": 3, "leaf": 6}),
    ("semantic", {}),
    ("title", {"words": 2, "common": 2}),
    ("hybrid", {"first": {"method": "collaborative", "clusters": 3, "leaf": 6}}),
    ("hybrid", {"first": "semantic", "second": {"method": "collaborative", "clusters": 3}}),
    ("hybrid", {"first": "sequential"}),
    ("hybrid", {"first": {"method": "rqkmeans", "levels": 2, "size": 4}}),
    ("hybrid", {"first": {"method": "streaming", "size": 6}, "second": "random"}),
    (
        "hybrid",
        {"first": {"method": "hybrid", "first": "title", "second": "semantic"}},
    ),
    ("random", {"levels": 2, "size": 20}),
    ("rqkmeans", {"levels": 2, "size": 6}),
    ("hkmeans", {"levels": 2, "size": 3}),
    ("pq", {"levels": 2, "size": 6}),
    ("opq", {"levels": 2, "size": 6, "rounds": 2}),
    ("lsh", {"levels": 2, "bits": 3}),
    ("balanced", {"levels": 2, "size": 6, "iterations": 2}),
    ("uniform", {"levels": 2, "size": 9}),
    ("parallel", {"levels": 2, "size": 6}),
    ("fsq", {"levels": 2, "steps": (3, 2), "hidden": (8,), "epochs": 2, "batch": 32}),
    ("rqvae", {"levels": 2, "size": 8, "latent": 4, "hidden": (8,), "epochs": 2, "batch": 32}),
    ("rqkmeans+", {"levels": 2, "size": 8, "hidden": (8,), "epochs": 2, "batch": 32}),
    ("streaming", {"size": 6, "batch": 16}),
    ("graph", {"levels": 2, "size": 8, "latent": 4, "hidden": (8,), "epochs": 3, "batch": 32}),
    ("letter", {"levels": 2, "size": 8, "latent": 4, "hidden": (8,), "epochs": 3, "batch": 32}),
]


def _settings(part: str | dict) -> dict:
    part = {"method": part} if isinstance(part, str) else dict(part)
    return {"name": part.pop("method"), **part}


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_contract(method: str, settings: dict, small_split: Split, tmp_path) -> None:
    n = small_split.dataset.n_items
    index = build(method, **settings).build(small_split, vectors(n), 0)
    assert index.codes.dtype == np.int32 and len(np.unique(index.codes, axis=0)) == n
    assert index.trie.n_items == n
    again = build(method, **settings).build(small_split, vectors(n), 0)
    assert np.array_equal(index.codes, again.codes)
    loaded = ItemIndex.load(index.save(tmp_path))
    assert np.array_equal(loaded.codes, index.codes) and loaded.sizes == index.sizes
    names = loaded.assign(vectors(3, seed=1))
    assert np.array_equal(names, index.assign(vectors(3, seed=1)))
    grown = loaded.extended(names)
    for more in (2, 3):
        grown = ItemIndex.load(grown.save(tmp_path))
        grown = grown.extended(grown.assign(vectors(more, seed=more)))
    assert grown.trie.n_items == n + 8 and len(np.unique(grown.codes, axis=0)) == n + 8


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_targets_change_no_name(method: str, settings: dict, small_split: Split) -> None:
    rng = np.random.default_rng(3)
    n = small_split.dataset.n_items

    def other(cases):
        targets = Ragged.from_rows([[int(rng.integers(n))] for _ in range(len(cases))])
        return replace(cases, targets=targets)

    shown = replace(small_split, valid=other(small_split.valid), test=other(small_split.test))
    made = [build(method, **settings).build(s, vectors(n), 0).codes for s in (small_split, shown)]
    assert np.array_equal(*made)


def test_modal_names_new_items_by_their_views(small_split: Split) -> None:
    views = [{"name": "collaborative", "dim": 4}, {"name": "tfidf", "dim": 5}]
    index = build("modal", views=views, size=5).build(small_split)
    n, width = small_split.dataset.n_items, int(index.tensors["widths"].sum())
    new = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    for _ in range(2):
        index = index.extended(index.assign(new))
    assert len(np.unique(index.codes, axis=0)) == n + 6


def test_the_first_name_of_a_hybrid_loses_what_told_equals_apart(small_split: Split) -> None:
    n = small_split.dataset.n_items
    first = build("rqkmeans", levels=2, size=4).build(small_split, vectors(n), 0)
    part = {"method": "rqkmeans", "levels": 2, "size": 4}
    index = build("hybrid", first=part).build(small_split, vectors(n), 0)
    assert index.sizes[:-1] == first.sizes[:-1] == (4, 4)
    assert np.array_equal(index.codes[:, :-1], first.codes[:, :-1])
    assert index.health().before == index.health().after


def test_a_hybrid_that_ends_in_a_counter_is_judged_without_it(small_split: Split) -> None:
    parts = [{"method": "collaborative", "clusters": 3, "leaf": 6}, "semantic"]
    index = build("hybrid", first=parts[0], second=parts[1]).build(small_split)
    made = [without_counters(build(**_settings(part)).build(small_split))[0] for part in parts]
    alike = np.unique(np.concatenate(made, axis=1), axis=0, return_counts=True)[1]
    before = index.health().before
    assert before.names == len(alike) and before.items == alike[alike > 1].sum() > 0
    assert before.largest == alike.max()


def test_an_assignment_that_leaves_an_item_out_is_told(small_split: Split, monkeypatch) -> None:
    index = build("independent").build(small_split)
    monkeypatch.setattr(IndependentNames, "assign", lambda self, index, new: index.codes[:0])
    with pytest.raises(OnomaError, match="independent: 0 names for 2 new items"):
        index.assign(vectors(2))


def test_sequential_numbers_follow_the_walk(small_split: Split) -> None:
    index = build("sequential", order="time", size=64).build(small_split)
    number = index.codes @ (64 ** np.arange(index.depth)[::-1])
    train = small_split.train
    rows = np.flatnonzero(train.lengths)
    began = small_split.train_times[train.offsets[rows]]
    walk = np.concatenate([train[int(row)] for row in rows[np.argsort(began, kind="stable")]])
    met = list(dict.fromkeys(walk.tolist()))
    assert [int(item) for item in np.argsort(number)[: len(met)]] == met
    with pytest.raises(OnomaError, match="no order"):
        build("sequential", order="backwards")


def test_without_times_users_are_walked_as_they_are_counted() -> None:
    """Two users of a log without times share a walk only where their numbers are near."""
    log = [(str(user), f"{user // 10}-{step}") for user in range(120) for step in range(5)]
    frame = pl.DataFrame(log, schema=["user_id", "item_id"], orient="row")
    data = Dataset.construct(frame, name="uncounted")
    index = build("sequential", size=256).build(split(data))
    assert index.meta["order"] == "id"
    tens = [int(data.item_ids[item].split("-")[0]) for item in np.argsort(index.codes[:, 0])]
    met = tens[: len(tens) - index.meta["unseen"]]
    assert met == sorted(met) and len(set(met)) == 12  # 2 before 10: numbers, not words


def planted(groups: int = 4, each: int = 30, seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """Users who buy inside one group of items only."""
    rng = np.random.default_rng(seed)
    log = []
    for user in range(400):
        group = user % groups
        for step, item in enumerate(rng.choice(each, 8, replace=False)):
            log.append((f"u{user}", f"g{group}-{item}", user * 100 + step))
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = Dataset.construct(frame, name="planted")
    return data, np.array([int(i[1]) for i in data.item_ids])


def test_along_the_items_users_of_one_item_follow_each_other() -> None:
    data, group = planted()
    parts = split(data)
    changes = {}
    for order in ("item", "time"):
        codes = build("sequential", order=order, size=256).build(parts).codes[:, 0]
        walked = group[np.argsort(codes)]
        changes[order] = int((walked[1:] != walked[:-1]).sum())
    assert changes["item"] == 3  # each of the four groups is walked whole
    assert changes["time"] > 20


def test_collaborative_clusters_find_planted_groups_and_the_control_does_not() -> None:
    data, group = planted()
    parts = split(data)
    found = build("collaborative", clusters=4, leaf=40).build(parts).codes[:, 0]
    purity = sum(np.bincount(group[found == c]).max() for c in np.unique(found)) / len(group)
    assert purity > 0.95
    shuffled = build("collaborative", clusters=4, leaf=40, control=True).build(parts).codes[:, 0]
    worse = sum(np.bincount(group[shuffled == c]).max() for c in np.unique(shuffled)) / len(group)
    assert worse < 0.7


def test_the_control_keeps_every_degree_and_forgets_who_meets_whom(small_split: Split) -> None:
    graph = co_occurrence(small_split)
    other = rewired(graph, seed=0)
    assert np.array_equal(other.sum(axis=1), graph.sum(axis=1)) and (other.diagonal() == 0).all()
    assert abs(other - other.T).sum() == 0
    assert abs(other - graph).sum() > 0.5 * graph.sum()
    assert abs(other - rewired(graph, seed=0)).sum() == 0 < abs(other - rewired(graph, 1)).sum()
    names = [
        build("collaborative", clusters=3, leaf=6, control=control).build(small_split).codes
        for control in (False, True)
    ]
    assert not np.array_equal(*names)
    star = sp.csr_array(np.array([[0, 3, 3], [3, 0, 0], [3, 0, 0]]))
    assert np.array_equal(rewired(star, 0).toarray(), star.toarray())  # the only graph there is


def with_a_stranger() -> tuple[Dataset, int]:
    """The planted data with one more item that nobody took, and its code."""
    data, _ = planted()
    catalogue = pl.concat([data.items.select("item_id"), pl.DataFrame({"item_id": ["new"]})])
    log = data.with_ids(data.interactions)
    wider = Dataset.construct(log, catalogue, name="wider")
    return wider, int(wider.item_codes(["new"])[0])


def test_items_without_company_get_a_branch_or_the_nearest_leaf() -> None:
    wider, at = with_a_stranger()
    parts = split(wider)
    alone = build("collaborative", clusters=4, leaf=40).build(parts)
    assert (alone.codes[:, 0] == alone.codes[at, 0]).sum() == 1
    of = np.array([-1 if i == "new" else int(i[1]) for i in wider.item_ids])
    content = np.eye(5, dtype=np.float32)[np.where(of < 0, 2, of)]
    near = build("collaborative", clusters=4, leaf=40).build(parts, content)
    friends = of[near.codes[:, 0] == near.codes[at, 0]]
    assert np.bincount(friends[friends >= 0]).argmax() == 2
    assert near.assign(content[of == 1][:1])[0, 0] == np.bincount(near.codes[of == 1, 0]).argmax()


def test_items_that_a_long_history_holds_early_are_no_strangers() -> None:
    log = [("long", f"i{n}", n) for n in range(451)] + [("short", f"j{n}", n) for n in range(6)]
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    parts = split(Dataset.construct(frame, name="long"))
    graph = co_occurrence(parts)
    degree = np.diff(graph.indptr)
    assert np.array_equal(degree > 0, parts.train_counts > 0)
    assert degree.max() < 400  # one history does not join everything with everything
    assert abs(graph - graph.T).sum() == 0 and graph.max() == 1


def test_items_without_company_and_without_a_vector_get_the_branch() -> None:
    wider, at = with_a_stranger()
    told = vectors(wider.n_items)
    told[at] = 0
    index = build("collaborative", clusters=4, leaf=40).build(split(wider), told)
    assert index.codes[at, 0] == 4 and (index.codes[:, 0] == 4).sum() == 1
    names = index.assign(np.concatenate([told[[at]], told[:1]]))
    assert names[0, 0] == 4 != names[1, 0]


def test_columns_of_the_wrong_type_are_told_with_those_of_the_right_one(tmp_path) -> None:
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(6)],
            "title": ["red soap", "red soap", "blue soap", "blue oil", "oil", "oil"],
            "year": [1999, 1999, 1999, 2001, 2001, None],
            "genres": [["a"], ["a"], ["b"], ["b"], None, []],
        }
    )
    log = pl.DataFrame({"user_id": ["u"] * 6, "item_id": items["item_id"], "timestamp": range(6)})
    parts = split(Dataset.construct(log, items, name="shop"))
    with pytest.raises(MissingColumn, match="'year' holds Int64.* item_id, title, genres$"):
        build("semantic", column="year").build(parts)
    with pytest.raises(MissingColumn, match="'genres' holds List.* item_id, title, year$"):
        build("title", column="genres").build(parts)
    years = build("title", column="year", common=2).build(parts)
    assert years.meta["vocabulary"] == [["1999", "2001"]]


def test_semantic_trees_and_flat_tags() -> None:
    def of(tags: list[list[str]]) -> ItemIndex:
        n = len(tags)
        log = pl.DataFrame(
            {
                "user_id": [f"u{i // n}" for i in range(3 * n)],
                "item_id": [f"i{i % n:02}" for i in range(3 * n)],
                "timestamp": range(3 * n),
            }
        )
        items = pl.DataFrame({"item_id": [f"i{i:02}" for i in range(n)], "categories": tags})
        data = Dataset.construct(log, items, name="tags")
        index = build("semantic", common=2).build(split(data))
        order = np.argsort([str(i) for i in data.item_ids])
        return replace(index, codes=index.codes[order])

    tree = of([["a", "b"]] * 3 + [["a", "c"]] * 3 + [["d"]] * 3 + [[]])
    assert tree.meta["tree"]
    assert len(np.unique(tree.codes[:6, 0])) == 1 and tree.codes[0, 1] != tree.codes[3, 1]
    assert (tree.codes[6:9, 2] == -1).all() and tree.codes[9, 0] not in tree.codes[:9, 0]
    flat = of(
        [
            ["x", "y"],
            ["y", "x"],
            ["z", "x"],
            ["x", "z"],
            ["y", "x"],
            ["x", "rare"],
            ["z", "y"],
            ["y", "z"],
        ]
    )
    assert not flat.meta["tree"]
    assert len(np.unique(flat.codes[:6, 0])) == 1  # x, the most common, comes first
    with pytest.raises(OnomaError, match="no column 'genre'"):
        data, _ = planted()
        build("semantic", column="genre").build(split(data))


def test_titles_are_spelled_word_by_word() -> None:
    titles = ["Red soap, large", "red Soap", "red rose", "a unicum", None, "SOAP"]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(6)], "title": titles})
    log = pl.DataFrame({"user_id": ["u"] * 6, "item_id": items["item_id"], "timestamp": range(6)})
    parts = split(Dataset.construct(log, items, name="shop"))
    index = build("title", words=2, common=2).build(parts)
    words = index.meta["vocabulary"]
    assert words == [["red", "soap"], ["soap"]]
    order = [parts.dataset.item_codes([f"i{n}"])[0] for n in range(6)]
    prefixes = index.codes[order, :2].tolist()
    assert prefixes[0] == prefixes[1] == [0, 0]  # the third word is cut, "large" is rare
    assert prefixes[2][0] == 0 and prefixes[2][1] >= 1  # "rose" is rare: a counter follows "red"
    assert prefixes[3][0] >= 2 and prefixes[4][0] >= 2  # nothing to say but a counter
    assert len(np.unique(index.codes, axis=0)) == 6
    with pytest.raises(OnomaError, match="no column 'headline'"):
        build("title", column="headline").build(parts)
    bare = split(Dataset.construct(log, items.with_columns(title=pl.lit("?!")), name="bare"))
    with pytest.raises(MissingColumn, match="no word"):
        build("title").build(bare)
