"""Equal scores: every order that is possible counts alike, and none is luck."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Ragged
from onoma.evaluation.metrics import metrics
from onoma.evaluation.ties import averaged

KS = (1, 2, 3, 5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_target_has_the_mean_of_all_orders(seed):
    rng = np.random.default_rng(seed)
    items = rng.permutation(9)[None, :5].astype(np.int32)
    scores = -np.sort(rng.integers(0, 3, (1, 5)), axis=1).astype(np.float32)
    targets = Ragged.from_rows([[int(rng.integers(9))]])
    allowed = [
        list(order)
        for order in permutations(range(5))
        if (np.diff(scores[0][list(order)]) <= 0).all()
    ]
    every = metrics(
        np.concatenate([items[:, order] for order in allowed]),
        Ragged.from_rows([targets[0]] * len(allowed)), KS,
    )  # fmt: skip
    for key, values in averaged(items, scores, targets, KS).items():
        assert values[0] == pytest.approx(every[key].mean()), key


def test_several_targets_come_near_the_mean_of_all_orders():
    items = np.array([[4, 7, 1, 2]] * 300, dtype=np.int32)
    scores = np.array([[2, 1, 1, 1]] * 300, dtype=np.float32)
    targets = Ragged.from_rows([[1, 2]] * 300)
    found = averaged(items, scores, targets, (2,))
    assert found["recall@2"].mean() == pytest.approx(1 / 3, abs=0.01)
    assert found["hit_rate@2"].mean() == pytest.approx(2 / 3, abs=0.02)


def test_five_that_are_not_told_apart():
    """Whatever lay first: .4262 is what chance gives, and a stable order gives all or nothing."""
    items = np.array([[3, 1, 2, 5, 4], [1, 2, 3, 4, 5]], dtype=np.int32)
    targets = Ragged.from_rows([[3], [5]])
    flat = np.zeros((2, 5), dtype=np.float32)
    assert averaged(items, flat, targets, (3,))["ndcg@3"] == pytest.approx(
        [0.4262, 0.4262], abs=1e-4
    )
    assert metrics(items, targets, (3,))["ndcg@3"].tolist() == [1.0, 0.0]


def test_padding_is_nobodys_equal():
    items = np.array([[3, -1, -1]], dtype=np.int32)
    scores = np.array([[0.0, -np.inf, -np.inf]], dtype=np.float32)
    assert averaged(items, scores, Ragged.from_rows([[3]]), (1,))["ndcg@1"].tolist() == [1.0]
    assert averaged(items, scores, Ragged.from_rows([[9]]), (3,))["mrr@3"].tolist() == [0.0]
