"""Yes-or-no questions of a split: those that it asks, or those that a log without ratings gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Cases, Ragged, Split
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking.clicks import auc, negatives


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


def put(requests: Requests, items: NDArray[np.int32]) -> Cases:
    """A case for each item that is asked about: n x c cases of int32[n, c] items, row by row."""
    n, wide = items.shape
    rows = np.repeat(np.arange(n), wide)
    users = np.full(n, -1, np.int32) if requests.users is None else requests.users
    return Cases(
        users[rows],
        requests.history.take(rows),
        Ragged(np.arange(n * wide + 1, dtype=np.int64), items.reshape(-1)),
        liked=None if requests.liked is None else requests.liked.take(rows),
    )


class Judge(Protocol):
    """A recommender that is trained on questions; its settings have ``batch`` and ``validated``."""

    settings: Any
    seed: int

    def missed(self, cases: Cases, mode: str) -> Tensor:
        """The mean loss of n answered cases."""

    def judge(self, cases: Cases, mode: str) -> NDArray[np.float64]:
        """float64[n], higher where the one target of a case is likelier liked."""


class Questions:
    """The trainer's view of a :class:`Judge`: drawn questions in small batches.

    Args:
        owner: who is trained.
        split: its questions.
        shots: how many are drawn; None takes all.
        mode: of the owner.
    """

    judged = "auc"

    def __init__(self, owner: Judge, split: Split, shots: int | None, mode: str) -> None:
        self.owner, self.mode = owner, mode
        asked, valid = questions(split)
        asked = drawn(asked, shots, owner.seed)
        if not len(asked):
            raise OnomaError("no training questions", where=split.dataset.name)
        limit = min(owner.settings.validated, len(valid))
        self.asked = asked
        self.valid = valid.take(np.linspace(0, len(valid) - 1, limit).astype(np.int64))

    def plan(self, seed: int, epoch: int) -> Sequence[NDArray[np.int64]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.asked))
        size = self.owner.settings.batch
        return [order[start : start + size] for start in range(0, len(order), size)]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        return self.owner.missed(self.asked.take(batch), self.mode)

    def validate(self) -> float:
        assert self.valid.labels is not None
        return auc(self.owner.judge(self.valid, self.mode), self.valid.labels)


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
