"""The chat route and explanations, on the live service."""

import json
import re

import numpy as np
import pytest
from asking import Serve, ids
from fastapi.testclient import TestClient

from onoma.recommenders import Requests
from onoma.run import open_run

TOY_STORY, STAR_WARS, JURASSIC = "1", "260", "480"


def talk(client: TestClient, *texts: str, **more):
    messages = [{"role": "user", "content": text} for text in texts]
    got = client.post("/v1/chat/completions", json={"messages": messages, **more})
    assert got.status_code == 200, got.text
    return got.json()


def named(answer) -> list[str]:
    return [item["item_id"] for item in answer["onoma"]["items"]]


def test_a_chat_answers_what_the_service_recommends(client: TestClient) -> None:
    got = talk(client, "I like Toy Story", k=4)
    want = client.post("/v1/recommend", json={"history": [TOY_STORY], "k": 4})
    assert named(got) == ids(want) and got["object"] == "chat.completion"
    said = got["choices"][0]["message"]
    assert said["role"] == "assistant" and re.findall(r"\[(\w+)\]", said["content"]) == named(got)
    assert got["model"] == client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    stranger = talk(client, "hello", k=3)
    assert named(stranger) == ids(client.post("/v1/recommend", json={"k": 3}))


def test_a_stream_says_the_same(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "a comedy for children"}], "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as got:
        assert got.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in got.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    whole = talk(client, "a comedy for children")
    assert text == whole["choices"][0]["message"]["content"] and len(chunks) > 4
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert chunks[-1]["onoma"]["items"] == whole["onoma"]["items"]


def test_a_chat_knows_the_user_the_new_and_the_withdrawn(serve: Serve) -> None:
    client = serve("tiny")
    rows = [{"user_id": "ada", "item_id": item, "type": "like"} for item in (STAR_WARS, "1196")]
    rows.append({"user_id": "ada", "item_id": "1210", "type": "hide"})
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 3
    body = {"user_id": "ada", "k": 5}
    assert named(talk(client, "hi", user="ada")) == ids(client.post("/v1/recommend", json=body))
    new = {"item_id": "zebra", "title": "Zebra Quagga Parade", "attributes": {"year": 2031}}
    assert client.put("/v1/items", json={"items": [new]}).status_code == 200
    assert named(talk(client, "something with a quagga"))[0] == "zebra"
    liked = talk(client, "I like Zebra Quagga Parade")
    assert "“Zebra Quagga Parade”" in liked["choices"][0]["message"]["content"]
    assert client.delete("/v1/items", params={"item_id": ["zebra", STAR_WARS]}).status_code == 200
    for texts in (["something with a quagga"], ["I like Zebra Quagga Parade", "why?"], ["hi"]):
        gone = talk(client, *texts, user="ada", k=50)
        assert "Quagga" not in gone["choices"][0]["message"]["content"]
        assert not {"zebra", STAR_WARS, "1210"} & set(named(gone))


def test_reasons_are_what_is_lost_without_each_item(client: TestClient, runs) -> None:
    history = [TOY_STORY, STAR_WARS, JURASSIC, "2355"]
    body = {"history": history, "k": 3, "explain": True}
    got = client.post("/v1/recommend", json=body).json()
    assert got["explained_by"] == "leave-one-out"
    opened = open_run(runs / "tiny")
    for item in got["items"]:
        code = int(opened.dataset.item_codes([item["item_id"]])[0])
        each = [history, *([h for h in history if h != gone] for gone in history)]
        scores = opened.recommender.score(Requests.histories(opened.dataset, each)).double()
        told = (scores[:, code] - scores.logsumexp(1)).numpy()
        want = dict(zip(history, told[0] - told[1:], strict=True))
        found = {one["item_id"]: one["contribution"] for one in item["contributions"]}
        assert found.keys() == want.keys()
        assert np.allclose([found[one] for one in history], list(want.values()), atol=1e-3)
        values = [one["contribution"] for one in item["contributions"]]
        assert values == sorted(values, reverse=True)
        for reason in item["reasons"]:
            assert reason["items"] and {one["item_id"] for one in reason["items"]} <= {*history}
            assert f"“{reason['items'][0]['title']}”" in reason["text"]
    kinds = {reason["kind"] for item in got["items"] for reason in item["reasons"]}
    assert {"history", "attribute"} <= kinds
    plain = client.post("/v1/recommend", json={**body, "explain": False}).json()
    assert plain.get("explained_by") is None and "reasons" not in plain["items"][0]


def test_sums_are_explained_exactly_and_nothing_withdrawn_is_a_reason(serve: Serve) -> None:
    client = serve("markov")
    body = {"history": [TOY_STORY, STAR_WARS], "items": ["1196", "2355"], "explain": True}
    got = client.post("/v1/rank", json=body).json()
    assert got["explained_by"] == "exact"
    parts = [sum(one["contribution"] for one in item["contributions"]) for item in got["items"]]
    # The Markov model adds less than one for popularity, which no history changes.
    assert parts == pytest.approx([item["score"] for item in got["items"]], abs=1)
    assert parts[0] > 10
    client.delete("/v1/items", params={"item_id": STAR_WARS})
    left = client.post("/v1/rank", json=body).json()
    for item in left["items"]:
        shown = [*item["contributions"], *(i for r in item["reasons"] for i in r["items"])]
        assert {one["item_id"] for one in shown} <= {TOY_STORY}
    nobody = client.post("/v1/recommend", json={"k": 2, "explain": True}).json()
    assert all(item["reasons"] == [] == item["contributions"] for item in nobody["items"])
