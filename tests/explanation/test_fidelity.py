"""Perturbation curves of a recommender that can be worked out by hand."""

import numpy as np
import pytest
import torch

from onoma.dataset import Ragged
from onoma.explanation.fidelity import deletion, fidelity, fixed, perturb, rank_in_rows
from onoma.recommenders.base import Recommender

N = 12
VALUE = np.array([4.0, 3.0, 2.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0])


class Sum(Recommender):
    """Item 11 scores the sum of VALUE over the history, item 10 always 5, items kept score 9."""

    name = "sum"

    def fit(self, split):
        return self

    def score(self, requests):
        history = requests.history
        out = torch.zeros(len(history), N)
        sums = np.bincount(history.rows(), VALUE[history.values], minlength=len(history))
        out[:, 11], out[:, 10] = torch.from_numpy(sums).float(), 5
        # Seen items would come first if they were not masked.
        out[:, :4] = 9
        return out

    def save(self, folder): ...

    @classmethod
    def load(cls, folder, dataset):
        return cls()


HISTORY = Ragged.from_rows([[3, 1, 0, 2]])
TARGET = np.array([11])
RIGHT = VALUE[HISTORY.values]


def test_deleting_from_the_top_takes_the_largest_first():
    curve = fixed(Sum(), HISTORY, RIGHT, TARGET, np.array([[0, 1, 2, 3, 4]]))
    np.testing.assert_allclose(curve.share, [[1, 0.6, 0.3, 0.1, 0]])
    # 10 and 6 are more than 5; deleted items stay masked, and equals go by code.
    assert curve.rank.tolist() == [[1, 1, 2, 2, 8]]


def test_inserting_from_the_top_brings_the_largest_first():
    curve = fixed(Sum(), HISTORY, RIGHT, TARGET, np.array([[0, 1, 2, 3, 4]]), insert=True)
    np.testing.assert_allclose(curve.share, [[0, 0.4, 0.7, 0.9, 1]])
    assert curve.rank.tolist() == [[8, 2, 1, 1, 1]]


def test_areas_are_trapezoids_over_the_share_of_the_history():
    found = fidelity(Sum(), HISTORY, RIGHT, TARGET, ks=(1,), bins=4)
    assert found["del"][0] == pytest.approx((0.5 + 0.6 + 0.3 + 0.1 + 0) / 4)
    assert found["ins"][0] == pytest.approx((0 + 0.4 + 0.7 + 0.9 + 0.5) / 4)
    assert found["pos@1"][0] == pytest.approx((0.5 + 1) / 4)
    assert found["neg@1"][0] == pytest.approx((0 + 0 + 1 + 1 + 0.5) / 4)
    gains = 1 / np.log2([2, 2, 3, 3, 9])
    assert found["cdcg"][0] == pytest.approx((gains[0] / 2 + gains[1:4].sum() + gains[4] / 2) / 4)
    assert deletion(Sum(), HISTORY, RIGHT, TARGET, bins=4)[0] == found["del"][0]


def test_the_right_order_beats_the_reverse():
    right = fidelity(Sum(), HISTORY, RIGHT, TARGET)
    wrong = fidelity(Sum(), HISTORY, -RIGHT, TARGET)
    for key in ("del", "pos@5", "cdcg"):
        assert right[key][0] <= wrong[key][0]
    assert right["del"][0] < wrong["del"][0] and right["ins"][0] > wrong["ins"][0]


def test_short_and_empty_histories_have_figures():
    history = Ragged.from_rows([[0], [], [1, 2]])
    found = fidelity(Sum(), history, np.ones(3), np.full(3, 11))
    assert np.isnan(found["del"][1])  # no score to keep a share of
    assert np.isfinite(found["cdcg"]).all() and np.isfinite(found["del"][[0, 2]]).all()
    assert perturb(Sum(), history, np.ones(3), np.full(3, 11)).share.shape == (3, 11)


def test_equal_contributions_go_by_place():
    rows = Ragged.from_rows([[5, 6, 7], [8, 9]])
    assert rank_in_rows(rows, np.array([1, 0, 0, 2, 1])).tolist() == [2, 0, 1, 1, 0]
