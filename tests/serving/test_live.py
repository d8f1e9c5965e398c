import numpy as np
import pytest
from asking import Serve, ids
from fastapi.testclient import TestClient

from onoma.serving.view import View

NEW = {
    "item_id": "new/1 ☕",
    "title": "Toy Story of Tomorrow",
    "attributes": {"categories": ["Animation", "Children", "Comedy"], "year": 2031},
}


def post(client: TestClient, *rows: dict[str, object]) -> dict[str, object]:
    got = client.post("/v1/events", json={"events": list(rows)})
    assert got.status_code == 200, got.text
    return got.json()


def test_events_change_the_next_answer_and_survive_a_restart(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "kept.db")
    client = serve(store=store)
    before = client.post("/v1/recommend", json={"user_id": "ann"})
    request = before.json()["request_id"]
    rows = [
        {"event_id": "e1", "user_id": "ann", "item_id": "1", "request_id": request},
        {"event_id": "e2", "user_id": "ann", "item_id": "260", "type": "like"},
        {"event_id": "e3", "user_id": "ann", "item_id": "480", "type": "hide"},
        {"event_id": "e4", "user_id": "ann", "item_id": "no such"},
        {"event_id": "e1", "user_id": "ann", "item_id": "1"},
    ]
    done = post(client, *rows)
    assert [row["status"] for row in done["results"]] == [
        "accepted", "accepted", "accepted", "rejected", "duplicate",
    ]  # fmt: skip
    assert (done["accepted"], done["duplicates"], done["rejected"]) == (3, 1, 1)
    assert post(client, *rows)["accepted"] == 0
    after = client.post("/v1/recommend", json={"user_id": "ann", "k": 1000})
    assert after.json()["fallback"] is None
    wanted = client.post(
        "/v1/recommend", json={"history": ["1", "260"], "exclude": ["480"], "k": 1000}
    )
    assert ids(after) == ids(wanted) and "480" not in ids(after)
    again = serve(store=store)
    assert ids(again.post("/v1/recommend", json={"user_id": "ann", "k": 1000})) == ids(after)


def test_late_events_take_their_place_in_time(serve: Serve) -> None:
    client = serve()
    post(client, {"user_id": "bo", "item_id": "1", "timestamp": 200})
    post(client, {"user_id": "bo", "item_id": "260", "timestamp": 100})
    assert client.get("/v1/users?user_id=bo").json()["users"][0]["history"] == ["260", "1"]


def test_two_processes_on_one_store_see_each_other(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "shared.db")
    one, two = serve(store=store), serve(store=store)
    post(one, {"user_id": "cy", "item_id": "1"})
    answers = [c.post("/v1/recommend", json={"user_id": "cy"}) for c in (one, two)]
    assert answers[1].json()["fallback"] is None and ids(answers[0]) == ids(answers[1])
    one.put("/v1/items", json={"items": [NEW]})
    two.app.state.service.follow()
    asked = {"query": "toy story of tomorrow", "filter": "year > 2030"}
    assert ids(two.post("/v1/search", json=asked)) == [NEW["item_id"]]


def test_a_new_item_is_named_and_recommended_at_once_and_withdrawn_for_good(
    serve: Serve, tmp_path
) -> None:
    store = str(tmp_path / "items.db")
    client = serve(store=store)
    new = NEW["item_id"]
    asked = {"history": ["1", "3114"], "filter": "year > 2030"}
    assert ids(client.post("/v1/recommend", json=asked)) == []
    before = ids(client.post("/v1/recommend", json={"history": ["1"], "k": 20}))
    assert client.put("/v1/items", json={"items": [NEW]}).json() == {"changed": 1}
    for mode in ("rank", "generate_then_rank"):
        got = client.post("/v1/recommend", json={**asked, "mode": mode})
        assert ids(got) == [new] and got.json()["fallback"] is None
    name = client.get(f"/v1/names/{new}").json()["name"]
    view = client.app.state.service.view
    assert (view.names == np.array(name)).all(axis=1).sum() == 1
    assert view.answers.index.trie.find(np.array([name])).tolist() == [len(view.catalogue) - 1]
    known = ids(client.post("/v1/recommend", json={"history": ["1"], "k": 21}))
    assert [item for item in known if item != new][:20] == before
    assert post(client, {"user_id": "di", "item_id": new})["accepted"] == 1
    assert client.post("/v1/recommend", json={"user_id": "di"}).json()["fallback"] is None
    again = serve(store=store)
    assert ids(again.post("/v1/recommend", json=asked)) == [new]
    assert again.delete("/v1/items", params={"item_id": [new, "1"]}).json() == {"changed": 2}
    client.app.state.service.follow()
    for each in (client, again, serve(store=store)):
        assert (
            ids(each.post("/v1/recommend", json={"history": ["260"], "filter": "year>2030"})) == []
        )
        everything = ids(each.post("/v1/recommend", json={"history": ["3114"], "k": 1000}))
        assert "1" not in everything
        assert "1" not in ids(each.post("/v1/search", json={"query": "toy story", "k": 100}))
        assert "1" not in ids(each.post("/v1/similar", json={"item_id": "3114", "k": 100}))
        assert "1" not in ids(each.post("/v1/rank", json={"items": ["1", "260"]}))
    again.put("/v1/items", json={"items": [{"item_id": "1", "title": "Toy Story"}]})
    assert ids(again.post("/v1/rank", json={"items": ["1"], "history": ["2"]})) == ["1"]


