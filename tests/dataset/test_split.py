"""What a cut must never do."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Dataset, split
from onoma.errors import OnomaError

PROTOCOLS = ["leave-one-out", "temporal", "ratio", "cold-item", "cold-user"]
Log = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(0, 30)), min_size=12, max_size=80
)


def dataset_of(log: list[tuple[int, int, int]]) -> Dataset:
    users, items, times = zip(*log, strict=True)
    return Dataset.construct(
        pl.DataFrame(
            {
                "user_id": [f"u{u}" for u in users],
                "item_id": [f"i{i}" for i in items],
                "timestamp": [t // 3 for t in times],
            }
        )
    )


def sequences(dataset: Dataset) -> list[list[int]]:
    """Items of each user in time, file order inside equal times, by plain Python."""
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(dataset.n_users)]
    for row, (user, item, when) in enumerate(
        dataset.interactions.select("user", "item", "timestamp").iter_rows()
    ):
        rows[user].append((when, row, item))
    return [[item for *_, item in sorted(own)] for own in rows]


@settings(max_examples=60, deadline=None)
@given(Log)
def test_leave_one_out_is_the_definition(log: list[tuple[int, int, int]]) -> None:
    dataset = dataset_of(log)
    own = sequences(dataset)
    if not any(len(row) >= 3 for row in own):
        return
    cut = split(dataset)
    long = [u for u, row in enumerate(own) if len(row) >= 3]
    assert cut.test.users.tolist() == cut.valid.users.tolist() == long
    for case, user in enumerate(long):
        assert cut.test.targets[case].tolist() == own[user][-1:]
        assert cut.test.history[case].tolist() == own[user][:-1]
        assert cut.valid.targets[case].tolist() == own[user][-2:-1]
        assert cut.valid.history[case].tolist() == own[user][:-2]
    for user, row in enumerate(own):
        assert cut.train[user].tolist() == (row[:-2] if len(row) >= 3 else row)
    assert len(cut.train.values) == len(log) - 2 * len(long)


@settings(max_examples=60, deadline=None)
@given(Log, st.sampled_from(PROTOCOLS), st.sampled_from(["file", "shuffled", "id"]))
def test_every_event_is_in_one_part(
    log: list[tuple[int, int, int]], protocol: str, ties: str
) -> None:
    dataset = dataset_of(log)
    try:
        cut = split(dataset, protocol, ties=ties, seed=1, valid=0.2, test=0.2)  # type: ignore
        same = split(dataset, protocol, ties=ties, seed=1, valid=0.2, test=0.2)  # type: ignore
    except OnomaError:
        return
    assert cut.hash == same.hash
    assert len(cut.train_times) == len(cut.train.values)
    own = [sorted(row) for row in sequences(dataset)]
    used: list[list[int]] = [row.tolist() for row in (cut.train[u] for u in range(len(own)))]
    for cases in (cut.valid, cut.test):
        for case, user in enumerate(cases.users):
            used[user] += cases.targets[case].tolist()
            assert len(cases.history[case]) and len(cases.targets[case])
    for got, all_ in zip(used, own, strict=True):
        # No event is used twice; what is in no part was dropped by the protocol.
        assert not set(np.unique(got)) - set(all_)
        counts = np.bincount(got, minlength=20) - np.bincount(all_, minlength=20)
        assert (counts <= 0).all()
    if protocol == "cold-item":
        cold = set(cut.test.targets.values.tolist())
        assert not cold & set(cut.train.values.tolist())
        assert not cold & set(cut.test.history.values.tolist())
    if protocol == "cold-user":
        held = [*cut.test.users, *cut.valid.users]
        assert len(set(held)) == len(held) and all(not len(cut.train[u]) for u in held)
    if protocol == "temporal":
        when = {
            (u, i, t)
            for u, i, t in dataset.interactions.select("user", "item", "timestamp").iter_rows()
        }
        latest = cut.train_times.max()
        for case, user in enumerate(cut.test.users):
            for item in cut.test.targets[case]:
                assert any(u == user and i == item and t > latest for u, i, t in when)


def test_tie_rules() -> None:
    log = [(0, item, 0) for item in (5, 3, 9, 1, 7)] + [(0, 0, 30)]
    dataset = dataset_of(log)

    def order(ties: str, seed: int = 0) -> list[str]:
        cut = split(dataset, ties=ties, seed=seed)  # type: ignore[arg-type]
        codes = [*cut.test.history[0], *cut.test.targets[0]]
        return [str(dataset.item_ids[c]) for c in codes]

    assert order("file") == ["i5", "i3", "i9", "i1", "i7", "i0"]
    assert order("id") == ["i1", "i3", "i5", "i7", "i9", "i0"]
    shuffled = {tuple(order("shuffled", seed)) for seed in range(8)}
    assert len(shuffled) > 4 and all(row[-1] == "i0" for row in shuffled)
    assert order("shuffled", 3) == order("shuffled", 3)
    assert split(dataset).hash != split(dataset, ties="id").hash


def test_rows_without_a_time_keep_their_place() -> None:
    dataset = Dataset.construct(
        pl.DataFrame(
            {
                "user_id": ["u"] * 4,
                "item_id": list("abcd"),
                "timestamp": [10, None, 20, 5],
            }
        )
    )
    cut = split(dataset)
    codes = [*cut.test.history[0], *cut.test.targets[0]]
    assert [dataset.item_ids[c] for c in codes] == ["d", "a", "b", "c"]


@pytest.mark.parametrize("bad", [{"valid": 0.0}, {"valid": 0.6, "test": 0.5}])
def test_shares_must_leave_training_data(bad: dict[str, float]) -> None:
    with pytest.raises(OnomaError, match="leave no training data"):
        split(dataset_of([(0, i, i) for i in range(9)]), **bad)  # type: ignore[arg-type]


def test_unknown_names_are_told() -> None:
    dataset = dataset_of([(0, i, i) for i in range(9)])
    with pytest.raises(OnomaError, match="unknown protocol"):
        split(dataset, "loo")  # type: ignore[arg-type]
    with pytest.raises(OnomaError, match="unknown tie rule"):
        split(dataset, ties="random")  # type: ignore[arg-type]
