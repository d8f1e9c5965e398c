"""Metrics equal trec_eval's and count items, once each."""

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Ragged
from onoma.evaluation.metrics import FORMULAS, formula, metrics

KS = (1, 3, 5, 10)
TREC = {
    "ndcg": "ndcg_cut",
    "recall": "recall",
    "map": "map_cut",
    "precision": "P",
    "hit_rate": "success",
}


@st.composite
def judged(draw):
    """A catalogue, rankings of distinct items padded with -1, graded targets."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_items, n = draw(st.integers(2, 40)), draw(st.integers(1, 8))
    width = draw(st.integers(1, 15))
    items = np.full((n, width), -1, dtype=np.int32)
    rows, gains = [], []
    for row in range(n):
        depth = rng.integers(1, min(width, n_items) + 1)
        items[row, :depth] = rng.permutation(n_items)[:depth]
        target = rng.permutation(n_items)[: rng.integers(1, min(12, n_items) + 1)]
        rows.append(target)
        gains.append(rng.integers(0, 4, size=len(target)))
    return items, Ragged.from_rows(rows), np.concatenate(gains)


@settings(max_examples=150, deadline=None)
@given(judged())
def test_equal_to_trec_eval(case):
    items, targets, gains = case
    ours = metrics(items, targets, KS, gains=gains)
    rows = targets.rows()
    judgements = {
        str(q): {str(i): int(g) for i, g in zip(targets[q], gains[rows == q], strict=True)}
        for q in range(len(items))
    }
    run = {
        str(q): {str(i): float(-rank) for rank, i in enumerate(row) if i >= 0}
        for q, row in enumerate(items)
    }
    cuts = ",".join(map(str, KS))
    theirs = pytrec_eval.RelevanceEvaluator(
        judgements, {f"{name}.{cuts}" for name in TREC.values()}
    ).evaluate(run)
    for q in range(len(items)):
        for k in KS:
            for name, trec in TREC.items():
                expected = theirs[str(q)][f"{trec}_{k}"]
                assert ours[f"{name}@{k}"][q] == pytest.approx(expected, abs=1e-9)
            cut = {str(q): {d: s for d, s in run[str(q)].items() if -s < k}}
            best = pytrec_eval.RelevanceEvaluator(judgements, {"recip_rank"}).evaluate(cut)
            assert ours[f"mrr@{k}"][q] == pytest.approx(best[str(q)]["recip_rank"], abs=1e-9)


def test_hand_computed():
    got = metrics(np.array([[7, 3, 5], [1, 2, -1]]), Ragged.from_rows([[5, 9], [4]]), (2, 3))
    assert got["recall@2"].tolist() == [0, 0]
    assert got["recall@3"].tolist() == [0.5, 0]
    assert got["ndcg@3"][0] == pytest.approx(0.5 / (1 + 1 / np.log2(3)))
    assert got["mrr@3"][0] == pytest.approx(1 / 3)


def test_an_item_named_twice_hits_once_and_targets_are_a_set():
    got = metrics(np.array([[5, 5, 5]]), Ragged.from_rows([[5, 5, 8]]), (3,))
    assert got["recall@3"][0] == 0.5
    assert got["precision@3"][0] == pytest.approx(1 / 3)
    assert got["ndcg@3"][0] <= 1


def test_no_targets_no_answers_and_bad_input():
    got = metrics(np.array([[-1, -1], [0, 1]]), Ragged.from_rows([[0], []]), (1, 2))
    assert all((column == 0).all() for column in got.values())
    with pytest.raises(ValueError, match="k must be"):
        metrics(np.zeros((1, 1)), Ragged.from_rows([[0]]), (0,))
    with pytest.raises(ValueError, match="rows of targets"):
        metrics(np.zeros((2, 1)), Ragged.from_rows([[0]]))


def test_every_metric_prints_its_formula():
    got = metrics(np.array([[1]]), Ragged.from_rows([[1]]), (1,))
    assert {key.partition("@")[0] for key in got} == set(FORMULAS)
    assert "@10" in formula("ndcg@10") and "r<=10" in formula("ndcg@10")
