"""Titles out of a model's own knowledge: found, refused and counted, never made up for."""

import re
from functools import cache

import numpy as np
import polars as pl
import pytest
from conformance import Conformance
from scripted import service, spec

from onoma.dataset import Dataset, Ragged, split
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.language.titles import Titles

pytest.importorskip("openai")
pytest.importorskip("rapidfuzz")


@cache
def next_numbers():
    """Says the next three titles after the last one told, by the number at its end."""

    def answer(asked: str) -> str:
        last = int((re.findall(r"number (\d+)", asked) or ["0"])[-1])
        kinds = ["red lipstick", "blue shampoo", "green soap", "hand cream"]
        wanted = [(last + step) % 40 for step in (1, 2, 3)]
        return "\n".join(
            f"{place}. {kinds[item % 4]} number {item}" for place, item in enumerate(wanted, 1)
        )

    return service(answer)


class TestTitles(Conformance):
    def make(self):
        return Titles(model=spec(next_numbers(), cache=True), wanted=3, prompt="next-titles")

    def test_empty_history_is_answered(self, model):
        asked = Requests(Ragged.from_rows([[], [1], []]))
        filled, named = (model.recommend(asked, 5, mode=mode).items for mode in model.modes)
        assert (filled[:, 0] >= 0).all() and (filled[0] == filled[2]).all()
        assert (named[[0, 2]] == -1).all()

    def test_scores_say_what_was_named(self, model, requests):
        filled, named = (model.recommend(requests, 10, mode=mode) for mode in model.modes)
        assert (named.items >= 0).any()
        assert np.array_equal(filled.items[filled.scores > 0], named.items[named.items >= 0])


FILMS = [
    "Rocky (1976)", "Rocky II (1979)", "Matrix, The (1999)", "Alien (1979)", "Aliens (1986)",
    "Heat (1995)", "Seven (a.k.a. Se7en) (1995)", "Fargo (1996)",
]  # fmt: skip


@pytest.fixture(scope="module")
def films():
    rows = [
        (f"u{user}", f"f{item}", 100 * user + item, 5 - item % 5)
        for user in range(6)
        for item in range(len(FILMS) - user)
    ]
    names = ["user_id", "item_id", "timestamp", "rating"]
    log = pl.DataFrame(rows, schema=names, orient="row")
    catalogue = pl.DataFrame({"item_id": [f"f{i}" for i in range(len(FILMS))], "title": FILMS})
    return split(Dataset.construct(log, catalogue))


SAID = """Here are some films:
1. The Matrix (1999)
2. Rocky III (1982)
3. Seven: 5
4. Aliens
5. the matrix
6. Heat
7. Nothing Such (2001)
8. Farggo
9. Rocky II (1979)

Enjoy!"""


def test_what_is_named_is_found_and_all_else_is_counted(films):
    codes = films.dataset.item_codes
    with service(lambda asked: SAID) as running:
        model = Titles(model=spec(running), wanted=8).fit(films)
        asked = Requests(Ragged.from_rows([codes(["f5"])]))
        named = model.recommend(asked, 8, mode="named")
        assert named.ids(films.dataset)[0] == ["f2", "f6", "f4", "f7"]
        filled = model.recommend(asked, 8)
        ids = filled.ids(films.dataset)[0]
        assert ids[:4] == ["f2", "f6", "f4", "f7"] and (filled.scores[0, :4] > 0).all()
        rest = model.counts[codes(ids[4:])]
        assert (np.diff(rest) <= 0).all() and (filled.scores[0, 4:7] <= 0).all()
        report = model.language_report()
    # Asked twice; the ninth title is more than was asked for.
    counted = {key: value // 2 for key, value in report["answers"].items()}
    assert counted == {
        "asked": 1, "exact": 5, "fuzzy": 1, "dense": 0, "out of catalogue": 2, "repeated": 1,
        "named before": 1, "named": 4,
    }  # fmt: skip
    assert report["filled by the model"] == pytest.approx(4 / 8)


def test_of_half_an_answer_the_last_title_does_not_count(films):
    history = Requests(Ragged.from_rows([films.dataset.item_codes(["f5"])]))
    with service(lambda asked: "1. Fargo\n2. Alien", reason="length") as running:
        model = Titles(model=spec(running)).fit(films)
        named = model.recommend(history, 5, mode="named")
        assert named.ids(films.dataset)[0] == ["f7"]
        assert model.answers["repaired: cut"] == 1
    with service(lambda asked: "Ali", reason="length") as running:
        model = Titles(model=spec(running)).fit(films)
        assert (model.recommend(history, 5, mode="named").items == -1).all()
        assert model.answers["rejected: cut"] == 1 and not model.answers["named"]


def test_an_answer_of_no_use_is_no_answer(films):
    rows = [films.dataset.item_codes(row) for row in (["f5"], ["f0"], [])]
    asked = Requests(Ragged.from_rows(rows))
    said = {"- Heat (1995)": "Ali", "- Rocky (1976)": "1. Fargo"}

    def answer(told: str) -> str:
        return next(text for title, text in said.items() if title in told)

    with service(answer) as running:
        model = Titles(model=spec(running)).fit(films)
        for mode in model.modes:
            found = model.recommend(asked, 3, mode=mode)
            assert found.answered is not None and found.answered.tolist() == [False, True, True]
    assert model.answers["rejected: nothing found"] == 2
    with service(lambda told: "", reason="content_filter") as running:
        model = Titles(model=spec(running)).fit(films)
        found = model.recommend(asked, 3)
        assert found.answered is not None and found.answered.tolist() == [False, False, True]


def test_ratings_are_those_of_training_and_of_known_users(films):
    told = []
    with service(lambda asked: told.append(asked) or "1. Heat") as running:
        model = Titles(model=spec(running), recent=3).fit(films)
        user = films.dataset.user_code("u0")
        codes = films.dataset.item_codes(["f0", "f2", "f6"])
        for who in (user, -1):
            users = np.array([who], dtype=np.int32)
            model.recommend(Requests(Ragged.from_rows([codes]), users), 3)
    # f6 is the item that validation holds: what it was given is not known yet.
    assert "- Rocky (1976): 5\n- The Matrix (1999): 3\n- Seven (1995)\n" in told[0]
    assert "- Rocky (1976)\n- The Matrix (1999)\n- Seven (1995)\n" in told[1]


def test_a_prompt_without_a_history_is_refused():
    with pytest.raises(OnomaError, match="no place for ratings or history"):
        Titles(prompt="order-candidates")
