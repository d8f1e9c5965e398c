"""Point-, pair- and list-wise: what each makes of answers, and what one who says nothing scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
from prompted import PromptedConformance, tiny_model

from onoma.dataset import Cases, Ragged
from onoma.evaluation.candidates import short_lists
from onoma.evaluation.evaluate import evaluate
from onoma.evaluation.metrics import metrics
from onoma.language import Completion, LanguageModel
from onoma.recipe import Recipe
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.cascade import Cascade
from onoma.recommenders.language.listwise import ListWise
from onoma.recommenders.language.pairwise import PairWise
from onoma.recommenders.language.pointwise import PointWise

pytest.importorskip("transformers")


class TestPointWise(PromptedConformance):
    def make(self):
        return PointWise(model=tiny_model(), recent=1, shortlist=2, shots=1)

    def test_the_rating_is_the_mean_of_the_digits(self, model):
        row = np.array([[7, 3]], dtype=np.int32)
        asked = Requests(Ragged.from_rows([[1, 2]]), candidates=row, as_told=True)
        question = model.questions(asked, row)[0]
        example = model.examples(question)[0]
        rated = []
        for item in (7, 3):
            first = model._one(example.history, int(example.items[0]))
            last = model._one(question.history, item)
            messages = [*first, {"role": "assistant", "content": "5"}, last[-1]]
            shares = np.exp(model.language.logprobs(messages, list("12345")).logprobs)
            rated.append(shares @ np.arange(1, 6) / shares.sum())
        assert model.judge([question])[0] == pytest.approx(rated)


class TestPairWise(PromptedConformance):
    def make(self):
        return PairWise(model=tiny_model(), recent=1, shortlist=2)

    def test_every_pair_is_won_once(self, model, requests):
        for wins in model.judge(model.questions(requests.slice(0, 4), None)):
            assert wins.sum() == 1 and (wins >= 0).all()


class TestListWise(PromptedConformance):
    def make(self):
        return ListWise(model=tiny_model(), recent=1, shortlist=2)

    def test_a_letter_that_comes_twice_is_no_order(self, small_split):
        model = ListWise(model=Says({"order": ["A", "A", "C"]}), shortlist=3).fit(small_split)
        ranking = model.recommend(Requests.of(small_split.test), 3)
        assert not ranking.answered.any()
        assert model.answers["rejected: malformed"] == model.answers["asked"] == len(ranking)
        popular = MostPopular().fit(small_split).recommend(Requests.of(small_split.test), 3)
        assert np.array_equal(ranking.items, popular.items)

    def test_letters_become_places(self, small_split):
        row = np.array([[7, 3, 11]], dtype=np.int32)
        model = ListWise(model=Says({"order": ["C", "A", "B"]}), shortlist=3).fit(small_split)
        asked = Requests(Ragged.from_rows([[1]]), candidates=row, as_told=True)
        assert model.recommend(asked, 3).items.tolist() == [[11, 7, 3]]


class Says(LanguageModel):
    """The client of the acceptance line: whatever it is asked, it says the same."""

    identity = "says the same"

    def __init__(self, data):
        super().__init__()
        self.data = data

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        return Completion(json.dumps(self.data), self.data)


@pytest.mark.parametrize(
    ("make", "answer"), [(PointWise, "4"), (PairWise, "A"), (PairWise, "B")]
)  # fmt: skip
def test_one_who_always_says_the_same_scores_as_chance(make, answer, small_split):
    """S064: NDCG@3 is .426 whatever the candidates; ties by code make luck of it."""
    model = make(model=Says({"answer": answer})).fit(small_split)
    lists = short_lists(small_split.test, small_split, 4)
    # Repeats of the history stay among the candidates: every case has its five.
    found = evaluate(
        model, small_split.test, small_split, ks=(1, 3), candidates=lists, mask_seen=False
    )
    assert found.metrics["ndcg@3"] == pytest.approx(np.full(len(found), 0.4262), abs=1e-4)
    assert found.metrics["ndcg@1"] == pytest.approx(np.full(len(found), 0.2))
    first = metrics(found.ranking.items, small_split.test.targets, (3,))["ndcg@3"]
    assert abs(first.mean() - 0.426) > 0.01
    # Candidates whose target has the lowest code: by code, one who knows nothing knows all.
    low = np.array([0, 1, 2, 3, 4], dtype=np.int32)
    one = Cases(np.array([0], np.int32), Ragged.from_rows([[9]]), Ragged.from_rows([[0]]))
    found = evaluate(model, one, small_split, ks=(3,), candidates=low[None])
    assert found.mean("ndcg@3") == pytest.approx(0.4262, abs=1e-4)
    assert metrics(found.ranking.items, one.targets, (3,))["ndcg@3"].tolist() == [1.0]


def test_examples_are_of_training_and_of_others(small_split):
    model = PointWise(model=tiny_model(), shots=3).fit(small_split)
    for user in (int(one.user) for one in model._examples):
        question = Requests(Ragged.from_rows([[1]]), users=np.array([user], np.int32))
        told = model.examples(model.questions(question, None)[0])
        assert len(told) == 3 and user not in {one.user for one in told}
    for one in model._examples:
        train = small_split.train[one.user]
        assert one.items[0] == train[-1] and not np.isin(one.items[1:], train).any()


def test_behind_a_retriever_a_model_turns_what_it_is_shown(small_split):
    """The recipe's cascade, with a retriever that takes no minutes to train."""
    recipe = Recipe.load("cascade-llm")
    retriever, ranker = recipe.recommender["stages"]
    assert retriever["name"] == "flagship" and ranker["name"] == "listwise-llm"
    says = Says({"order": ["E", "D", "C", "B", "A"]})
    ranker = {**ranker, "model": says, "shortlist": 5}
    model = Cascade([{"name": "popular"}, ranker], keep=5).fit(small_split)
    requests = Requests.of(small_split.test)
    shown = MostPopular().fit(small_split).recommend(requests, 8).items
    found = model.recommend(replace(requests, as_told=True), 8)
    assert np.array_equal(found.items, np.concatenate([shown[:, 4::-1], shown[:, 5:]], axis=1))
    assert found.answered.all() and model.languages() == [says]
