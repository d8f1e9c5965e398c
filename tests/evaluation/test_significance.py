"""Intervals cover, tests reject what differs and nothing else."""

import numpy as np
import pytest

from onoma.evaluation.significance import (
    bootstrap_ci,
    compare,
    holm,
    permutation_p,
    seeds_ci,
)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    runs = rng.random((300, 400)) < 0.1
    ends = np.array([bootstrap_ci(run * 1.0, samples=400, seed=i) for i, run in enumerate(runs)])
    covered = ((ends[:, 0] <= 0.1) & (0.1 <= ends[:, 1])).mean()
    assert 0.90 <= covered <= 0.985


def test_few_and_many_distinct_values_agree():
    rng = np.random.default_rng(2)
    values = rng.integers(0, 5, 6_000) / 4
    few = bootstrap_ci(values, samples=1_000)
    many = bootstrap_ci(values + rng.random(6_000) * 1e-9, samples=1_000)
    assert np.allclose(few, many, atol=2e-3)
    assert np.ptp(few) == pytest.approx(2 * 1.96 * values.std() / np.sqrt(6_000), rel=0.12)


def test_seeded_and_column_by_column():
    values = np.random.default_rng(3).random((50, 2))
    assert (bootstrap_ci(values, seed=4) == bootstrap_ci(values, seed=4)).all()
    assert bootstrap_ci(values).shape == (2, 2)
    with pytest.raises(ValueError, match="at least one case"):
        bootstrap_ci(np.zeros(0))


def test_a_true_difference_is_found_and_noise_is_not():
    rng = np.random.default_rng(5)
    a = (rng.random(4_000) < 0.10) * 1.0
    better = np.maximum(a, rng.random(4_000) < 0.02)
    found = compare(a, better, samples=2_000)
    assert found.low > 0 and found.p < 0.01 and found.cases == 4_000
    rejected = [
        permutation_p(np.random.default_rng(s).choice([-1.0, 0, 0, 1.0], 300), samples=400, seed=s)
        < 0.05
        for s in range(200)
    ]
    assert np.mean(rejected) < 0.1
    assert compare(a, a, samples=100).p == 1.0
    with pytest.raises(ValueError, match="not paired"):
        compare(a, a[:-1])


def test_many_tests_and_seeds():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    mean, low, high = seeds_ci([0.09, 0.10, 0.11])
    assert mean == pytest.approx(0.1)
    assert high - mean == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-3)
    assert low < mean
    assert seeds_ci([0.1])[1] == -np.inf
