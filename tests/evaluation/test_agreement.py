"""How alike lists are, and the tests that papers report."""

import numpy as np
import pytest
from scipy.stats import ttest_rel, wilcoxon

from onoma.evaluation.agreement import lists_alike
from onoma.evaluation.significance import textbook_p
from onoma.evaluation.texts import star_intervals


def test_lists_alike_by_hand():
    one = np.array([[1, 2, 3], [4, 5, -1], [-1, -1, -1], [7, 8, 9]])
    other = np.array([[1, 2, 3], [5, -1, -1], [-1, -1, -1], [1, 2, 3]])
    found = lists_alike(one, other)
    assert found == {
        "identical": 0.5,
        "overlap": (1 + 0.5 + 1 + 0) / 4,
        "first": 0.5,
        "empty": 0.25,
    }
    assert lists_alike(one, other, k=1)["overlap"] == 0.5
    with pytest.raises(ValueError, match="lists against"):
        lists_alike(one, other[:2])


def test_textbook_tests_equal_scipy_on_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40) + 0.1
    found = textbook_p(b - a)
    assert found["t"] == pytest.approx(ttest_rel(b, a).pvalue)
    assert found["wilcoxon"] == pytest.approx(wilcoxon(b, a).pvalue)
    assert textbook_p(np.zeros(5)) == {"t": 1.0, "wilcoxon": 1.0}


def test_missing_stars_are_the_largest_error():
    found = star_intervals(np.array([np.nan, 4.0, np.nan]), np.array([5, 4, 2]))
    assert found["parsed"] == pytest.approx(1 / 3)
    assert found["mae"]["mean"] == pytest.approx((4 + 0 + 3) / 3)
    assert found["rmse"]["mean"] == pytest.approx(np.sqrt((16 + 0 + 9) / 3))
    assert found["rmse"]["low"] <= found["rmse"]["mean"] <= found["rmse"]["high"]
