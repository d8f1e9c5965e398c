"""Lite-LLM4Rec: the shared suite, and what the two heads can do."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.lite import LiteLLM4Rec
from onoma.recommenders.tuning import validation_ndcg


def lite(**settings):
    return LiteLLM4Rec(
        width=32, train={"epochs": 30, "batch_tokens": 128, "lr": 1e-2, "valid_every": 10},
        encoder={"name": "tfidf", "dim": 32, "min_df": 1}, quiet=True, **settings,
    )  # fmt: skip


class TestLite(Conformance):
    def make(self):
        return lite()


def test_learns_the_ring(small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(lite().fit(small_split), small_split.valid) > popular + 0.05


def test_a_tied_head_scores_a_new_item_by_its_text(small_split):
    model, catalogue = lite(head="tied").fit(small_split), small_split.dataset.items
    more = model.extend(catalogue, catalogue.head(1).with_columns(item_id=pl.lit("new")))
    asked = Requests(Ragged.from_rows([[3, 4]]))
    scores = more.score(asked)[0]
    assert len(scores) == len(catalogue) + 1
    torch.testing.assert_close(scores[-1], scores[0], rtol=1e-3, atol=1e-3)
    assert np.allclose(scores[:-1], model.score(asked)[0], atol=1e-4)


def test_a_free_head_refuses_new_items(small_split):
    model, catalogue = lite().fit(small_split), small_split.dataset.items
    with pytest.raises(OnomaError, match="free head"):
        model.extend(catalogue, catalogue.head(1))


def test_the_offset_is_part_of_the_score(small_split):
    model, asked = lite().fit(small_split), Requests(Ragged.from_rows([[3, 4]]))
    before = model.score(asked)[0]
    with torch.no_grad():
        model.module.offset[7] += 2
    model._table = None
    assert (model.score(asked)[0] - before)[7].item() == pytest.approx(2, abs=1e-3)
