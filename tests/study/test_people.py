"""Studies of people who say what they like: nothing that is ranked was told, figures by hand."""

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset
from onoma.errors import OnomaError
from onoma.recommenders.language.tastes import Tastes
from onoma.study.coldstart import _parts, exponential_ndcg
from onoma.study.participants import POOLS, Fusion, simulate


def rated(n_users: int = 16, n_items: int = 90) -> Dataset:
    """Users like one of three kinds of films and rate nearly everything."""
    rng = np.random.default_rng(0)
    kinds = [("Western", "horse desert"), ("Space", "planet rocket"), ("Romance", "letter dance")]
    rows = []
    for user in range(n_users):
        for when, item in enumerate(rng.permutation(n_items)[:80]):
            stars = 5.0 if item % 3 == user % 3 else float(rng.integers(1, 4))
            rows.append((f"u{user}", f"i{item}", stars, when))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    items = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(n_items)],
            "title": [f"Film {item}" for item in range(n_items)],
            "genres": [[kinds[item % 3][0]] for item in range(n_items)],
            "description": [f"About a {kinds[item % 3][1]}." for item in range(n_items)],
        }
    )
    return Dataset.construct(log, items, name="rated")


@pytest.fixture(scope="module")
def world():
    return simulate(rated(), 4)


def test_what_is_ranked_was_not_told_and_participants_are_in_no_model(world):
    people, about = world
    assert len(people) == 4
    # Items of the train part of the world are those of others alone.
    others = set(about.parts.train.rows().tolist())
    log = about.dataset.interactions
    for one in people:
        assert one.user not in others
        assert len(set(one.items.tolist())) == len(one.items) >= 20
        own = log.filter(pl.col("user") == one.user).sort("timestamp")
        stars = dict(own.select("item", "rating").iter_rows())
        assert not np.isin(one.items, one.told).any()
        liked = [item for item in one.told.tolist() if stars[item] >= 4]
        assert one.likes == Tastes(about.dataset.items).say(liked)
        place = {item: at for at, item in enumerate(own["item"].to_list())}
        early = np.array([place[int(item)] < own.height // 2 for item in one.items])
        assert np.array_equal(early, one.seen) and 0 < early.mean() < 1
        assert [stars[int(item)] for item in one.items] == one.ratings.tolist()
        assert "Film" not in one.likes and "I dislike" not in one.likes
        assert all(stars[int(item)] >= 4 for item in one.liked)
        parts = _parts(one)
        assert np.array_equal(parts["unbiased"], parts["popular"] | parts["mid-popular"])
        assert sum(parts[name].sum() for name in POOLS) == len(one.items)


def test_words_of_taste_find_films_of_that_kind(world):
    people, about = world
    fusion = Fusion(about.dataset.items)
    for one in people:
        found = fusion.scores(one.likes)[one.items]
        liked = one.ratings >= 4
        assert found[liked].mean() > found[~liked].mean()


def test_gains_grow_by_powers_of_two_and_end_below_three_stars():
    ratings = np.array([5.0, 2.0, 3.0])
    gains = (31, 0, 7)
    best = gains[0] + gains[2] / np.log2(3)
    assert exponential_ndcg(np.array([3.0, 2.0, 1.0]), ratings) == pytest.approx(
        (31 + 7 / np.log2(4)) / best
    )
    # Nothing told apart: the mean of all orders.
    shared = sum(gains) / 3 * (1 + 1 / np.log2(3) + 1 / np.log2(4))
    assert exponential_ndcg(np.zeros(3), ratings) == pytest.approx(shared / best)
    assert np.isnan(exponential_ndcg(np.zeros(2), np.array([1.0, 2.9])))
    one = exponential_ndcg(np.array([1.0, 2.0, 0.0]), np.array([5.0, 1.0, 3.0]), k=1)
    assert one == 0.0


def test_without_ratings_there_are_no_participants():
    data = rated()
    log = data.interactions.drop("rating")
    with pytest.raises(OnomaError, match="no ratings"):
        simulate(Dataset(log, data.items, data.users), 2)
