"""Picking by name: held to the list, in the order said, with and without the user."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest
import torch
from conformance import Conformance
from prompted import tiny_model
from scripted import service, spec

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.cascade import Cascade
from onoma.recommenders.language.pick import Pick, distinct

pytest.importorskip("transformers")
pytest.importorskip("openai")


@cache
def likings():
    """Likes two of the list by the last item of the history, wherever they stand."""

    def answer(text: str) -> str:
        told, *shown = [row[2:] for row in text.split("\n") if row.startswith("- ")]
        order = sorted(shown, key=lambda name: hashlib.md5(f"{told}{name}".encode()).digest())
        return json.dumps({"items": order[: min(2, len(order))]})

    return service(answer)


class TestPick(Conformance):
    def make(self):
        return Pick(model=spec(likings(), cache=True), recent=1, shortlist=4, wanted=2)


def names(model, items):
    return [model.titles([item])[0] for item in items]


def test_what_is_picked_comes_first_in_its_order_and_the_rest_by_popularity(small_split):
    asked = []
    items = np.array([[3, 7, 11, 15, 20, 30]], dtype=np.int32)
    picked = [11, 30, 3]

    def answer(text: str) -> str:
        asked.append(text)
        return json.dumps({"items": names(model, [11, 30, 30, 3])})

    with service(answer) as running:
        model = Pick(model=spec(running), wanted=4).fit(small_split)
        history = Ragged.from_rows([[1, 2]])
        ranking = model.recommend(Requests(history, candidates=items), 6).items[0]
        assert ranking[:3].tolist() == picked
        assert (np.diff(model.counts[ranking[3:]]) <= 0).all() and len(set(ranking.tolist())) == 6
        assert model.answers["named"] == 3 and model.answers["wanted"] == 4
        # Nobody's place in the list is favoured: the order is drawn for each question.
        model.recommend(Requests(Ragged.from_rows([[5, 6]]), candidates=items), 6)
    shown = [[line for line in text.split("\n") if line.startswith("- ")] for text in asked]
    assert shown[0][:2] == [f"- {name}" for name in names(model, [1, 2])]
    assert set(shown[0][2:]) == {f"- {name}" for name in names(model, items[0])}
    assert shown[0][2:] != shown[1][2:] and set(shown[0][2:]) == set(shown[1][2:])


def test_a_name_from_elsewhere_is_no_answer(small_split):
    items = np.array([[3, 7, 11]], dtype=np.int32)
    with service(lambda text: '{"items": ["The Godfather"]}') as running:
        model = Pick(model=spec(running), wanted=1).fit(small_split)
        asked = Requests(Ragged.from_rows([[1]]), candidates=items)
        ranking = model.recommend(asked, 3).items[0]
    assert sorted(ranking.tolist()) == [3, 7, 11] and (np.diff(model.counts[ranking]) <= 0).all()
    assert model.answers["rejected: malformed"] == 1 and model.answers["named"] == 0


def test_without_a_profile_the_user_is_not_told_of(small_split):
    model = Pick(
        model=tiny_model(), shortlist=5, wanted=2, prompt="order-candidates"
    ).fit(small_split)  # fmt: skip
    scores = model.score(Requests(Ragged.from_rows([[35], [36]]), mask_seen=False))
    first = [set(torch.topk(row, 2).indices.tolist()) for row in scores]
    assert first[0] <= set(np.argsort(-model.counts, kind="stable")[:5].tolist())
    text = model._template.messages("movies", k=1, candidates="- one")[-1]["content"]
    assert "liked, the latest" not in text


def test_behind_a_retriever_it_orders_what_that_found(small_split):
    stages = [{"name": "userknn", "neighbours": 5}, {
        "name": "pick-llm", "model": tiny_model(), "recent": 1, "shortlist": 6, "wanted": 2
    }]  # fmt: skip
    model = Cascade(stages, keep=6).fit(small_split)
    asked = Requests.of(small_split.test.take(np.arange(3)))
    found = model.recommend(asked, 10).items
    first = model.stages[0].recommend(asked, 10).items
    for row in range(3):
        assert set(found[row, :6]) == set(first[row, :6])
    assert np.array_equal(found[:, 6:], first[:, 6:])
    assert model.language_report()["answers"]["named"] >= 3


def test_names_are_told_apart_and_prompts_checked():
    assert distinct(["a", "b", "a", "a", "a [2]"]) == ["a", "b", "a [2]", "a [3]", "a [2] [2]"]
    with pytest.raises(OnomaError, match="no place for k or candidates"):
        Pick(prompt="free-top-n")
