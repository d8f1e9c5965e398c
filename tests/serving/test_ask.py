import json
from pathlib import Path

import numpy as np
import pytest
from asking import Serve, ids
from fastapi.testclient import TestClient

from onoma.encoding.bm25 import BM25
from onoma.encoding.text import item_texts
from onoma.recommenders import Requests
from onoma.run import open_run
from onoma.serving.search import best, fuse

TOY_STORY, STAR_WARS = "1", "260"


@pytest.mark.parametrize("mode", ["rank", "generate", "generate_then_rank"])
def test_the_service_answers_what_the_recommender_answers(
    client: TestClient, runs: Path, mode: str
) -> None:
    opened = open_run(runs / "tiny")
    histories = [[TOY_STORY, STAR_WARS], ["480"], ["1196", "1210", "2571"]]
    wanted = opened.recommender.recommend(
        Requests.histories(opened.dataset, histories), 7, mode=mode
    )
    for row, history in enumerate(histories):
        got = client.post("/v1/recommend", json={"history": history, "k": 7, "mode": mode})
        assert ids(got) == wanted.ids(opened.dataset)[row]
        scores = [item["score"] for item in got.json()["items"]]
        assert np.allclose(scores, wanted.scores[row], atol=1e-4)


def test_a_user_of_the_data_has_a_past(client: TestClient, runs: Path) -> None:
    known = client.get("/v1/users", params={"user_id": "1"}).json()["users"][0]
    dataset = open_run(runs / "tiny").dataset
    count = (dataset.interactions["user"] == dataset.user_code("1")).sum()
    assert known["interactions"] == count > 0
    by_user = client.post("/v1/recommend", json={"user_id": "1"})
    assert ids(by_user) == ids(client.post("/v1/recommend", json={"history": known["history"]}))
    assert by_user.json()["fallback"] is None


def test_what_is_excluded_filtered_or_not_a_candidate_is_not_answered(client: TestClient) -> None:
    base = {"history": [TOY_STORY], "k": 50}
    first = ids(client.post("/v1/recommend", json=base))
    assert TOY_STORY not in first
    assert TOY_STORY in ids(
        client.post("/v1/recommend", json={**base, "repeats": True, "candidates": [TOY_STORY]})
    )
    assert not {*first[:5]} & {
        *ids(client.post("/v1/recommend", json={**base, "exclude": first[:5]}))
    }
    assert (
        ids(client.post("/v1/recommend", json={**base, "candidates": [*first[:3], "no such item"]}))
        == first[:3]
    )
    for where in ("categories = 'Comedy' and year < 1990", "not (categories = 'Comedy')"):
        found = ids(client.post("/v1/recommend", json={**base, "filter": where}))
        rows = client.get("/v1/items", params={"item_id": found}).json()["items"]
        for row in rows:
            attributes = row["attributes"]
            comedy = "Comedy" in attributes.get("categories", [])
            assert comedy and attributes["year"] < 1990 if "<" in where else not comedy


def test_diversity_changes_the_order_and_keeps_the_first(client: TestClient) -> None:
    base = {"history": [TOY_STORY, "3114"], "k": 10}
    plain = ids(client.post("/v1/recommend", json=base))
    varied = ids(client.post("/v1/recommend", json={**base, "diversity": 0.9}))
    assert varied[0] == plain[0] and varied != plain and len(set(varied)) == 10
    assert ids(client.post("/v1/recommend", json={**base, "diversity": 1e-9})) == plain


def test_a_stranger_gets_what_is_popular_and_is_told(client: TestClient) -> None:
    got = client.post("/v1/recommend", json={"user_id": "nobody", "k": 3}).json()
    assert got["fallback"] == "popular" and got["items"][0]["title"] == "Forrest Gump"


def test_rank_orders_all_given_items_and_names_the_unknown(client: TestClient) -> None:
    items = ["480", TOY_STORY, "nope", "3793"]
    got = client.post("/v1/rank", json={"history": [TOY_STORY], "items": items})
    assert sorted(ids(got)) == sorted(["480", TOY_STORY, "3793"])
    assert got.json()["unknown"] == ["nope"]
    scores = [item["score"] for item in got.json()["items"]]
    assert scores == sorted(scores, reverse=True)


def test_similar_and_names(client: TestClient) -> None:
    for by in ("model", "content"):
        found = ids(client.post("/v1/similar", json={"item_id": TOY_STORY, "k": 5, "by": by}))
        assert len(found) == 5 and TOY_STORY not in found
    name = client.get(f"/v1/names/{TOY_STORY}").json()
    assert name["text"] == "-".join(map(str, name["name"]))
    shared = [item["score"] for item in name["neighbours"]]
    assert shared == sorted(shared, reverse=True)
    nearest = name["neighbours"][0]
    assert nearest["name"][: int(shared[0])] == name["name"][: int(shared[0])]
    assert client.get("/v1/names/none").status_code == 404
    assert client.post("/v1/similar", json={"item_id": "none"}).status_code == 404


