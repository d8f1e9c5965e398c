"""Explanations as data and in words."""

import json

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset, Ragged, split
from onoma.explanation import (
    SharedAttributes,
    build,
    default_method,
    explain,
    say,
    shared_prefix,
    titled,
)  # fmt: skip
from onoma.indexing import ItemIndex
from onoma.recommenders import Requests
from onoma.recommenders.baselines.itemknn import ItemKNN
from onoma.recommenders.baselines.markov import Markov


@pytest.fixture(scope="module")
def films():
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d", "e"],
            "title": ['A "quoted" <b>', "B", "C", "D", None],
            "categories": [["Drama", "War"], ["Drama"], ["Drama", "War"], ["Drama", ""], None],
            "director": ["Ann", "Unknown", "Ann", "Unknown", None],
        }
    )
    log = pl.DataFrame(
        {
            "user_id": list("xxxxxyyyyyzzzzz"),
            "item_id": list("abcdeacbdebcade"),
            "timestamp": range(15),
        }
    )
    return split(Dataset.construct(log, items, name="films"))


def codes(films, ids):
    return [int(code) for code in films.dataset.item_codes(ids)]


def test_shared_attributes_put_rare_values_of_many_items_first(films):
    a, b, c, d = codes(films, "abcd")
    shared = SharedAttributes(films.dataset.items)
    found = shared.reasons([b, a, d], c)
    said = [(reason.data["column"], reason.data["value"], reason.items) for reason in found]
    assert said == [
        ("director", "Ann", (a,)), ("categories", "War", (a,)), ("categories", "Drama", (b, a, d))
    ]  # fmt: skip
    assert not shared.reasons([], c) and not shared.reasons([b], codes(films, "e")[0])
    # Two directors nobody knows are not the same director.
    assert [r.data["value"] for r in shared.reasons([b], d)] == ["Drama"]


def test_names_that_begin_alike():
    index = ItemIndex(
        np.array([[1, 2, 3], [1, 2, 4], [1, 5, 3], [6, 2, 3]], np.int32), (9,) * 3, "m"
    )
    reason = shared_prefix(index, [3, 2, 1], 0)
    assert reason.items == (1,) and reason.data == {"levels": 2, "depth": 3, "prefix": [1, 2]}
    assert shared_prefix(index, [3], 0) is None and shared_prefix(index, [], 0) is None


def test_an_explanation_holds_what_the_recommender_said(films):
    a, b, c, d = codes(films, "abcd")
    model = ItemKNN(5, 0.0, 0.5).fit(films)
    assert default_method(model) == "exact"
    found = explain(
        model,
        [a, c, b],
        [c, d],
        build("exact", films),
        attributes=SharedAttributes(films.dataset.items),
    )
    assert found[0].history.tolist() == [a, b] and found[1].history.tolist() == [a, c, b]
    want = model.score(Requests(Ragged.from_rows([[a, b]])))[0, c]
    assert found[0].score == pytest.approx(float(want))
    first = found[0].reasons[0]
    assert first.kind == "history" and set(first.items) <= {a, b}
    brought = dict(zip(found[0].history.tolist(), found[0].contributions.tolist(), strict=True))
    assert first.items == tuple(sorted(first.items, key=lambda item: -brought[item]))
    assert first.data["share"] == pytest.approx(1.0)
    told = titled(films.dataset, found[0])
    json.dumps(told)
    assert told["item_id"] == "c" and {p["item_id"] for p in told["contributions"]} == {"a", "b"}
    assert any("director: Ann" in reason["text"] for reason in told["reasons"])


def test_words_show_titles_as_text(films):
    reason = SharedAttributes(films.dataset.items).reasons(codes(films, "a"), codes(films, "c")[0])[
        0
    ]
    assert say(reason, films.dataset.titles) == 'director: Ann, like “A "quoted" <b>”'


def test_nothing_to_say_is_said(films):
    model = Markov().fit(films)
    assert explain(model, [], [], build("exact", films)) == []
    (alone,) = explain(model, [], codes(films, "a"), build("exact", films))
    assert alone.reasons == () and not len(alone.contributions)
