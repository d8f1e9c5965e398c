"""Noise of a known amount in training histories, for studies of what removes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.ragged import Ragged
from onoma.dataset.split import Cases, Split
from onoma.errors import OnomaError

_ROUNDS = 50  # draws after which an item that the user never took is not looked for any more


def with_noise(split: Split, share: float, seed: int = 0) -> tuple[Split, NDArray[np.bool_]]:
    """Put random items in the place of some training interactions.

    Targets, the order and the times of everything stay. Items are uniform over the catalogue
    without those that the user has anywhere; the training part of the histories of validation and
    test is the noisy one.

    Args:
        split: one whose cases begin with the training history of their user, as leave-one-out's.
        share: of the training interactions, drawn at once over all users.
        seed: of the places and the items.

    Returns:
        The split, and bool[total], aligned with ``train.values``, True where an item is noise.

    Raises:
        OnomaError: a share outside of 0 to 1, or histories that do not begin with training.
    """
    if not 0 <= share <= 1:
        raise OnomaError(f"a share of {share} noise", where="noise", fix="Use 0 to 1")
    train, n = split.train, split.dataset.n_items
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(train.values), dtype=bool)
    drawn[rng.permutation(len(drawn))[: round(share * len(drawn))]] = True
    owners = train.rows()
    held = np.unique(np.concatenate([owners * n + train.values, *_targets(split, n)]))
    places = np.flatnonzero(drawn)
    values = train.values.copy()
    for _ in range(_ROUNDS):
        if not len(places):
            break
        values[places] = rng.integers(0, n, len(places)).astype(values.dtype)
        places = places[np.isin(owners[places] * n + values[places], held)]
    values[places], drawn[places] = train.values[places], False  # has all there is
    noisy = Ragged(train.offsets, values)
    return replace(
        split,
        train=noisy,
        valid=_noisy(split.valid, train, noisy),
        test=_noisy(split.test, train, noisy),
    ), drawn


def _targets(split: Split, n: int) -> list[NDArray[np.int64]]:
    return [
        cases.users[cases.targets.rows()].astype(np.int64) * n + cases.targets.values
        for cases in (split.valid, split.test)
    ]


def _noisy(cases: Cases, train: Ragged, noisy: Ragged) -> Cases:
    """The cases with the training part of their histories replaced."""
    before, history = train.lengths[cases.users], cases.history
    place = np.arange(len(history.values)) - np.repeat(history.offsets[:-1], history.lengths)
    inside = place < np.repeat(before, history.lengths)
    at = (place + np.repeat(train.offsets[cases.users], history.lengths))[inside]
    if (before > history.lengths).any() or (train.values[at] != history.values[inside]).any():
        raise OnomaError(
            "histories do not begin with what was trained on", where="noise",
            fix="Use the protocol leave-one-out",
        )  # fmt: skip
    values = history.values.copy()
    values[inside] = noisy.values[at]
    return replace(cases, history=Ragged(history.offsets, values))
