"""``onoma study bias`` on recommenders whose biases are known."""

import pytest

from onoma.errors import OnomaError
from onoma.study.bias import bias


def test_most_popular_goes_by_popularity_and_by_nothing_else(small_split, tmp_path):
    data = small_split.dataset.save(tmp_path / "small")
    result = bias(str(data), tmp_path / "out", recipes=["popular", "markov"], cases=60, quiet=True)
    rows = {(row["recipe"], row["probe"]): row for row in result["rows"]}
    assert len(rows) == 6
    famous = rows["popular", "popularity"]
    assert famous["found"] and famous["value"] > 0.9 and famous["low"] <= famous["value"]
    assert not rows["popular", "position"]["found"] and not rows["popular", "history"]["found"]
    assert rows["popular", "position"]["details"]["steady"] == 1.0
    # A Markov chain goes by the last item: the order of the history is all it has.
    assert rows["markov", "history"]["found"] and not rows["markov", "position"]["found"]
    page = (tmp_path / "out" / "bias.html").read_text("utf-8")
    assert "Popularity" in page and "popular" in page
    again = bias(str(data), tmp_path / "two", recipes=["popular"], cases=60, quiet=True)
    assert again["rows"] == [row for row in result["rows"] if row["recipe"] == "popular"]


def test_nothing_is_fitted_before_every_recipe_is_there(small_split, tmp_path):
    data, told = str(small_split.dataset.save(tmp_path / "small")), []
    with pytest.raises(OnomaError, match="nope"):
        bias(data, tmp_path / "out", recipes=["popular", "nope"], cases=9, tell=told.append)
    assert told == []
