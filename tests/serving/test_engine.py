"""What the engine asks of a recommender."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from asking import Serve, ids
from fastapi.testclient import TestClient

from onoma.recommenders import Ranking, Requests
from onoma.recommenders.generative.flagship import Flagship
from onoma.recommenders.generative.tiger import Tiger
from onoma.run import open_run
from onoma.serving.engine import Engine, Query


class Heard:
    """A recommender that keeps what it was asked."""

    def __init__(self, inner: object, exact: bool = True) -> None:
        self.inner, self.exact = inner, exact
        self.asked: list[tuple[Requests, int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def recommend(self, requests: Requests, k: int, *, mode: str | None = None) -> Ranking:
        self.asked.append((requests, k))
        return self.inner.recommend(requests, k, mode=mode)


@pytest.fixture
def client(serve: Serve) -> Iterator[TestClient]:
    """A service whose recommender is heard."""
    made = serve("markov")
    engine = made.app.state.service.engine
    engine.view = replace(engine.view, answers=Heard(engine.view.answers))
    yield made


def _asked(engine: Engine, *queries: Query) -> Requests:
    engine.answer(queries)
    return engine.view.answers.asked[-1][0]


def test_the_model_is_told_who_asks_and_when_things_were_done(client: TestClient, runs) -> None:
    dataset = open_run(runs / "markov").dataset
    rows = [
        {"user_id": user, "item_id": "260", "timestamp": 1_700_000_000} for user in ("1", "new")
    ]
    client.post("/v1/events", json={"events": rows})
    engine = client.app.state.service.engine
    known, fresh = Query("1", ("480", "no such")), Query("new")
    told = _asked(engine, known, fresh)
    code = dataset.user_code("1")
    log = dataset.past(code)
    late = dataset.item_codes(["260", "480"])
    assert told.users.tolist() == [code, -1] and told.users.dtype == np.int32
    assert told.history[0].tolist() == [*log["item"], *late] and told.history[1] == late[:1]
    assert told.times[0].tolist() == [*log["timestamp"], 1_700_000_000, -1]
    assert told.times[1].tolist() == [1_700_000_000]
    client.delete("/v1/users?user_id=1")
    told = _asked(engine, known)
    assert told.users.tolist() == [-1] and told.history[0].tolist() == late[1:].tolist()


def test_a_beam_is_as_wide_as_each_asks(client: TestClient) -> None:
    engine = client.app.state.service.engine
    heard = engine.view.answers
    few, many, varied = (Query(history=("1",), k=k, diversity=d)
                         for k, d in ((5, 0), (9, 0), (5, 0.5)))  # fmt: skip
    engine.answer([few, many, varied, few])
    assert [(len(asked), k) for asked, k in heard.asked] == [(4, 25)]
    heard.exact, heard.asked = False, []
    engine.answer([few, many, varied, few])
    assert [(len(asked), k) for asked, k in heard.asked] == [(2, 5), (1, 9), (1, 25)]
    assert Flagship().exact and not Tiger().exact


def test_rank_answers_items_that_the_user_disliked(client: TestClient) -> None:
    rows = [{"user_id": "ann", "item_id": "480", "type": "dislike"},
            {"user_id": "ann", "item_id": "1"}]  # fmt: skip
    client.post("/v1/events", json={"events": rows})
    client.delete("/v1/items?item_id=3114")
    got = client.post("/v1/rank", json={"user_id": "ann", "items": ["480", "260", "3114", "?"]})
    assert sorted(ids(got)) == ["260", "480"] and got.json()["unknown"] == ["3114", "?"]
    for more in ({}, {"candidates": ["480", "260"], "repeats": True}):
        got = client.post("/v1/recommend", json={"user_id": "ann", "k": 1000, **more})
        assert "480" not in ids(got) and "260" in ids(got)
