"""How sure a figure is: bootstrap intervals, paired tests between runs, intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

_MANY_GROUPS = 2_000
_CELLS = 4_000_000


def bootstrap_ci(
    values: NDArray[np.floating], *, level: float = 0.95, samples: int = 2_000, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap interval of the mean (Efron, 1979), cases drawn with replacement.

    Args:
        values: float[n] or float[n, m], one row a case; the columns share the draws.
        level: coverage.
        samples: bootstrap draws.
        seed: equal seeds, equal intervals.

    Returns:
        float64[2] or float64[m, 2], low and high.

    Raises:
        ValueError: no cases, or a level outside 0 to 1.
    """
    means = _resampled_means(_columns(values), samples, seed)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    tail = (1 - level) / 2
    out = np.quantile(means, [tail, 1 - tail], axis=0).T
    return np.asarray(out[0] if np.ndim(values) == 1 else out)


@dataclass(frozen=True)
class Comparison:
    """A difference of means between two runs on the same cases.

    Attributes:
        difference: mean of ``b - a``.
        low: lower end of its paired bootstrap interval.
        high: upper end.
        p: two-sided p of the sign-flip permutation test.
        level: coverage of the interval.
        cases: number of pairs.
    """

    difference: float
    low: float
    high: float
    p: float
    level: float
    cases: int

    def as_dict(self) -> dict[str, float]:
        """For metrics files."""
        return asdict(self)


def share(difference: float, base: NDArray[np.floating]) -> float | None:
    """A difference as a share of the mean that it is to; None where that is 0."""
    return difference / float(base.mean()) if base.any() else None


def compare(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap interval and paired permutation test of ``b`` against ``a``.

    Args:
        a: float[n], one figure a case.
        b: float[n], the same cases in the same order.
        level: coverage of the interval.
        samples: draws of each.
        seed: equal seeds, equal answers.

    Raises:
        ValueError: the runs have different numbers of cases, or none.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"runs of shapes {a.shape} and {b.shape} are not paired")
    difference = b - a
    low, high = bootstrap_ci(difference, level=level, samples=samples, seed=seed)
    return Comparison(
        float(difference.mean()),
        float(low),
        float(high),
        permutation_p(difference, samples=samples, seed=seed),
        level,
        len(a),
    )


def permutation_p(
    difference: NDArray[np.floating], *, samples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p of a mean difference when each pair's sign is a coin toss (Fisher, 1935).

    Args:
        difference: float[n].
        samples: permutations; the smallest p is ``1 / (samples + 1)``.
        seed: equal seeds, equal answers.
    """
    difference = np.asarray(difference, dtype=np.float64)
    size, count = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    if not len(size):
        return 1.0
    rng = np.random.default_rng(seed)
    observed = abs(difference.sum())
    extreme = 0
    # The signs of equal sizes add up to a binomial: exact, and far fewer draws.
    chunk = max(1, _CELLS // len(size))
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        plus = rng.binomial(count, 0.5, size=(rows, len(size)))
        sums = (2.0 * plus - count) @ size
        extreme += int((np.abs(sums) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (samples + 1)


def textbook_p(difference: NDArray[np.floating]) -> dict[str, float]:
    """Two-sided p of the paired t-test and of Wilcoxon's signed ranks, as papers report them.

    Args:
        difference: float[n], at least two. Without any difference both are 1.
    """
    from scipy.stats import ttest_1samp, wilcoxon

    difference = np.asarray(difference, dtype=np.float64)
    if not difference.any():
        return {"t": 1.0, "wilcoxon": 1.0}
    if not difference.std():  # equal differences leave the t statistic without a denominator
        return {"t": 0.0, "wilcoxon": float(wilcoxon(difference).pvalue)}
    return {
        "t": float(ttest_1samp(difference, 0.0).pvalue),
        "wilcoxon": float(wilcoxon(difference).pvalue),
    }


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for having made all these tests (Holm, 1979)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    scaled = values[order] * (len(values) - np.arange(len(values)))
    out = np.empty_like(values)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(v) for v in out]


def seeds_ci(figures: Sequence[float], *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student interval over training seeds.

    Args:
        figures: one figure a seed.
        level: coverage.

    Returns:
        mean, low, high; with a single seed the interval is the whole line (-inf, inf).

    Raises:
        ValueError: no figures.
    """
    from scipy.special import stdtrit

    values = np.asarray(figures, dtype=np.float64)
    if not len(values):
        raise ValueError("no figures")
    mean = float(values.mean())
    if len(values) == 1:
        return mean, -np.inf, np.inf
    half = stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)


def _columns(values: NDArray[np.floating]) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not len(table):
        raise ValueError(f"values of shape {table.shape}; at least one case is needed")
    return table


def _resampled_means(values: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    """float64[samples, m], means of ``n`` cases drawn with replacement."""
    rng = np.random.default_rng(seed)
    n = len(values)
    # Equal cases are one multinomial cell: with one target a user there are k + 1 cells, not n.
    cells, count = np.unique(values, axis=0, return_counts=True)
    out = np.empty((samples, values.shape[1]))
    chunk = max(1, _CELLS // min(len(cells), n))
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        if len(cells) <= _MANY_GROUPS:
            drawn = rng.multinomial(n, count / n, size=rows)
            out[start : start + rows] = drawn @ cells / n
        else:
            picks = rng.integers(0, n, size=(rows, n)) + (np.arange(rows) * n)[:, None]
            drawn = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n)
            out[start : start + rows] = drawn @ values / n
    return out