def test_a_model_that_takes_no_new_items_answers_them_by_likeness_and_says_so(
    serve: Serve,
) -> None:
    client = serve("markov")
    asked = {"history": ["1"], "filter": "year > 2030"}
    assert client.put("/v1/items", json={"items": [NEW]}).status_code == 200
    got = client.post("/v1/recommend", json=asked)
    assert ids(got) == [NEW["item_id"]] and got.json()["fallback"] == "neighbours"
    plain = client.post("/v1/recommend", json={"history": ["1"], "filter": "year < 2000"})
    assert plain.json()["fallback"] is None
    known = client.app.state.service.view.answers
    liked = client.post("/v1/recommend", json={"history": [NEW["item_id"]], "k": 5})
    assert liked.json()["fallback"] == "neighbours"
    nearest = client.post(
        "/v1/similar", json={"item_id": NEW["item_id"], "k": 1, "by": "content"}
    ).json()["items"][0]["item_id"]
    assert set(ids(liked)) - {nearest} <= set(
        ids(client.post("/v1/recommend", json={"history": [nearest], "k": 6}))
    ) | {NEW["item_id"]}
    assert known.inner.name == "markov"


def test_an_erased_user_has_no_past(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "erased.db")
    client = serve(store=store)
    post(client, {"event_id": "x", "user_id": "1", "item_id": "260"})
    client.put("/v1/users", json={"users": [{"user_id": "1", "attributes": {"age": 30}}]})
    assert client.get("/v1/users?user_id=1").json()["users"][0]["attributes"] == {"age": 30}
    client.delete("/v1/users?user_id=1")
    for each in (client, serve(store=store)):
        assert each.get("/v1/users?user_id=1").json() == {"users": []}
        assert each.post("/v1/recommend", json={"user_id": "1"}).json()["fallback"] == "popular"
    client.put("/v1/users", json={"users": [{"user_id": "1"}]})
    post(client, {"event_id": "y", "user_id": "1", "item_id": "480"})
    kept = client.get("/v1/users?user_id=1").json()["users"][0]
    assert kept["history"] == ["480"]


def test_a_user_is_erased_where_the_store_holds_no_event(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "empty.db")
    client = serve(store=store)
    assert client.get("/v1/users?user_id=1").json()["users"]
    client.delete("/v1/users?user_id=1")
    for each in (client, serve(store=store)):
        assert each.get("/v1/users?user_id=1").json() == {"users": []}


def test_what_is_said_of_an_item_adds_up_and_a_restart_agrees(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "changed.db")
    client = serve(store=store)
    told = [
        {"item_id": "n1", "title": "Toy Story of Tomorrow", "attributes": {"year": 2031}},
        {"item_id": "n2", "title": "Star Wars of Tomorrow"},
        {"item_id": "n1", "title": "Love and Death in Venice"},
        {"item_id": "260", "title": "Toy Story on Ice"},
        {"item_id": "n1", "attributes": {"price": 5}},
    ]
    before = client.app.state.service.view.space.vectors
    for item in told:
        client.put("/v1/items", json={"items": [item]})
    again = serve(store=store)
    for each in (client, again):
        (row,) = each.get("/v1/items?item_id=n1").json()["items"]
        assert row["title"] == "Love and Death in Venice"
        assert row["attributes"] == {"year": 2031, "price": 5}
    live, restarted = (each.app.state.service.view for each in (client, again))
    assert live.catalogue.ids == restarted.catalogue.ids
    assert np.array_equal(live.names, restarted.names)
    assert np.array_equal(live.space.vectors, restarted.space.vectors)
    moved = (live.space.vectors[: len(before)] != before).any(axis=1)
    assert np.flatnonzero(moved).tolist() == live.catalogue.codes(["260"]).tolist()


