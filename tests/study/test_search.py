"""``onoma study search``: gaps that are dealt anew, what is judged, and arms that really run."""

from dataclasses import replace

import numpy as np
import pytest

from onoma.errors import OnomaError
from onoma.study.search import ARMS, JOINT, KEYS, SHUFFLED, dealt, search, summary

QUICK = ("width: 16", "heads: 2", "blocks: 1", "length: 6", "encoder: tfidf", "negatives: 32",
         "shortlist: 5", "shortest: 0.001", "longest: 1")  # fmt: skip


def test_dealt_gaps_keep_orders_and_first_moments_and_change_the_rest(small_split):
    mixed = dealt(small_split, 0)
    train, times, old = small_split.train, mixed.train_times, small_split.train_times
    starts = train.offsets[:-1][train.lengths > 0]
    assert np.array_equal(times[starts], old[starts])
    inside = np.ones(len(times), dtype=bool)
    inside[starts] = False
    gaps = np.diff(times, prepend=0)[inside]
    assert set(gaps.tolist()) <= set(np.diff(old, prepend=0)[inside].tolist())
    assert np.array_equal(mixed.train.values, train.values)
    # A question begins with the very times of training, and one gap more.
    asked = mixed.test
    for row, user in enumerate(asked.users.tolist()):
        known = times[train.offsets[user] : train.offsets[user + 1]]
        assert np.array_equal(asked.times[row][: len(known)], known)
        assert len(asked.times[row]) == len(asked.history[row])
    assert np.array_equal(dealt(small_split, 0).train_times, times)


def test_dealt_gaps_differ_where_gaps_do(small_split):
    rng = np.random.default_rng(0)
    gaps = rng.integers(1, 1000, len(small_split.train_times))
    uneven = small_split.train_times + np.cumsum(gaps)
    told = replace(small_split, train_times=uneven)
    first, second = (dealt(told, seed).train_times for seed in (0, 1))
    assert (first != uneven).mean() > 0.4 and (first != second).mean() > 0.4


def figures(level):
    rng = np.random.default_rng(1)
    return [{key: (rng.random(4000) < level) * 1.0 for key in KEYS}]


@pytest.mark.parametrize(
    ("levels", "holds"),
    [
        # joint, alone, alone, by order, shuffled: NDCG@10 of both tasks
        ((0.50, 0.50, 0.45, 0.40, 0.40), [True, True]),
        ((0.50, 0.60, 0.45, 0.40, 0.50), [False, False]),
        ((0.50, 0.50, 0.50, 0.50, 0.50), [False, False]),
    ],
)
def test_what_is_asked_is_judged(levels, holds):
    done = {arm: {} for arm in ARMS}
    for arm, level in zip(ARMS, levels, strict=True):
        for task in ("recommendation", "search"):
            if arm not in ("recommendation alone", "search alone") or arm.startswith(task):
                done[arm][task] = figures(level)
    result = summary(done)
    assert [row["holds"] for row in result["acceptance"]] == holds
    assert len(result["pairs"]) == 6
    assert all(pair["p_holm"] >= pair["p"] for pair in result["pairs"])


def test_arms_run_and_are_kept(small_split, tmp_path):
    data = str(small_split.dataset.save(tmp_path / "small"))
    words = [f"recommender.{word.replace(': ', '=')}" for word in QUICK]
    words += ["recommender.train={epochs: 1, batch_tokens: 256}", "evaluate.modes=[rank]"]
    arms = (JOINT, "search alone", SHUFFLED)
    result = search(data, tmp_path / "out", arms=arms, seeds=[0], overrides=words, quiet=True)
    assert [row["arm"] for row in result["rows"]] == list(arms)
    assert "recommendation" not in result["rows"][1] and "search" in result["rows"][1]
    assert [pair["against"] for pair in result["pairs"]] == ["search alone"]
    again = search(data, tmp_path / "out", arms=arms, seeds=[0], overrides=words, quiet=True)
    assert again["rows"] == result["rows"]
    with pytest.raises(OnomaError, match="left out"):
        search(data, tmp_path / "out", arms=["search alone"])
    with pytest.raises(OnomaError, match="two tasks"):
        search(data, tmp_path / "out", recipe="sasrec")
