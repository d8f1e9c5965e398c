"""SASRec and the flagship: the shared suite, then what is particular to them."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.neural.beam import exhaustive
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.flagship import Flagship
from onoma.recommenders.generative.packed import Packed
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.transformer import NextItem
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 30, "batch_tokens": 128, "lr": 5e-3, "valid_every": 10}


def sasrec(**settings):
    return SASRec(width=16, train=QUICK, quiet=True, **settings)


def packed(**settings):
    # Names by content say nothing of the ring; those of the log do.
    settings = {
        "encoder": {"name": "collaborative", "dim": 8},
        "index": {"method": "rqkmeans", "levels": 2, "size": 8},
        **settings,
    }
    return Packed(width=16, heads=2, depth_width=16, train=QUICK, quiet=True, **settings)


def flagship(**settings):
    return Flagship(
        width=16, heads=2, depth_width=16, train=QUICK, quiet=True,
        encoder={"name": "tfidf", "dim": 8, "min_df": 1},
        index={"method": "rqkmeans", "levels": 2, "size": 4}, **settings,
    )  # fmt: skip


class TestSASRec(Conformance):
    def make(self):
        return sasrec()


class TestPacked(Conformance):
    def make(self):
        return packed()


class TestSampledSASRec(Conformance):
    def make(self):
        return sasrec(loss="sampled", negatives=16)


class TestFlagship(Conformance):
    def make(self):
        return flagship()


@pytest.fixture(scope="module")
def fitted(small_split):
    return flagship().fit(small_split)


@pytest.mark.parametrize("make", [sasrec, packed, flagship])
def test_learns_the_ring(make, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(make().fit(small_split), small_split.valid) > popular + 0.05


@pytest.mark.parametrize("mode", ["generate", "generate_then_rank"])
def test_every_mode_answers_new_catalogue_items_only(fitted, small_split, mode):
    requests = Requests.of(small_split.test)
    items = fitted.recommend(requests, 10, mode=mode).items
    n_items = small_split.dataset.n_items
    assert items.min() >= 0 and items.max() < n_items
    for row in range(len(requests)):
        assert not np.isin(items[row], requests.history[row]).any()
        assert len(set(items[row].tolist())) == 10


def test_a_wide_beam_finds_what_the_oracle_finds(fitted, small_split):
    states = fitted.last_states(small_split.test.history)
    n_items = small_split.dataset.n_items
    items, scores = fitted.spell(states, n_items)
    context = fitted.module.enter(states)
    oracle = exhaustive(fitted.module.depth, context, fitted.index.trie)
    torch.testing.assert_close(scores, oracle.gather(1, items), rtol=0.05, atol=0.05)
    assert (items.sort(1).values == torch.arange(n_items)).all()


def test_items_without_interactions_are_recommended(fitted, small_split):
    cold = np.flatnonzero(small_split.train_counts == 0)
    asked = Requests(Ragged.from_rows([[0, 1]]))
    for mode in fitted.modes:
        items = fitted.recommend(asked, small_split.dataset.n_items, mode=mode).items[0]
        assert np.isin(cold, items).all()


def test_loaded_modes_agree(fitted, small_split, tmp_path):
    fitted.save(tmp_path)
    again = Flagship.load(tmp_path, small_split.dataset)
    requests = Requests.of(small_split.test)
    for mode in fitted.modes:
        want, got = (m.recommend(requests, 5, mode=mode) for m in (fitted, again))
        assert np.array_equal(want.items, got.items)


def test_unseen_items_are_answered_when_a_share_is_theirs(small_split, tmp_path):
    cold = np.flatnonzero(small_split.train_counts == 0)
    asked = Requests.of(small_split.test)
    model = packed(unseen=0.2).fit(small_split)
    items = model.recommend(asked, 10).items
    held = np.isin(items, cold).sum(axis=1)
    plain = packed().fit(small_split).recommend(asked, 10).items
    assert held.max() <= 2 and held.sum() > 2 * np.isin(plain, cold).sum()
    model.save(tmp_path)
    assert (Packed.load(tmp_path, small_split.dataset).recommend(asked, 10).items == items).all()


def test_a_new_item_is_spelled_at_once_where_unseen_items_have_a_share(small_split):
    words = {"name": "tfidf", "dim": 8, "min_df": 1}
    model = packed(unseen=0.5, encoder=words).fit(small_split)
    catalogue = small_split.dataset.items
    news = catalogue.head(1).with_columns(item_id=pl.lit("new"))
    more = model.extend(catalogue, news)
    asked = Requests(Ragged.from_rows([[i] for i in range(30)]))
    assert (more.recommend(asked, 10).items == len(catalogue)).any()
    assert not (model.recommend(asked, 10).items == len(catalogue)).any()


def test_a_step_of_packed_reads_what_its_item_table_says(small_split):
    model = packed().fit(small_split)
    task, items = model._task(small_split), torch.tensor([[0, 3, model.module.n_items], [5, 1, 2]])
    model.module.eval()
    with torch.no_grad():
        assert torch.equal(task.read(items)[0], NextItem.read(task, items)[0])


def test_names_of_both_views_take_new_items(small_split):
    words = {"name": "tfidf", "dim": 8, "min_df": 1}
    views = [words, {"name": "collaborative", "dim": 4}]
    index = {"method": "uniform", "levels": 2, "size": 8, "encoder": views}
    settings = {"width": 16, "heads": 2, "depth_width": 16, "train": {**QUICK, "epochs": 1}}
    model = Flagship(**settings, quiet=True, encoder=words, index=index).fit(small_split)
    catalogue = small_split.dataset.items
    news = catalogue.head(2).with_columns(item_id=pl.Series(["new", "newer"]))
    more = model.extend(catalogue, news)
    names = more.index.codes
    assert len(np.unique(names, axis=0)) == len(catalogue) + 2
    for mode in more.modes:
        asked = Requests(Ragged.from_rows([[0, 1]]))
        items = more.recommend(asked, len(catalogue) + 2, mode=mode).items[0]
        assert np.isin([len(catalogue), len(catalogue) + 1], items).all()


@pytest.fixture(scope="module")
def growing(small_split):
    """A flagship whose names and vectors are of words."""
    words = {"name": "tfidf", "dim": 8, "min_df": 1}
    index = {"method": "rqkmeans", "levels": 2, "size": 16, "encoder": words}
    settings = {"width": 16, "heads": 2, "depth_width": 16, "train": {**QUICK, "epochs": 1}}
    return Flagship(**settings, quiet=True, encoder=words, index=index).fit(small_split)


def test_more_new_items_than_the_catalogue_holds(growing, small_split):
    model, catalogue = growing, small_split.dataset.items
    news = pl.concat([catalogue.with_columns(pl.col("item_id") + end) for end in ("+", "++")])
    more = model.extend(catalogue, news)
    asked = Requests(Ragged.from_rows([[0, len(catalogue) * 3 - 1]]))
    scores = more.score(asked)
    assert scores.shape == (1, len(catalogue) * 3)
    more.forget()  # made anew of the parameters
    assert torch.allclose(more.score(asked), scores, atol=1e-4)


def test_new_items_are_the_same_one_by_one_and_together(growing, small_split):
    model, catalogue = growing, small_split.dataset.items
    news = catalogue.head(2).with_columns(item_id=pl.Series(["new", "newer"]))
    together = model.extend(catalogue, news)
    apart = model.extend(catalogue, news.head(1)).extend(catalogue, news.tail(1))
    asked = Requests(Ragged.from_rows([[0, 1], [len(catalogue), len(catalogue) + 1]]))
    torch.testing.assert_close(apart.score(asked), together.score(asked))
