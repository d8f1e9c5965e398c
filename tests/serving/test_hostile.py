"""Bodies that nobody sends in good faith, dialogues over a catalogue that tries to give orders."""

import json

import hostile
import pytest
from asking import Serve
from fastapi.testclient import TestClient


def sender(client: TestClient) -> hostile.Send:
    def send(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        got = client.request(
            method, path, content=body, headers={"Content-Type": "application/json"}
        )
        return got.status_code, got.headers.get("content-type", ""), got.content

    return send


def test_hostile_bodies_are_refused_in_order(serve: Serve) -> None:
    client = serve("tiny")
    statuses, wrong = hostile.attacked(sender(client), 150, seed=1)
    assert not wrong and statuses[422] > 50 and statuses[400] > 5 and statuses[413]
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("name", ["tiny", "markov"])
def test_no_dialogue_names_what_is_no_item(serve: Serve, name: str) -> None:
    named, outside = hostile.talked(sender(serve(name)), 12)
    assert named > 100 and not outside


def test_text_of_the_catalogue_is_answered_as_it_stands_and_never_as_a_page(serve: Serve) -> None:
    client = serve("tiny")
    rows = hostile.injected_items()
    assert client.put("/v1/items", json={"items": rows}).status_code == 200
    got = client.get("/v1/items", params={"item_id": [row["item_id"] for row in rows]})
    assert got.headers["content-type"] == "application/json"
    assert [item["title"] for item in json.loads(got.content)["items"]] == [
        row["title"] for row in rows
    ]
