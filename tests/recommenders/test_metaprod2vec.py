"""Meta-Prod2Vec: the shared suite, then what is its own."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Dataset, Ragged, split
from onoma.encoding.cooccurrence import steps
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.sequential.metaprod2vec import MetaProd2Vec, SkipGrams
from onoma.recommenders.sequential.side import Side

QUICK = {"epochs": 12, "lr": 2e-2, "valid_every": 6}


def meta(**settings):
    return MetaProd2Vec(**{"width": 16, "batch": 256, "pool": 32, "train": QUICK, "quiet": True,
                           **settings})  # fmt: skip


class TestMetaProd2Vec(Conformance):
    def make(self):
        return meta()


class TestProd2Vec(Conformance):
    def make(self):
        return meta(weight=0.0, decay=None)


@pytest.fixture(scope="module")
def fitted(small_split):
    return meta().fit(small_split)


@pytest.fixture(scope="module")
def brands():
    """Six brands of eight items; users stay with a brand; the last item of each has no user."""
    rng = np.random.default_rng(0)
    log = [
        {"user_id": f"u{user}", "item_id": f"{user % 6}-{rng.integers(7)}", "timestamp": at}
        for user in range(240)
        for at in range(6)
    ]
    items = [{"item_id": f"{b}-{i}", "brand": f"brand {b}"} for b in range(6) for i in range(8)]
    return split(Dataset.construct(pl.DataFrame(log), pl.DataFrame(items), name="brands"))


def brand_of(parts, codes):
    return np.array([name[0] for name in parts.dataset.item_ids[codes]])


def test_items_nobody_had_stand_with_their_brand(brands):
    cold = np.flatnonzero(brands.train_counts == 0)
    assert len(cold) == 6
    asked = Requests(Ragged.from_rows([[code] for code in cold]))
    told = meta().fit(brands).recommend(asked, 5).items
    own = brand_of(brands, cold)[:, None] == brand_of(brands, told.ravel()).reshape(6, 5)
    assert own.mean() > 0.8
    blind = meta(weight=0.0).fit(brands).recommend(asked, 5).items
    assert (
        brand_of(brands, cold)[:, None] == brand_of(brands, blind.ravel()).reshape(6, 5)
    ).mean() < 0.5


def test_new_items_are_taken_without_training(brands):
    model = meta().fit(brands)
    items = brands.dataset.items
    new = pl.DataFrame({"item_id": ["n", "m"], "brand": ["Brand 3", "never heard of"]})
    more = model.extend(items, new.match_to_schema(items.schema, missing_columns="insert"))
    n = brands.dataset.n_items
    answer = more.recommend(Requests(Ragged.from_rows([[n]])), 5).items[0]
    assert (brand_of(brands, answer) == "3").all()
    assert not more.module.vectors[n + 1].any()
    assert len(model.module.vectors) == n


def test_side_information_is_what_items_share():
    items = pl.DataFrame(
        {
            "brand": ["Opi", "OPI ", "unknown", None],
            "categories": [["All", "Nails"], ["All"], ["All", None], []],
            "title": ["Red &amp; blue", "red one", None, "Alone"],
        }
    )
    side = Side(items, ("brand", "categories", "title", "no such column"))
    assert side.names == ["brand:opi", "categories:all", "title:red"]
    chance = side.chance.toarray()
    weights = 1 / np.sqrt([2, 3, 2])
    np.testing.assert_allclose(chance[0], weights / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(chance[2], [0, 1, 0])
    assert not chance[3].any()
    assert side.of(items.head(1)).toarray().tolist() == chance[:1].tolist()


def test_values_are_drawn_by_their_chance(fitted):
    module, chance = fitted.module, fitted.side.chance.toarray()
    row = int(np.argmax((chance > 0).sum(1)))
    drawn = module._value_of(torch.full((20_000,), row))
    share = np.bincount(drawn.numpy(), minlength=chance.shape[1]) / 20_000
    np.testing.assert_allclose(share, chance[row], atol=0.02)


def test_pairs_are_neighbours_both_ways_and_fade_with_distance(small_split):
    task = SkipGrams(meta(), small_split)
    far = [len(steps(small_split.train, lag)[0]) for lag in (1, 2, 3)]
    assert task.pairs.shape[1] == 2 * sum(far)
    n = small_split.dataset.n_items
    key = task.pairs[0] * n + task.pairs[1]
    back = task.pairs[1] * n + task.pairs[0]
    assert np.array_equal(np.sort(key), np.sort(back))
    drawn = np.concatenate([np.concatenate(task.plan(0, epoch)) for epoch in range(60)])
    kept = np.bincount(drawn, minlength=len(key)) / 60
    np.testing.assert_allclose(
        [kept[np.isclose(task.kept, share)].mean() for share in (1, 2 / 3, 1 / 3)],
        [1, 2 / 3, 1 / 3], atol=0.02,
    )  # fmt: skip


def test_without_weight_no_side_information_is_read(small_split):
    model = meta(weight=0.0).fit(small_split)
    assert not len(model.module.values) and not model.side.names


def test_only_the_last_item_is_asked_with_unless_it_decays(fitted):
    scores = fitted.score(Requests(Ragged.from_rows([[5, 9], [7, 9]])))
    torch.testing.assert_close(scores[0], scores[1])


def test_a_mixture_puts_what_stood_near_the_last_item_higher(fitted, small_split):
    last = int(np.argmax(np.diff(fitted._near.indptr)))
    best = int(fitted._near[[last]].toarray().argmax())
    asked = Requests(Ragged.from_rows([[last]]), mask_seen=False)
    n = small_split.dataset.n_items
    places = [
        int(np.flatnonzero(fitted.recommend(asked, n, mode=mode).items[0] == best)[0])
        for mode in ("rank", "mix")
    ]
    assert places[1] <= places[0]
    chosen = float(fitted.module.share)
    fitted.module.share.fill_(0.99)
    assert fitted.recommend(asked, 1, mode="mix").items[0, 0] == best
    fitted.module.share.fill_(chosen)


def test_a_catalogue_without_shared_values_is_told(small_split):
    with pytest.raises(OnomaError, match=r"share a value.*fields"):
        meta(fields=("item_id",)).fit(small_split)
