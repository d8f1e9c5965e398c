"""The evaluator: slices, beyond-accuracy, invalid answers, one summary."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from onoma.dataset import Dataset, Ragged, split
from onoma.evaluation.beyond import beyond, gini, intra_list_distance
from onoma.evaluation.evaluate import evaluate, invalid_items
from onoma.evaluation.slices import Transitions, back, head_items
from onoma.recommenders.base import Recommender


class Counts(Recommender):
    """Training counts as scores."""

    name = "counts"

    def fit(self, split):
        self.counts = torch.from_numpy(split.train_counts).float()
        return self

    def score(self, requests):
        return self.counts.expand(len(requests), -1).clone()

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder, dataset):
        raise NotImplementedError


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 7)
    log = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in users],
            "item_id": [f"i{i}" for i in rng.zipf(1.6, len(users)) % 40],
            "timestamp": np.arange(len(users)),
        }
    )
    return split(Dataset.construct(log))


def test_summary_slices_and_batches(parts):
    model = Counts().fit(parts)
    result = evaluate(model, parts.test, parts, ks=(1, 10))
    again = evaluate(model, parts.test, parts, ks=(1, 10), batch=7)
    assert (result.ranking.items == again.ranking.items).all()
    figures = json.loads(json.dumps(result.summary()))
    assert figures["recall@10"] == pytest.approx(result.mean("recall@10"))
    low, high = figures["ci95"]["recall@10"]
    assert low <= figures["recall@10"] <= high
    assert figures["invalid_items"] == 0 and figures["cases"] == 60
    assert figures["slices"].get("repeated", {"recall@10": 0})["recall@10"] == 0
    assert "log2" in figures["formulas"]["ndcg@k"]
    marks = result.slices
    for names in (
        ("cold", "tail", "head"),
        ("memorised", "generalised"),
        [name for name in marks if name.startswith("history")],
    ):
        assert (sum(marks[name].astype(int) for name in names) == 1).all()
    unmasked = evaluate(model, parts.test, parts, ks=(10,), mask_seen=False)
    assert unmasked.mean("recall@10") > result.mean("recall@10")


def test_transitions_and_head():
    rows = Ragged.from_rows([[0, 1, 2], [2], [1, 2]])
    known = Transitions(rows, 4)
    assert known.seen(np.array([0, 1, 2, -1]), np.array([1, 2, 1, 0])).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert known.counts.tolist() == [1, 2]
    assert back(rows, 2).tolist() == [1, -1, 1]
    assert head_items(np.array([1, 80, 19, 0])).tolist() == [False, True, False, False]


def test_invalid_answers_are_counted():
    assert invalid_items(np.array([[1, 2, -1], [3, 3, 9], [-1, -1, -1]]), 9) == 2


def test_beyond_accuracy_by_hand():
    items, counts = np.array([[0, 1], [0, 2]]), np.array([6, 1, 1, 0])
    got = beyond(items, counts, k=2, history=Ragged.from_rows([[0], [1]]), vectors=np.eye(4))
    assert got["coverage@2"] == 0.75
    assert got["intra_list_distance@2"] == pytest.approx(1)
    assert got["popularity_lift@2"] == pytest.approx((14 / 4) / 3.5 - 1)
    assert got["novelty@2"] == pytest.approx(-(2 * np.log2(7 / 12) + 2 * np.log2(2 / 12)) / 4)
    assert gini(np.array([0, 0, 0, 5])) == pytest.approx(0.75)
    same = np.array([[1.0, 0], [2, 0], [0, 0]])
    assert intra_list_distance(np.array([[0, 1], [0, 2]]), same) == pytest.approx(0)
