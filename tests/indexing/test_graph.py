"""Names by content that walked along the graph: what it adds, and items the graph lacks."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset, Split, split
from onoma.errors import OnomaError
from onoma.indexing import ItemIndex, build

SMALL = {"levels": 2, "size": 8, "latent": 8, "hidden": (32,), "epochs": 30, "batch": 64}
GROUPS, EACH = 4, 30


@pytest.fixture(scope="module")
def shop() -> tuple[Split, np.ndarray]:
    """Users who buy inside one group of items only, and the group of each; some are never sold."""
    rng = np.random.default_rng(0)
    log = []
    for user in range(400):
        group = user % GROUPS
        # Low numbers sell far more than high ones; the last three do not sell at all.
        weight = 1 / np.arange(1, EACH - 2)
        for item in rng.choice(EACH - 3, 8, replace=False, p=weight / weight.sum()):
            log.append((f"u{user}", f"g{group}-{item}", len(log)))
    items = pl.DataFrame({"item_id": [f"g{g}-{i}" for g in range(GROUPS) for i in range(EACH)]})
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = Dataset.construct(frame, items, name="shop")
    return split(data), np.array([int(name[1]) for name in data.item_ids])


def purity(index: ItemIndex, group: np.ndarray, rows: np.ndarray) -> float:
    code = index.codes[rows, 0]
    return sum(np.bincount(group[rows][code == c]).max() for c in np.unique(code)) / len(code)


@pytest.mark.parametrize("behaviour", [None, "collaborative"])
def test_the_graph_groups_items_whose_content_says_nothing(shop, behaviour: str | None) -> None:
    parts, group = shop
    noise = np.random.default_rng(1).normal(size=(len(group), 16)).astype(np.float32)
    sold = np.flatnonzero(parts.train_counts)
    found = build("graph", behaviour=behaviour, own=0.1, **SMALL).build(parts, noise)
    assert purity(found, group, sold) > 0.9
    assert purity(build("rqvae", **SMALL).build(parts, noise), group, sold) < 0.7


def test_unsold_and_new_items_stand_where_their_content_belongs(shop) -> None:
    parts, group = shop
    rng = np.random.default_rng(2)
    content = np.eye(GROUPS, 12, dtype=np.float32)[group]
    content += 0.1 * rng.normal(size=content.shape).astype(np.float32)
    index = build("graph", **SMALL).build(parts, content)
    first = index.codes[:, 0]
    sold = parts.train_counts > 0
    homes = [set(first[sold & (group == g)].tolist()) for g in range(GROUPS)]
    unsold = np.flatnonzero(~sold)
    assert len(unsold) >= 3 * GROUPS
    assert np.mean([first[item] in homes[group[item]] for item in unsold]) > 0.9
    new = np.eye(GROUPS, 12, dtype=np.float32) * 3  # the length of content does not count
    assert all(name[0] in homes[g] for g, name in enumerate(index.assign(new)))
    with pytest.raises(OnomaError, match="width 5, named with 12"):
        index.assign(np.ones((1, 5), dtype=np.float32))


def test_the_most_bought_of_equal_codes_comes_first(shop) -> None:
    parts, group = shop
    same = np.ones((len(group), 4), dtype=np.float32)
    index = build("graph", behaviour=None, **SMALL).build(parts, same)
    counts, last = parts.train_counts, index.codes[:, -1]
    for prefix in np.unique(index.codes[:, :-1], axis=0):
        members = np.flatnonzero((index.codes[:, :-1] == prefix).all(axis=1))
        assert (np.diff(counts[members[np.argsort(last[members])]]) <= 0).all()
    assert np.bincount(last).max() < len(last) / 2  # some do share their codes


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(OnomaError, match="reads the log"):
        build("graph").name_vectors(np.ones((4, 2), dtype=np.float32))
    with pytest.raises(OnomaError, match="own 1.0"):
        build("graph", own=1.0)