def test_search_finds_words_and_taste_moves_them(client: TestClient) -> None:
    found = ids(client.post("/v1/search", json={"query": "Star Wars", "k": 10}))
    assert STAR_WARS in found
    plain = client.post("/v1/search", json={"query": "love", "k": 50})
    liked = client.post("/v1/search", json={"query": "love", "k": 50, "history": [STAR_WARS]})
    assert liked.json()["personalised"] and not plain.json()["personalised"]
    assert ids(plain) != ids(liked)
    assert ids(client.post("/v1/search", json={"query": "qqqqzzzz ☕"})) == []


def test_a_search_may_be_overtaken_by_a_swap_to_a_smaller_catalogue(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onoma.serving import ask

    client = serve()
    service = client.app.state.service
    before, search = service.view, ask._search
    item = {"item_id": "late", "title": "Quixotic Zeppelin"}
    assert client.put("/v1/items", json={"items": [item]}).status_code == 200

    def overtaken(*args: object) -> object:
        found = search(*args)
        service.engine.view = before
        return found

    monkeypatch.setattr(ask, "_search", overtaken)
    got = client.post("/v1/search", json={"query": "quixotic zeppelin", "history": ["1"]})
    assert got.status_code == 200 and ids(got)[0] == "late"


def test_the_first_searches_may_come_together(runs: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from onoma.serving.view import View

    for _ in range(3):  # the first of them fits the encoder
        view = View.load(runs / "tiny")
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _, v=view: v.space.words("star wars"), range(8)))
        assert all(np.array_equal(found[0], one) for one in found) and found[0].any()


def test_bm25_and_fusion_by_hand() -> None:
    import polars as pl

    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red soap", "red red", "blue"]})
    made = BM25(item_texts(items))
    rarity = np.log1p((3 - 2 + 0.5) / (2 + 0.5))
    mean = 5 / 3
    expected = rarity * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2 / mean))
    assert made.scores("RED")[1] == pytest.approx(expected, rel=1e-6)
    assert made.scores("none").tolist() == [0, 0, 0]
    assert best(np.array([0.5, 2, 0, 2], np.float32), 3).tolist() == [1, 3, 0]
    codes, scores = fuse([np.array([4, 2]), np.array([2])])
    assert codes == [2, 4] and scores[0] == pytest.approx(1 / 62 + 1 / 61)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("recommend", {"history": [TOY_STORY], "k": 3}),
        ("recommend", {"history": [TOY_STORY], "k": 3.0, "explain": True, "context": {"x": 1}}),
        ("recommend", {"user_id": "1", "filter": "categories = 'Comedy'", "diversity": 1}),
        ("recommend", {"user_id": "1", "filter": "no such column = 1"}),
        ("recommend", {"user_id": "1", "mode": "no-such"}),
        ("recommend", {"k": "3"}),
        ("recommend", {"k": True}),
        ("recommend", {"history": ["\n"], "surprise": 1}),
        ("recommend", []),
        ("rank", {"items": [STAR_WARS, "?"], "history": [TOY_STORY]}),
        ("rank", {"items": []}),
        ("similar", {"item_id": TOY_STORY}),
        ("similar", {"item_id": "no such item"}),
        ("search", {"query": "star wars", "history": [TOY_STORY], "k": 4}),
    ],
)
def test_the_short_way_says_what_the_long_way_says(
    client: TestClient, path: str, body: object
) -> None:
    """A charset sends a request through the whole framework."""
    short = client.post(f"/v1/{path}", json=body)
    kind = {"Content-Type": "application/json; charset=utf-8"}
    long = client.post(f"/v1/{path}", content=json.dumps(body), headers=kind)
    assert short.status_code == long.status_code
    assert short.headers["content-type"] == long.headers["content-type"]
    told, wanted = short.json(), long.json()
    told.pop("request_id", None), wanted.pop("request_id", None)
    assert told == wanted


def test_what_no_json_is_is_refused_on_either_way(client: TestClient) -> None:
    for body in (b"", b"{", b'{"k": NaN}', b'{"history": ["\xff"]}', b'{"history": ["\\ud800"]}'):
        said = set()
        for kind in ("application/json", "application/json; charset=utf-8"):
            got = client.post("/v1/recommend", content=body, headers={"Content-Type": kind})
            said.add(got.status_code)
        assert len(said) == 1 and said <= {400, 422}, body
