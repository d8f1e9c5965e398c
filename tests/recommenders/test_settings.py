"""Settings of a recipe: what a class is not made with is told in one line that names it."""

import pytest

from onoma.errors import OnomaError
from onoma.recipe import Recipe, packaged
from onoma.recommenders.base import Recommender
from onoma.recommenders.registry import recommender
from onoma.run import build


def made(name: str, **settings: object) -> Recommender:
    return build(Recipe.check({"name": "mine", "recommender": {"name": name, **settings}}, "mine"))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("userknn", "neighbours", 2.5),
        ("itemknn", "neighbours", True),
        ("itemknn", "shrink", float("nan")),
        ("ease", "keep", 10.5),
        ("ease", "limit", "abc"),
        ("graph", "hops", 1.5),
        ("graph", "edges", 2.5),
        ("knn-embed", "clusters", 2.5),
        ("keywords", "keep", 2.5),
        ("listwise-llm", "recent", 1.5),
        ("pick-llm", "wanted", 1.5),
        ("profile-llm", "cap", 1.5),
        ("preference-llm", "tells", "nothing"),
        ("titles-llm", "domain", 3),
        ("liked-texts", "strength", ["weak"]),
        ("cascade", "keep", 2.5),
        ("random", "seed", -1),
        ("random", "seed", 1.5),
        ("sasrec", "seed", -1),
        ("p5", "seed", "one"),
        ("markov", "no_such", 1),
    ],
)
def test_a_setting_of_another_type_is_told_in_one_line(name, key, value):
    more = {"stages": [{"name": "popular"}, {"name": "markov"}]} if name == "cascade" else {}
    with pytest.raises(OnomaError, match=rf"^mine: recommender\.{key}") as told:
        made(name, **more, **{key: value})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("graph", "last", 3, "last must be 1 or 2"),
        ("graph", "edges", 0, "edges must be at least 1"),
        ("liked-texts", "shots", -3, "shots must not be negative"),
        ("listwise-llm", "shortlist", 27, "shortlist is at most 26"),
        ("userknn", "neighbours", 0, "neighbours must be at least 1"),
    ],
)
def test_a_setting_out_of_range_is_told_in_one_line(name, key, value, said):
    with pytest.raises(OnomaError, match=said):
        made(name, **{key: value})


def test_whole_numbers_and_lists_stand_for_what_they_are():
    assert made("itemknn", shrink=10).shrink == 10.0
    assert made("liked-texts", strength=[1, 0.5], shots=None).strength == (1.0, 0.5)
    stages = [{"name": "popular"}, {"name": "markov"}, {"name": "itemknn"}]
    assert made("cascade", stages=stages, keep=[30, 20]).keep == [30, 20]
    assert made("random", seed=7).seed == 7


def test_every_packaged_recipe_is_built():
    for name in packaged():
        recipe = Recipe.load(name)
        assert isinstance(build(recipe), recommender(recipe.recommender["name"]))
