"""Does a ranker go by what it should not: the place, the fame, the order of the history?

The questions of Dai et al. (RecSys 2023) and of Liu et al., "Is ChatGPT a Good Recommender?"
(2023), as tests against chance that work on anything that orders candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from onoma.dataset import Ragged
from onoma.evaluation.significance import bootstrap_ci, compare
from onoma.recommenders.base import Recommender, Requests

CERTAIN = 0.01
_DRAWS = 2_000
_ENOUGH = 50


@dataclass(frozen=True)
class Finding:
    """What a probe measured.

    Attributes:
        probe: ``position``, ``popularity`` or ``history``.
        measured: what ``value`` is, in words.
        value: mean over the cases.
        chance: what it would be without the bias.
        low: lower end of the 95 % bootstrap interval of the value over cases.
        high: upper end.
        p: two-sided, of a randomisation test whose smallest p is 1 / 2,001.
        cases: asked.
        details: further figures of the probe.
    """

    probe: str
    measured: str
    value: float
    chance: float
    low: float
    high: float
    p: float
    cases: int
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def position(recommender: Recommender, requests: Requests, *, seed: int = 0) -> Finding:
    """Whether the place at which a candidate is told decides if it is put first.

    Each case is asked once a place: a drawn order of its candidates, then turned by one each time,
    so that every candidate is told at every place once. One who goes by the candidates alone puts
    the same one first each time, which is every place once; candidates that share the best score
    share the case. Without a liking for places, a case's places could be turned by any number and
    nothing would change: that is the test, on the place whose share is farthest from chance.

    Args:
        recommender: fitted.
        requests: n, each with c candidates, none padded and none seen.
        seed: of the orders and the test.

    Returns:
        ``value``: the share of answers whose first was told first, 1 / c by chance; in
        ``details`` the ``shares`` of all places and ``steady``, the share of cases whose first no
        order told changes.
    """
    candidates = _whole(requests)
    n, c = candidates.shape
    draw = np.random.default_rng(seed)
    rows = np.arange(n)[:, None]
    base = np.argsort(draw.random((n, c)), axis=1)
    by_place, always = np.zeros((n, c)), np.ones((n, c))
    for turn in range(c):
        order = np.roll(base, turn, axis=1)
        first = _first(answers(recommender, requests, candidates[rows, order]))
        by_place += first / c
        always[rows, order] = np.minimum(always[rows, order], first)

    def farthest(shares: NDArray[np.float64]) -> float:
        return float(np.abs(shares.mean(axis=0) - 1 / c).max())

    def turned() -> float:
        shift = draw.integers(c, size=(n, 1))
        return farthest(by_place[rows, (np.arange(c) + shift) % c])

    low, high = bootstrap_ci(by_place[:, 0], seed=seed)
    return Finding(
        "position",
        "share of answers that put first what was told first",
        float(by_place[:, 0].mean()),
        1 / c,
        float(low),
        float(high),
        _p(farthest(by_place), turned),
        n,
        {
            "shares": by_place.mean(axis=0).tolist(),
            "steady": float(always.sum(axis=1).mean()),
        },
    )


def popularity(
    recommender: Recommender, requests: Requests, counts: NDArray[np.integer], *, seed: int = 0
) -> Finding:
    """Whether what is popular comes first among items that say nothing else for themselves.

    The candidates should be drawn uniformly from what a user never took, without a target: who
    orders targets well puts popular items first for a good reason. The test deals the counts out
    among the items anew, so one who orders all lists by one fixed taste is judged by the items and
    not by the many cases.

    Args:
        recommender: fitted.
        requests: n, each with c candidates, none padded and none seen.
        counts: int[n_items], training interactions.
        seed: of the order in which candidates are told, and of the test.

    Returns:
        ``value``: the mean rank correlation (Spearman) of a list's order with training counts, 0 by
        chance; in ``details`` ``first``, the mean share of a list that is less popular than what
        came first, .5 by chance.
    """
    candidates = _whole(requests)
    draw = np.random.default_rng(seed)
    candidates = draw.permuted(candidates, axis=1)
    scores = answers(recommender, requests, candidates)
    places = _standard(scores)

    def agreement(of: NDArray[np.integer]) -> NDArray[np.float64]:
        return np.asarray((places * _standard(of[candidates])).sum(axis=1))

    pool = np.unique(candidates)

    def dealt() -> float:
        other = np.array(counts)
        other[pool] = other[draw.permutation(pool)]
        return abs(float(agreement(other).mean()))

    each = agreement(counts)
    low, high = bootstrap_ci(each, seed=seed)
    famous = (rankdata(counts[candidates], axis=1) - 1) / max(candidates.shape[1] - 1, 1)
    return Finding(
        "popularity",
        "rank correlation of the order with training counts",
        float(each.mean()),
        0.0,
        float(low),
        float(high),
        _p(abs(float(each.mean())), dealt),
        len(candidates),
        {"first": float((famous * _first(scores)).sum(axis=1).mean())},
    )


def history(
    recommender: Recommender, requests: Requests, *, shuffles: int = 2, seed: int = 0
) -> Finding:
    """How much of the order of candidates hangs on the order of the history.

    The same question is asked again, and then with its history shuffled, the candidates told alike
    each time. What the shuffles change beyond what asking again changes is due to the order.

    Args:
        recommender: fitted.
        requests: n with c candidates each, none padded and none seen; those with fewer than two
            items in the history are left out.
        shuffles: of each history.
        seed: of the shuffles.

    Returns:
        ``value``: the mean share of pairs of candidates that change their order when the history
        is shuffled; ``chance``: when the question is asked again; the interval is that of the
        value; in ``details`` ``first``, how often another candidate came first.

    Raises:
        ValueError: no history of two items.
    """
    rows = np.flatnonzero(requests.history.lengths >= 2)
    if not len(rows):
        raise ValueError("no history has two items")
    requests = _taken(requests, rows)
    candidates = _whole(requests)
    draw = np.random.default_rng(seed)
    candidates = draw.permuted(candidates, axis=1)
    before = answers(recommender, requests, candidates)
    again = _changed(before, answers(recommender, requests, candidates))
    changed, first = np.zeros(len(rows)), 0.0
    lines = requests.history.rows()
    for _ in range(shuffles):
        order = np.lexsort((draw.random(len(lines)), lines))
        after = answers(recommender, _mixed(requests, order), candidates)
        changed += _changed(before, after) / shuffles
        first += float((_first(before) * _first(after)).sum(axis=1).mean()) / shuffles
    paired = compare(again, changed, samples=_DRAWS, seed=seed)
    low, high = bootstrap_ci(changed, seed=seed)
    return Finding(
        "history",
        "share of pairs that change their order when the history is shuffled",
        float(changed.mean()),
        float(again.mean()),
        float(low),
        float(high),
        paired.p,
        len(rows),
        {"first": 1 - first},
    )


def answers(
    recommender: Recommender, requests: Requests, told: NDArray[np.int32]
) -> NDArray[np.float64]:
    """float64[n, c], scores of candidates in the order told; -inf for what was not answered."""
    asked = replace(requests, candidates=np.ascontiguousarray(told), as_told=True)
    ranking = recommender.recommend(asked, told.shape[1])
    same = (told[:, :, None] == ranking.items[:, None, :]) & (told[:, :, None] >= 0)
    place = same.argmax(axis=2)
    scores = np.take_along_axis(ranking.scores.astype(np.float64), place, axis=1)
    return np.where(same.any(axis=2), scores, -np.inf)


def _whole(requests: Requests) -> NDArray[np.int32]:
    if requests.candidates is None or (requests.candidates < 0).any():
        raise ValueError("probes need candidates, as many for each request")
    return requests.candidates


def _mixed(requests: Requests, order: NDArray[np.integer]) -> Requests:
    """The questions with the items of their histories in another order, and likes with them."""

    def moved(rows: Ragged) -> Ragged:
        return Ragged(rows.offsets, rows.values[order])

    liked = None if requests.liked is None else moved(requests.liked)
    return replace(requests, history=moved(requests.history), liked=liked)


def _taken(requests: Requests, rows: NDArray[np.integer]) -> Requests:
    return replace(
        requests,
        history=requests.history.take(rows),
        users=None if requests.users is None else requests.users[rows],
        exclude=None if requests.exclude is None else requests.exclude.take(rows),
        candidates=None if requests.candidates is None else requests.candidates[rows],
        query=None if requests.query is None else [requests.query[int(row)] for row in rows],
        context=None if requests.context is None else [requests.context[int(row)] for row in rows],
        times=None if requests.times is None else requests.times.take(rows),
        liked=None if requests.liked is None else requests.liked.take(rows),
    )


def _first(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n, c], rows adding up to 1, shared by those with the best score."""
    best = scores == scores.max(axis=1, keepdims=True)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


def _standard(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks of each row, centred and of unit length; zeros where all are equal."""
    ranks = rankdata(values, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    return np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)


def _changed(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n], the share of pairs in another order; half where one of the two is a tie."""
    left, right = np.triu_indices(before.shape[1], 1)
    signs = [
        (each[:, left] > each[:, right]).astype(int) - (each[:, left] < each[:, right])
        for each in (before, after)
    ]
    return np.asarray(np.abs(signs[0] - signs[1]).mean(axis=1) / 2)


def _p(observed: float, drawn: Callable[[], float]) -> float:
    """Share of draws at least as far from chance; it ends early where there is nothing to see.

    With 50 such draws seen after l, p is 50 / l (Besag and Clifford, Biometrika, 1991).
    """
    extreme = 0
    for drawn_so_far in range(1, _DRAWS + 1):
        extreme += drawn() >= observed * (1 - 1e-9)
        if extreme == _ENOUGH:
            return _ENOUGH / drawn_so_far
    return (1 + extreme) / (_DRAWS + 1)
