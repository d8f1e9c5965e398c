"""Questions whether somebody likes an item: histories with likes and dislikes, and the answers."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.dataset import Dataset
from onoma.dataset.ragged import Ragged
from onoma.dataset.split import Cases, Split, Ties, ordered
from onoma.errors import OnomaError

PROTOCOL = "likes"
PARTS = ("train", "valid", "test")


def likes(
    dataset: Dataset,
    *,
    above: float = 3.0,
    seen: int = 10,
    ties: Ties = "file",
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
) -> Split:
    """Cut ratings into questions: after the last items with likes and dislikes, is this one liked?

    A log that names its parts (columns ``part`` and ``judged``) is cut as it says. In any other
    log every rating with ``seen`` earlier ones of its user is a question, and two global time cuts
    make validation and test.

    Args:
        dataset: with ratings.
        above: a rating that is higher is a like.
        seen: items of a history, the last ones.
        ties: order inside equal timestamps of one user.
        seed: for shuffled ties.
        valid: share of the questions.
        test: share of the questions.

    Returns:
        A split whose cases have one target, ``labels`` and ``liked``; ``asked`` are the training
        questions, and ``train`` holds what every user liked in training, so that what learns from
        sequences learns what is liked next.

    Raises:
        OnomaError: no ratings, no times to cut by, or a part without questions.
    """
    if "rating" not in dataset.interactions.columns:
        raise OnomaError(
            "no ratings, so nobody knows what was liked",
            where=dataset.name,
            fix="Use data with a rating column",
        )
    log = ordered(dataset, ties, seed)
    rows = log["row"].to_numpy()
    users = log["user"].to_numpy().astype(np.int32)
    items = log["item"].to_numpy().astype(np.int32)
    times = log["when"].to_numpy().astype(np.int64)
    rated = dataset.interactions["rating"].to_numpy()[rows]
    if np.isnan(rated).any():
        raise OnomaError(f"{int(np.isnan(rated).sum())} rows without a rating", where=dataset.name)
    liked = rated > above
    starts = np.searchsorted(users, users)
    before = np.arange(len(users)) - starts
    if {"part", "judged"} <= set(dataset.interactions.columns):
        part, question = _named(dataset, rows)
    else:
        question = before >= seen
        part = _by_time(times, question, dataset.name, valid, test)

    def cases(wanted: int) -> Cases:
        at = np.flatnonzero(question & (part == wanted))
        if not len(at):
            raise OnomaError(f"no question to {PARTS[wanted]}", where=dataset.name)
        length = np.minimum(before[at], seen)
        offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        source = np.repeat(at - length, length) + np.arange(offsets[-1])
        source -= np.repeat(offsets[:-1], length)
        return Cases(
            users[at],
            Ragged(offsets, items[source]),
            Ragged(np.arange(len(at) + 1, dtype=np.int64), items[at]),
            Ragged(offsets, times[source]),
            liked=Ragged(offsets, liked[source].astype(np.int8)),
            labels=liked[at],
        )

    kept = (part == 0) & liked
    train = Ragged.from_groups(users[kept], items[kept], dataset.n_users)
    return Split(
        dataset, train, times[kept], cases(1), cases(2), PROTOCOL, ties, seed, asked=cases(0)
    )


def _named(
    dataset: Dataset, rows: NDArray[np.integer]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    log = dataset.interactions
    codes = log["part"].replace_strict(
        dict(zip(PARTS, range(3), strict=True)), default=None, return_dtype=pl.Int8
    )
    if codes.null_count():
        odd = log.filter(codes.is_null())["part"][0]
        raise OnomaError(f"part is {odd!r}, not one of {', '.join(PARTS)}", where=dataset.name)
    return codes.to_numpy()[rows], log["judged"].to_numpy()[rows].astype(bool)


def _by_time(
    times: NDArray[np.int64],
    question: NDArray[np.bool_],
    where: str,
    valid: float,
    test: float,
) -> NDArray[np.int8]:
    """The part of every row: that of its time, cut so that the questions have these shares."""
    known = times[question]
    if not len(known) or (known < 0).all():
        raise OnomaError("no timestamps to cut by", where=where, fix="Use data with times")
    first, second = np.quantile(known, [1 - valid - test, 1 - test], method="higher")
    return (times >= first).astype(np.int8) + (times >= second).astype(np.int8)
