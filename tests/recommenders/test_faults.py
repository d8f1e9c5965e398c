"""Recommenders over an endpoint that misbehaves: whole lists, and every fault counted."""

import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openai")
sys.path.insert(0, str(Path(__file__).parents[1] / "language"))

from faulty import CHAT, ECHO, HELD, WELL, WIRE, FaultyServer  # noqa: E402

from onoma.errors import OnomaError  # noqa: E402
from onoma.recommenders.base import Requests  # noqa: E402
from onoma.recommenders.registry import recommender  # noqa: E402

# What ends a run: the server refuses the caller, not the question.
ENDING = ("401", "403", "404", "moved", "no quota")
# What spoils one answer; a server that is away stays away after the tries, which ends a run too.
UNABLE = {"cannot echo", "no logprobs", "null logprobs"}  # the server never will
SPOILING = {
    kind: WIRE[kind]
    for kind in (
        "silent", "dribbled head", "dribbled body", "huge", "too long", "held back", "not json",
        "a list", "null", "deep", "not utf-8", "no choices", "null choices", "empty choices",
        "a null choice", "an error as 200",
    )
}  # fmt: skip
SETTINGS = {
    "likelihood-llm": {"shortlist": 3},
    "pointwise-llm": {"shortlist": 3},
    "pairwise-llm": {"shortlist": 3},
    "listwise-llm": {"shortlist": 4},
    "pick-llm": {"shortlist": 4},
    "titles-llm": {},
}


def asked_of(url, name):
    model = {
        "model": f"{url}#little", "cache": False, "timeout": 1.5, "deadline": 3.0, "retries": 0,
        "concurrency": 16,
    }  # fmt: skip
    return recommender(name).create({"model": model, **SETTINGS[name]})


@pytest.mark.parametrize("name", SETTINGS)
def test_half_the_answers_are_faults(name, small_split):
    kinds = sorted(CHAT.keys() | HELD.keys() | (ECHO.keys() - UNABLE) | SPOILING.keys())
    turns = cycle(kinds)
    spoiled, count = False, 0

    def kind_of(one):
        nonlocal count
        if not spoiled:
            return WELL
        count += 1
        known = SPOILING | (ECHO if "prompt" in one.body else CHAT)
        if "response_format" in one.body:
            known |= HELD
        if count % 2:
            return WELL
        return next(kind for kind in turns if kind in known)

    requests = Requests.of(small_split.test)
    with FaultyServer(kind_of) as server:
        model = asked_of(server.url, name).fit(small_split)
        model.recommend(requests.slice(0, 1), 10)  # the first answer tells what a server is able to
        model.answers.clear()
        server.asked.clear()
        spoiled = True
        ranking = model.recommend(requests, 10)
        again = [kind for _, kind in server.asked]
        model.language.close()
    faults = sum(kind != WELL for kind in again)
    assert faults >= len(requests) // 2
    n_items = small_split.dataset.n_items
    for row, items in enumerate(ranking.items):
        assert ((items >= 0) & (items < n_items)).all() and len(set(items.tolist())) == len(items)
        assert not np.isin(items, requests.history[row]).any()
    report = model.language_report()["answers"]
    told = sum(n for what, n in report.items() if what not in ("asked", "answered"))
    assert report["asked"] == len(requests) and told > 0, report


@pytest.mark.parametrize("kind", ENDING)
def test_a_server_that_refuses_the_caller_ends_the_run_in_one_line(kind, small_split):
    with FaultyServer([kind]) as server:
        model = asked_of(server.url, "listwise-llm").fit(small_split)
        with pytest.raises(OnomaError) as told:
            model.recommend(Requests.of(small_split.test), 5)
        model.language.close()
    assert "\n" not in str(told.value) and server.url in str(told.value)
