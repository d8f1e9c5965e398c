"""ELMRec: the shared suite, and vectors of the graph."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Dataset, Ragged, split
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.elmrec import ELMRec, graph_vectors
from onoma.recommenders.tuning import validation_ndcg


def elmrec(epochs=30, **settings):
    return ELMRec(
        encoder={"name": "collaborative", "dim": 8},
        index={"method": "rqkmeans", "levels": 2, "size": 8},
        width=16, layers=2, heads=2, head_width=8, inner=32, users=7, batch=32,
        train={"epochs": epochs, "batch_tokens": 256, "lr": 5e-3, "valid_every": min(epochs, 10)},
        quiet=True, **settings,
    )  # fmt: skip


class TestELMRec(Conformance):
    tolerance = 0.03  # bf16 products round by the shape of the batch

    def make(self):
        return elmrec(epochs=8)


@pytest.mark.parametrize("whole", ["graph", "ordinal", "none"])
def test_learns_the_ring(whole, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    model = elmrec(whole=whole).fit(small_split)
    assert validation_ndcg(model, small_split.valid) > popular + 0.03
    assert model.recommend(Requests(Ragged.from_rows([[1]])), 3).items.shape == (1, 3)


def test_company_stands_together_after_some_hops():
    rows = [(f"{part}{u}", f"{part}{i}") for part in "ab" for u in range(20) for i in range(8)]
    log = pl.DataFrame(
        {"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows],
         "timestamp": list(range(len(rows)))}
    )  # fmt: skip
    parts = split(Dataset.construct(log, name="two"))
    side = np.array([str(name)[0] for name in parts.dataset.item_ids])

    def gap(hops):
        _, items = graph_vectors(parts, 32, hops, 0)
        unit = items / np.linalg.norm(items, axis=1, keepdims=True)
        same = side[:, None] == side[None, :]
        np.fill_diagonal(same, False)
        return (unit @ unit.T)[same].mean() - (unit @ unit.T)[side[:, None] != side].mean()

    assert abs(gap(0)) < 0.1 and gap(4) > 0.3


def test_vectors_of_the_graph_reach_the_scores(small_split):
    model = elmrec().fit(small_split)
    asked = Requests(Ragged.from_rows([[1, 2]]))
    before = model.score(asked)
    model.module.of_items[1] += torch.randn(16)
    assert not torch.allclose(model.score(asked), before, atol=1e-3)
