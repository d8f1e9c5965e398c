"""Questions that are too long: what gives way, and what stays."""

import numpy as np
import pytest

from onoma.recommenders.text.prompts import Writer
from onoma.recommenders.text.recsysllm import RecSysLLM
from onoma.recommenders.text.spelling import Spelling
from onoma.recommenders.text.tasks import Question
from onoma.recommenders.text.vocabulary import Vocabulary

pytest.importorskip("tokenizers")

TITLES = [f"ware {n} of {n * 7} in {'red' * (n % 3 + 1)}" for n in range(20)]
ITEMS = np.arange(20)


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.learnt(["who took what ? which item comes next ; , of ware in red"], 400)


@pytest.fixture(scope="module")
def spelling(vocabulary):
    rows = vocabulary.encode_all(TITLES)
    tokens = np.full((len(rows), max(map(len, rows)) + 1), -1, dtype=np.int32)
    for item, row in enumerate(rows):
        tokens[item, : len(row) + 1] = [*row, vocabulary.end]
    return Spelling(tokens, vocabulary.base, 0)


@pytest.fixture
def said(vocabulary, spelling):
    """The text that is read of a filled prompt, and its tokens."""

    def fill(ask, longest, **values):
        tokens, words = Writer(vocabulary, spelling, longest).written(ask, values)
        assert len(tokens) == len(words) <= longest
        assert words[0] == 1 and set(np.diff(words).tolist()) <= {0, 1}
        return vocabulary.decode([tokens.tolist()])[0], len(tokens)

    return fill


@pytest.mark.parametrize(("field", "mark"), [("history", ","), ("titles", ";")])
def test_the_oldest_items_give_way(said, field, mark):
    ask = f"{{user}} took {{{field}}} . Which comes next ?"

    def of(items):
        told = items if field == "history" else [TITLES[n] for n in items]
        return {"user": "user_1", field: told}

    for longest in (60, 81, 110, 200):
        text, _ = said(ask, longest, **of(ITEMS))
        count = text.count(mark) + 1
        assert text == said(ask, 10_000, **of(ITEMS[-count:]))[0]  # whole items, the newest
        assert said(ask, 10_000, **of(ITEMS[-count - 1 :]))[1] > longest  # and no fewer than fit
    assert text.endswith(f"{TITLES[-1]} . Which comes next ?")


def test_the_longest_value_loses_its_end_where_the_newest_item_is_too_much(said):
    ask = "{user} took {titles} . Which comes next ?"
    text, length = said(ask, 48, user="user_1", titles=[*TITLES[:3], "endless " * 30])
    assert length == 48 and text.startswith("user_1 took endless")
    assert text.endswith(". Which comes next ?")
    ask = "{user} had {history} . Which of {candidates} comes next ?"
    text, _ = said(ask, 80, user="user_1", history=ITEMS, candidates=ITEMS[:12])
    assert f"had {TITLES[-1]} . Which of {TITLES[0]}" in text and text.endswith("comes next ?")


def test_texts_keep_their_beginning_and_the_question_its_end(said):
    ask = "{title} . {description} . The index is"
    text, length = said(ask, 60, title="ware " * 50, description="red " * 80)
    assert length in (59, 60) and text.startswith("ware") and ". red" in text
    assert text.endswith(". The index is")
    assert said("what comes next ? " * 30, 20)[1] == 20


def test_a_record_keeps_what_followed(vocabulary, spelling):
    """The blank for the item stands behind a history of any length."""
    model = RecSysLLM(quiet=True, longest=64)
    model.vocabulary, model.spelling = vocabulary, spelling
    prompt = model.prompts_of("blank")[0]
    values = {"user": "user_1", "history": ITEMS, "item": ITEMS[3:4]}
    asked = model.question(_Asks(prompt, values), [prompt], 0, np.random.default_rng(0))
    tokens, words, answer = asked.written
    assert len(tokens) <= 64 and len(tokens) == len(words)
    name = spelling.tokens[3][spelling.tokens[3] >= 0][:-1]
    assert answer[-len(name) :].tolist() == name.tolist()
    assert vocabulary.decode([tokens.tolist()])[0].endswith(".")


class _Asks:
    def __init__(self, prompt, values):
        self.prompt, self.values = prompt, values

    def question(self, prompts, event, rng):
        return Question(self.prompt, self.values, event)
