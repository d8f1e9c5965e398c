"""Walks over training steps, and what they add to the flagship."""

import numpy as np
import pytest
import scipy.sparse as sp

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.generative.flagship import Flagship
from onoma.recommenders.tuning import validation_ndcg
from onoma.recommenders.walk import Walk

TRAIN = Ragged.from_rows([[0, 1, 2], [0, 1, 3], [4, 1], [5], [2, 2, 0]])
N = 7


def by_hand(history):
    """The reach of one history from the definition, with dense matrices."""
    both = np.zeros((N, N))
    for row in TRAIN:
        for a, b in zip(row[:-1], row[1:], strict=True):
            both[a, b] += 1
            both[b, a] += 0.5
    np.fill_diagonal(both, 0)
    total = both.sum(axis=1, keepdims=True)
    once = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
    table = once + 0.5 * once @ once
    weights = np.array([0.7**i for i in range(min(len(history), 10))])[::-1]
    return weights / weights.sum() @ table[history[-10:]]


@pytest.mark.parametrize("history", [[0], [3, 1], [5, 4, 4], list(range(7)) * 2])
def test_reach_is_the_mean_of_short_walks(history):
    found = Walk.of(TRAIN, N).reach(Ragged.from_rows([history])).toarray()[0]
    np.testing.assert_allclose(found, by_hand(history), atol=1e-6)


def test_parts_add_up_to_the_lift():
    walk = Walk.of(TRAIN, N)
    history = Ragged.from_rows([[0, 4, 0], [], [5], list(range(7)) * 2])
    lift = walk.lift(history).toarray()
    for target in range(N):
        parts = walk.parts(history, np.full(len(history), target))
        whole = np.bincount(history.rows(), parts, minlength=len(history))
        np.testing.assert_allclose(whole, lift[:, target], rtol=1e-5, atol=1e-5)


def test_a_new_item_is_walked_to_and_from_like_its_nearest():
    walk = Walk.of(TRAIN, N)
    more = walk.extended(np.array([[1, -1], [-1, -1], [0, 2]]))
    table, known = more.table.toarray(), walk.table.toarray()
    assert table.shape == (N + 3, N + 3)
    np.testing.assert_array_equal(table[:N, :N], known)
    np.testing.assert_allclose(table[N, :N], known[1], rtol=1e-6)
    np.testing.assert_allclose(table[:N, N + 2], (known[:, 0] + known[:, 2]) / 2, rtol=1e-6)
    assert not table[N + 1].any() and not table[:, N + 1].any()


def test_validation_gives_the_walk_its_weight(small_split):
    model = Flagship(
        width=16,
        depth_width=16,
        heads=2,
        length=5,
        quiet=True,
        encoder={"name": "tfidf", "dim": 8, "min_df": 1},
        index={"method": "rqkmeans", "levels": 2, "size": 4},
        train={"epochs": 1, "batch_tokens": 256, "valid_every": 1},
    ).fit(small_split)
    tried = {row["weight"]: row["ndcg@10"] for row in model.training["walk"]["tried"]}
    assert model.weight > 0 and tried[model.weight] == max(tried.values()) > tried[0.0]
    assert validation_ndcg(model, small_split.valid) == pytest.approx(tried[model.weight], abs=1e-6)
    asked = Requests.of(small_split.valid)
    with_it = model.score(asked)
    model.walk = Walk(sp.csr_array(model.walk.table.shape, dtype=np.float32))
    assert (with_it - model.score(asked)).max() > 0
