"""Preferences in items and in words: what is told, and what the likelihood is relative to."""

import numpy as np
import polars as pl
import pytest
from prompted import PromptedConformance, tiny_model

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.language.base import Question
from onoma.recommenders.language.likelihood import spoken
from onoma.recommenders.language.preference import Preference
from onoma.recommenders.language.tastes import Tastes

pytest.importorskip("transformers")


class TestPreference(PromptedConformance):
    def make(self):
        return Preference(model=tiny_model(), shortlist=4, recent=2, domain="products")

    def test_scores_are_what_the_prompt_adds_to_a_title(self, model, n_items):
        items = np.array([[7, 3, 11]], dtype=np.int32)
        asked = Requests(Ragged.from_rows([[1]]), candidates=items, query=["I like soap."])
        ranking = model.recommend(asked, 3)
        titles = [" " + spoken(title) for title in model.titles(items[0])]
        liked = spoken(model.titles([1])[0])
        after = model.language.logprobs(f"I like soap. I like {liked}. I would also like", titles)
        before = model.language.logprobs("Some products:", titles)
        order = np.argsort(-(after.logprobs - before.logprobs))
        assert ranking.items[0].tolist() == items[0][order].tolist()


def test_words_items_or_both_are_told_and_nobody_is_their_own_example(small_split):
    question = Question(0, -1, np.array([1], np.int32), np.array([2, 3], np.int32), "I like soap.")
    prompts = {}
    for tells in ("items", "language", "both"):
        model = Preference(tiny_model(), tells=tells, form="few-shot").fit(small_split)
        prompts[tells] = model.prompt(question)
    title = spoken(model.titles([1])[0])
    last = {tells: text[text.rindex("They say:") :] for tells, text in prompts.items()}
    assert ("soap" in last["language"], title in last["language"]) == (True, False)
    assert ("soap" in last["items"], title in last["items"]) == (False, True)
    assert "soap" in last["both"] and title in last["both"]
    assert all(text.count("They say:") == 4 for text in prompts.values())
    plain = Preference(tiny_model(), form="zero-shot").fit(small_split).examples(model._examples)
    assert plain.prompt(question).count("They say:") == 1
    given = [{"items": [5], "words": "I like cream.", "next": 9}]
    shown = Preference(tiny_model(), form="few-shot").fit(small_split).examples(given)
    assert shown.prompt(question).count("I like cream.") == 1  # a stranger asks
    own = model._examples[0]
    me = Question(0, own["user"], question.history, question.candidates, "")
    assert spoken(model.titles([own["next"]])[0]) in prompts["both"]
    others = [model.titles([one["next"]])[0] for one in model._examples[1:]]
    text = model.prompt(me)
    assert text.count("Recommended:") == 3 and all(spoken(name) in text for name in others)


def test_a_taste_is_what_items_share_more_than_the_catalogue_and_names_none():
    items = pl.DataFrame(
        {
            "title": ["Alpha", "Beta", "Gamma", "Delta"],
            "genres": [["Drama", "War"], ["Drama", "War"], ["Drama"], ["Drama", "Comedy"]],
            "director": [["Ann"], ["Ann"], ["Bob"], ["Cid"]],
            "description": ["A soldier and a horse.", "The soldier returns.", "A cat.", "A cake."],
        }
    )
    said = Tastes(items).say([0, 1])
    # Drama is everywhere; what half of the catalogue has, such as a soldier, is no theme.
    assert said == "I like War. I like stories about horse and return. I like Ann."
    assert Tastes(items).say([3], "dislike") == "I dislike Comedy. I dislike stories about cake."
    assert Tastes(items).say([]) == ""
