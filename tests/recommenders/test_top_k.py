"""The one top-k against a slow oracle."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Ragged
from onoma.recommenders.base import top_k

VALUES = st.sampled_from([-np.inf, np.nan, -1.0, 0.0, 0.5, 0.5, 1.0, 1e30])


def oracle(scores, k, forbidden, items):
    """Pairs of (item, score) of one row, best first."""
    best = {}
    for place, score in enumerate(scores):
        item = place if items is None else items[place]
        if item < 0 or item in forbidden or np.isnan(score) or score == -np.inf:
            continue
        best[item] = max(best.get(item, -np.inf), score)
    ranked = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    return ranked + [(-1, -np.inf)] * (k - len(ranked))


@st.composite
def cases(draw):
    n, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    k = draw(st.integers(1, 12))
    row = st.lists(VALUES, min_size=width, max_size=width)
    scores = np.array(draw(st.lists(row, min_size=n, max_size=n)), dtype=np.float32)
    items = None
    if draw(st.booleans()):
        codes = st.lists(st.integers(-1, 12), min_size=width, max_size=width)
        items = np.array(draw(st.lists(codes, min_size=n, max_size=n)))
    top = width - 1 if items is None else 12
    gone = draw(st.lists(st.lists(st.integers(0, top), max_size=6), min_size=n, max_size=n))
    return scores, k, gone, items


@settings(max_examples=300, deadline=None)
@given(cases())
def test_top_k_equals_the_oracle(case):
    scores, k, gone, items = case
    ranking = top_k(
        torch.from_numpy(scores.copy()),
        k,
        forbidden=Ragged.from_rows(gone),
        items=None if items is None else torch.from_numpy(items),
    )
    for row in range(len(scores)):
        want = oracle(scores[row], k, set(gone[row]), None if items is None else items[row])
        assert ranking.items[row].tolist() == [item for item, _ in want]
        np.testing.assert_array_equal(
            ranking.scores[row], np.array([score for _, score in want], dtype=np.float32)
        )


def test_many_ties_at_the_cut():
    scores = torch.zeros(2, 5000)
    scores[1, 4990:] = 1
    ranking = top_k(scores, 20)
    assert ranking.items[0].tolist() == list(range(20))
    assert ranking.items[1].tolist() == [*range(4990, 5000), *range(10)]
