"""MMGRec: the shared suite, and histories read as sets."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.mmgrec import MMGRec
from onoma.recommenders.tuning import validation_ndcg


def mmgrec(epochs=60, **settings):
    settings = {
        "encoder": {"name": "collaborative", "dim": 8},
        "index": {"method": "rqkmeans", "levels": 2, "size": 8},
        **settings,
    }
    return MMGRec(
        width=16, layers=2, heads=2, head_width=8, inner=32, relation=4, batch=32,
        train={"epochs": epochs, "batch_tokens": 256, "lr": 5e-3, "valid_every": min(epochs, 10)},
        quiet=True, **settings,
    )  # fmt: skip


class TestMMGRec(Conformance):
    tolerance = 0.03  # bf16 products round by the shape of the batch

    def make(self):
        return mmgrec(epochs=8)


@pytest.fixture(scope="module")
def fitted(small_split):
    return mmgrec().fit(small_split)


def test_learns_the_ring(fitted, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(fitted, small_split.valid) > popular + 0.01


def test_order_is_not_read(fitted):
    asked = Requests(Ragged.from_rows([[1, 2, 30, 9], [9, 30, 1, 2]]))
    scores = fitted.score(asked)
    torch.testing.assert_close(scores[0], scores[1], rtol=0.03, atol=0.03)


@torch.no_grad()
def test_users_relate_the_same_items_differently(fitted):
    block, x = fitted.module.blocks[0], torch.randn(1, 5, 16)
    block.eval()
    mine, yours = (block(x, torch.full((1, 16), fill), None) for fill in (-2.0, 2.0))
    assert not torch.allclose(mine, yours, atol=1e-3)


def test_a_new_item_has_its_vector_at_once(small_split):
    words = {"name": "tfidf", "dim": 8, "min_df": 1}
    model = mmgrec(encoder=words).fit(small_split)
    catalogue = small_split.dataset.items
    more = model.extend(catalogue, catalogue.head(1).with_columns(item_id=pl.lit("new")))
    content = more.module.content
    assert torch.allclose(content[len(catalogue)], content[0], atol=1e-5)
    asked = Requests(Ragged.from_rows([[0], [len(catalogue)]]), mask_seen=False)
    scores = more.score(asked)
    torch.testing.assert_close(scores[0], scores[1], rtol=0.03, atol=0.03)
    assert np.isfinite(scores.numpy()).all()
