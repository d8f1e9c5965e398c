"""Short lists from what users disliked, although the data that models learn from lacks it."""

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset, split
from onoma.dataset.clean import minimum_rating
from onoma.errors import OnomaError
from onoma.evaluation.candidates import of_ratings, short_lists


def rated(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    log = pl.DataFrame(
        [
            {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": step,
             "rating": float(rng.integers(1, 6))}
            for user in range(30)
            for step, item in enumerate(rng.permutation(50)[:25])
        ]
    )  # fmt: skip
    return Dataset.construct(log, name="rated")


def test_negatives_are_what_the_user_rated_low():
    whole = rated()
    liked = minimum_rating(whole, 5)
    parts = split(liked)
    disliked = of_ratings(whole, liked, 2)
    lists = short_lists(parts.test, parts, 4, disliked)
    log = whole.with_ids(whole.interactions)
    for place, user in enumerate(parts.test.users.tolist()):
        own = log.filter(pl.col("user_id") == liked.users["user_id"][user])
        low = set(own.filter(pl.col("rating") <= 2)["item_id"])
        names = {str(liked.item_ids[item]) for item in lists[place]}
        target = str(liked.item_ids[int(parts.test.targets[place][0])])
        assert len(names) == 5 and target in names and names - {target} <= low
    again = short_lists(parts.test, parts, 4, disliked)
    assert np.array_equal(lists, again)


def test_too_few_and_no_ratings_are_told():
    whole = rated()
    parts = split(minimum_rating(whole, 5))
    disliked = of_ratings(whole, parts.dataset, 2)
    with pytest.raises(OnomaError, match="a user has only"):
        short_lists(parts.test, parts, 24, disliked)
    bare = Dataset(whole.interactions.drop("rating"), whole.items, whole.users)
    with pytest.raises(OnomaError, match="no ratings"):
        of_ratings(bare, parts.dataset, 2)


def test_a_better_rating_another_time_is_no_dislike():
    log = pl.DataFrame(
        {"user_id": ["u"] * 3, "item_id": ["a", "a", "b"], "rating": [1.0, 4.0, 2.0]}
    )  # fmt: skip
    whole = Dataset.construct(log)
    rows = of_ratings(whole, whole, 2)
    assert [str(whole.item_ids[item]) for item in rows[0]] == ["b"]
