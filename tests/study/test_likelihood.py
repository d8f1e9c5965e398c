"""``onoma study likelihood`` over a small real model: who is asked what, whose list is whose."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset, split
from onoma.dataset.clean import minimum_rating
from onoma.evaluation.candidates import of_ratings, short_lists
from onoma.study.likelihood import KS, likelihood, others

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def rated() -> Dataset:
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        [
            {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": step,
             "rating": float(rng.integers(1, 6))}
            for user in range(24)
            for step, item in enumerate(rng.permutation(40)[:30])
        ]
    )  # fmt: skip
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(40)], "title": [f"Film number {i}" for i in range(40)]}
    )
    return Dataset.construct(log, items, name="rated")


def test_another_users_list_holds_no_candidate_and_is_nobodys_own(rated):
    liked = minimum_rating(rated, 5)
    parts = split(liked)
    lists = short_lists(parts.test, parts, 4, of_ratings(rated, liked, 2))
    other = others(parts.test, lists, 0)
    assert np.array_equal(other.users, parts.test.users)
    for row in range(len(other)):
        assert not np.isin(other.history[row], lists[row]).any()
        assert other.history[row].tolist() != parts.test.history[row].tolist()


def test_arms_sweeps_and_what_is_asked(rated, tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tiny import tiny_folder

    data = rated.save(tmp_path / "rated")
    words = [f"recommender.model={tiny_folder()}", "evaluate.history=4"]
    told: list[str] = []
    result = likelihood(str(data), tmp_path / "out", swept=6, overrides=words, tell=told.append)
    arms = {row["arm"]: row for row in result["arms"]}
    assert list(arms) == ["recipe", "another user's list", "pmi", "token", "popular"]
    assert len(told) == 5 + 6 + len(result["lengths"]) and result["swept"] == 6
    for row in result["arms"] + result["templates"] + result["lengths"]:
        assert row["recall@5"] == 1.0 and row["low"] <= row["ndcg@1"] <= row["high"]
        assert all(0 <= row[f"ndcg@{k}"] <= 1 for k in KS)
    assert arms["recipe"]["tokens"] > 0 and arms["popular"]["tokens"] == 0
    first, second, third = result["acceptance"]
    assert not first["holds"]  # fewer than 400 users prove nothing
    lost = arms["recipe"]["ndcg@1"] - arms["another user's list"]["ndcg@1"]
    assert second["holds"] == (lost >= 0.03)
    assert third["holds"] == (arms["pmi"]["popularity"] < arms["recipe"]["popularity"])
    assert "Templates" in (tmp_path / "out" / "likelihood.html").read_text("utf-8")