@pytest.mark.parametrize("run", ["tiny", "markov"])
def test_what_does_not_place_a_new_item_leaves_the_model_alone(run: str, serve: Serve) -> None:
    client = serve(run)
    client.put("/v1/items", json={"items": [NEW, {"item_id": "n2", "title": "Heat of Tomorrow"}]})
    before = client.app.state.service.view
    changed = {"item_id": NEW["item_id"], "attributes": {"price": 5, "year": 2032}}
    client.put("/v1/items", json={"items": [changed]})
    after = client.app.state.service.view
    assert after.model is before.model and after.answers is before.answers
    assert after.space is before.space
    asked = {"history": ["1"], "filter": "price < 6 and year = 2032"}
    assert ids(client.post("/v1/recommend", json=asked)) == [NEW["item_id"]]
    client.put("/v1/items", json={"items": [{"item_id": "n2", "title": "Toys of Tomorrow"}]})
    moved = client.app.state.service.view.space.vectors
    assert np.flatnonzero((moved != after.space.vectors).any(axis=1)).tolist() == [len(moved) - 1]


def same(one: View, two: View) -> None:
    """Both would answer alike."""
    assert one.catalogue.ids == two.catalogue.ids
    assert one.catalogue.titles == two.catalogue.titles
    assert one.catalogue.gone.tolist() == two.catalogue.gone.tolist()
    columns = one.catalogue.table.columns
    assert set(columns) == set(two.catalogue.table.columns)
    assert one.catalogue.table.equals(two.catalogue.table.select(columns))
    assert np.array_equal(one.space.vectors, two.space.vectors)
    assert np.array_equal(one.names, two.names)


@pytest.mark.parametrize(("run", "seed"), [("tiny", 0), ("tiny", 1), ("markov", 2)])
def test_whatever_is_told_a_restart_agrees(run: str, seed: int, serve: Serve, tmp_path) -> None:
    store, draw = str(tmp_path / "any.db"), np.random.default_rng(seed)
    client, other = serve(run, store=store), serve(run, store=store).app.state.service
    service = client.app.state.service
    loaded = service.view
    said = [
        {"title": "Toy Story"}, {"title": "Heat"}, {"attributes": {"categories": ["War"]}},
        {"attributes": {"price": 5}}, {"attributes": {"price": "dear"}},
    ]  # fmt: skip
    for _ in range(12):
        item = str(draw.choice(["a", "b", "c", "260"]))
        if draw.random() < 0.3:
            client.delete("/v1/items", params={"item_id": item})
        else:
            row = {"item_id": item, **said[draw.integers(len(said))]}
            client.put("/v1/items", json={"items": [row]})
        same(service.view, loaded.changed(service.store.records("items")))
        if draw.random() < 0.3:
            other.follow()
    other.follow()
    same(service.view, other.view)
    same(service.view, serve(run, store=store).app.state.service.view)


def test_a_new_item_scores_as_what_it_is_like_when_that_changes(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "late.db")
    late = serve("markov", store=store)
    late.put("/v1/items", json={"items": [{"item_id": "n2", "title": "Star Wars of Tomorrow"}]})
    asked = {"history": ["1"], "candidates": ["n2"]}
    before = late.post("/v1/recommend", json=asked).json()["items"]
    (like,) = ids(late.post("/v1/similar", json={"item_id": "n2", "k": 1, "by": "content"}))
    late.put("/v1/items", json={"items": [{"item_id": like, "title": "Heat"}]})
    after = late.post("/v1/recommend", json=asked).json()["items"]
    restarted = serve("markov", store=store).post("/v1/recommend", json=asked).json()["items"]
    assert after == restarted != before


def test_models_swap_and_come_back(serve: Serve, tmp_path) -> None:
    store = str(tmp_path / "swap.db")
    client = serve(store=store)
    client.put("/v1/items", json={"items": [NEW]})
    assert client.post("/v1/models/swap", json={"run": "markov"}).json()["name"] == "markov"
    got = client.post("/v1/recommend", json={"history": ["1"], "filter": "year > 2030"})
    assert got.json()["model"] == "markov" and ids(got) == [NEW["item_id"]]
    other = serve(store=store)  # a restart keeps the choice
    assert other.get("/v1/models").json()["current"]["name"] == "markov"
    assert client.post("/v1/models/restore").json()["name"] == "tiny"
    other.app.state.service.follow()
    assert other.get("/v1/models").json()["current"]["name"] == "tiny"
    for bad, status in (("none", 404), ("..", 422), ("markov/../tiny", 422)):
        assert client.post("/v1/models/swap", json={"run": bad}).status_code == status
