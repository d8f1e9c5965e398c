"""Yes-or-no questions of a split: those that it asks, or those that a log without ratings gives."""

from __future__ import annotations

import numpy as np

from onoma.dataset import Cases, Ragged, Split
from onoma.recommenders.ranking.clicks import negatives


def questions(split: Split) -> tuple[Cases, Cases]:
    """Training and validation questions with ``labels``.

    Where the split asks none, what a user took counts as liked: the last training item of every
    row with two or more, and the validation targets; each beside a uniform item that its user
    never took, which counts as not liked.

    Args:
        split: of protocol ``likes`` or any other.
    """
    if split.asked is not None:
        return split.asked, split.valid
    able = np.flatnonzero(split.train.lengths >= 2)
    rows = split.train.take(able)
    ends = rows.offsets[1:] - 1
    inner = np.ones(len(rows.values), dtype=bool)
    inner[ends] = False
    groups = rows.rows()
    history = Ragged.from_groups(groups[inner], rows.values[inner], len(able))
    last = Ragged(np.arange(len(able) + 1, dtype=np.int64), rows.values[ends])
    train = Cases(able.astype(np.int32), history, last)
    items = split.dataset.n_items
    return _doubled(train, items), _doubled(split.valid, items)


def drawn(asked: Cases, shots: int | None, seed: int) -> Cases:
    """So many of the questions, drawn by a seed; all where there are no more, or for None."""
    if shots is None or shots >= len(asked):
        return asked
    order = np.random.default_rng([seed, 60]).permutation(len(asked))
    return asked.take(np.sort(order[:shots]))


def _doubled(cases: Cases, n_items: int) -> Cases:
    """Each case's first target as a yes, and one negative as a no."""
    n = len(cases)
    first = cases.targets.values[cases.targets.offsets[:-1]] if n else np.zeros(0, np.int32)
    others = negatives(cases, n_items)
    rows = np.repeat(np.arange(n), 2)
    targets = np.stack([first, others], axis=1).reshape(-1).astype(np.int32)
    return Cases(
        cases.users[rows],
        cases.history.take(rows),
        Ragged(np.arange(2 * n + 1, dtype=np.int64), targets),
        labels=np.tile([True, False], n),
    )
