"""Keywords put before a language model: what it is told, and any answer becomes an order of all."""

import numpy as np
import pytest
from prompted import PromptedConformance, tiny_model
from test_keywords import LOG, reviewed

from onoma.dataset import Ragged, split
from onoma.language import BadAnswer, Completion, LanguageModel
from onoma.recommenders.base import Requests
from onoma.recommenders.language.keywords import KeywordRanker

pytest.importorskip("transformers")


class TestKeywordRanker(PromptedConformance):
    def make(self):
        return KeywordRanker(model=tiny_model(), shortlist=3, best=1, told=1, encoder=None)


class Says(LanguageModel):
    """Answers what it is told to; what counts is what becomes of it."""

    identity = "says"

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.asked = list(answers), []

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        self.asked.append(messages)
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise BadAnswer(answer, "no", where="says")
        return Completion("", {"order": answer})


@pytest.fixture(scope="module")
def shop():
    return split(reviewed(*LOG), "cold-user", valid=0.2, test=0.3)


def test_any_answer_becomes_an_order_of_all_and_is_counted(shop, monkeypatch):
    model = KeywordRanker(shots=1, best=3, encoder=None).fit(shop)
    says = Says(["C", "C", "A"], ["B", "A", "C"], "cut")
    monkeypatch.setattr(KeywordRanker, "language", says)
    items = np.tile(shop.dataset.item_codes(["tea", "cup", "book"]), (3, 1))
    asked = Requests(Ragged.empty(3), candidates=items, query=["jasmine", "jasmine", "porcelain"])
    ranking = model.recommend(asked, 3)
    assert all(sorted(row) == sorted(items[0]) for row in ranking.items.tolist())
    told = [one for one in says.asked[0] if one["role"] == "user"]
    letters = {line[0]: line[3:] for line in told[-1]["content"].splitlines() if line[1:3] == ". "}
    named = [letters[letter].split(" ")[0] for letter in "CAB"]
    assert [str(shop.dataset.item_ids[item]) for item in ranking.items[0]] == named
    assert ranking.answered.tolist() == [True, True, False]
    assert model.answers == {
        "asked": 3, "repaired: repeated": 1, "repaired: left out": 1, "rejected: cut": 1
    }  # fmt: skip
    # The example is another user's words and list; its answer begins with what they took.
    assert says.asked[0][2]["content"].startswith('{"order": ["') and len(told) == 2
    assert any("jasmine" in line for line in letters.values())
    held = np.union1d(shop.test.users, shop.valid.users).tolist()
    users = shop.dataset.users["user_id"]
    own = {f"person{'abcdefghijklmnopqrst'[int(users[user][1:])]}" for user in held}
    assert not any(word in told[0]["content"] for word in own)
