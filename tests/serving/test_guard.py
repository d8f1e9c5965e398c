import json
import logging

import pytest
from asking import Serve
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.errors import OnomaError
from onoma.serving.guard import Guard, deeper
from onoma.serving.keys import Buckets, Keyring, add_key, revoke_key
from onoma.serving.options import Options
from onoma.serving.server import check
from onoma.serving.store import open_store


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_off_loopback_a_key_is_needed_and_opens_its_scopes_only(serve: Serve, tmp_path) -> None:
    path = str(tmp_path / "keys.db")
    store = open_store(path)
    options = Options(run="r", store=path, host="0.0.0.0")
    with pytest.raises(OnomaError, match="onoma keys add"):
        check(options)
    tokens = {scope: add_key(store, scope, [scope]) for scope in ("read", "write", "admin")}
    check(options)
    assert not any(token.split("_", 2)[2] in json.dumps([r.data for r in store.records("keys")])
                   for token in tokens.values())  # fmt: skip
    client = serve(store=path, host="0.0.0.0")
    event = {"events": [{"user_id": "u", "item_id": "1"}]}
    calls = {
        "read": lambda h: client.post("/v1/recommend", json={}, headers=h),
        "write": lambda h: client.post("/v1/events", json=event, headers=h),
        "admin": lambda h: client.post("/v1/models/swap", json={"run": "none"}, headers=h),
    }
    for scope, call in calls.items():
        for headers in (
            {},
            _bearer("nonsense"),
            _bearer(tokens[scope][:-1] + "~"),
            {"Authorization": "Basic x"},
        ):
            refused = call(headers)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        for name, token in tokens.items():
            status = call(_bearer(token)).status_code
            assert (status == 403) == (name not in (scope, "admin")), (scope, name, status)
    assert client.get("/health/ready").status_code == 200
    for path_ in ("/metrics", "/openapi.json", "/v1/models", "/nowhere"):
        assert client.get(path_).status_code == 401
    secured = client.get("/openapi.json", headers=_bearer(tokens["read"])).json()
    assert secured["paths"]["/v1/recommend"]["post"]["security"] == [{"key": []}]
    revoke_key(store, tokens["read"].split("_")[1])
    client.app.state.service.follow()
    assert calls["read"](_bearer(tokens["read"])).status_code == 401


def test_a_wrong_key_is_refused_on_loopback_too_and_a_wrong_host(client: TestClient) -> None:
    assert client.get("/v1/models", headers=_bearer("x")).status_code == 401
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/v1/models", headers={"Host": "127.0.0.1:8000"}).status_code == 200


def test_too_many_requests_are_told_when_to_come_back(serve: Serve) -> None:
    client = serve(rate=0.5, burst=3)
    answers = [client.get("/v1/models") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"] in ("1", "2")
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert client.get("/health/live").status_code == 200


def test_where_keys_are_asked_for_there_is_a_limit_though_none_was_named() -> None:
    def limit(**settings: object) -> float:
        return Options(run="r", store="s", **settings).limit

    assert limit() == limit(rate=0, host="0.0.0.0") == 0
    assert limit(host="0.0.0.0") == limit(require_keys=True) == 100
    assert limit(host="0.0.0.0", rate=5) == limit(rate=5) == 5
    assert Guard(None, Options(run="r", store="s", host="::"), None, None).buckets.rate == 100


def test_buckets_fill_again_and_never_above_the_brim() -> None:
    buckets = Buckets(rate=2, burst=2)
    assert [buckets.wait("a", 0.0) for _ in range(3)] == [0, 0, 0.5]
    assert buckets.wait("b", 0.0) == 0
    assert buckets.wait("a", 0.5) == 0 and buckets.wait("a", 0.5) == 0.5
    assert [buckets.wait("a", 100.0) for _ in range(3)] == [0, 0, 0.5]


@pytest.mark.parametrize(
    "body, status",
    [
        (b'{"history": ["' + b"x" * 5000 + b'"]}', 413),
        (b"[" * 500 + b"]" * 500, 400),
        (b'{"context": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", 400),
        (b'{"k": NaN}', 422),
        (b'{"diversity": Infinity}', 422),
        (b'{"diversity": -1e999}', 422),
        (b'{"k": "5"}', 422),
        (b'{"k": 5.5}', 422),
        (b'{"k": true}', 422),
        (b'{"k": 1e400}', 422),
        (b'{"k": 5.0}', 200),
        (b'{"k": ' + b"9" * 4400 + b"}", 422),
        (b'{"unknown": 1}', 422),
        (b'{"history": ["\\ud800"]}', 422),
        (b'{"history": ["a\\u0000b"]}', 422),
        (b'{"history": ["<script>alert(1)</script>", "\' OR 1=1 --"]}', 200),
        (b'{"user_id": ""}', 422),
        (b'{"filter": "year = 1; import os"}', 422),
        (b'{"filter": "nothing = 1"}', 422),
        (b'{"mode": "sing"}', 409),
        (b"\xff\xfe{}", 422),
        (b"{\xff}", 400),
        (b'{"a": ', 422),
        (b"", 422),
        (b"null", 422),
    ],
)
def test_hostile_bodies_are_refused_and_never_break_anything(
    serve: Serve, body: bytes, status: int, client: TestClient
) -> None:
    headers = {"content-type": "application/json"}
    if status == 413:
        client = serve(body=4096)
    got = client.post("/v1/recommend", content=body, headers=headers)
    if body.startswith(b'{"k": 9999'):
        assert got.status_code in (400, 422)
    else:
        assert got.status_code == status, got.text
    if status != 200:
        assert got.headers["content-type"] == "application/problem+json"
        assert got.json()["status"] == got.status_code and "Traceback" not in got.text


def test_a_large_body_in_pieces_is_refused(serve: Serve) -> None:
    client = serve(body=2048)
    pieces = (b" " * 1000 for _ in range(4))
    got = client.post("/v1/recommend", content=pieces, headers={"content-type": "application/json"})
    assert got.status_code == 413


def test_wrong_methods_and_paths(client: TestClient) -> None:
    got = client.patch("/v1/items")
    assert got.status_code == 405 and got.headers["allow"] == "DELETE, GET, PUT"
    assert client.put("/v1/names/a/b").headers["allow"] == "GET"
    assert client.get("/v2").status_code == 404
    assert client.get("/v1/recommend/").status_code == 404


def test_a_defect_is_a_problem_without_a_traceback(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    engine = client.app.state.service.engine
    monkeypatch.setattr(engine.live, "sync", broken)
    got = client.post("/v1/recommend", json={"user_id": "u"})
    assert got.status_code == 500 and "secret" not in got.text
    monkeypatch.undo()
    assert client.post("/v1/recommend", json={"user_id": "u"}).status_code == 200


def test_the_log_names_no_user(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(quiet=False)
    with caplog.at_level(logging.INFO, logger="onoma.access"):
        client.post("/v1/recommend", json={"user_id": "private-person"})
        client.get("/v1/users?user_id=private-person")
        client.get("/v1/names/private-item")
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "onoma.access"]
    assert [line["route"] for line in lines] == [
        "/v1/recommend", "/v1/users", "/v1/names/{item_id:path}",
    ]  # fmt: skip
    assert "private" not in json.dumps(lines)


def test_metrics_count_what_was_done(serve: Serve) -> None:
    client = serve()
    client.post("/v1/recommend", json={"user_id": "stranger"})
    text = client.get("/metrics").text
    assert 'onoma_requests_total{route="/v1/recommend",status="200"} 1.0' in text
    assert 'onoma_fallbacks_total{by="popular"} 1.0' in text
    assert 'onoma_stage_seconds_count{stage="model"} 1.0' in text


_DOCUMENTS = st.recursive(
    st.text(max_size=3) | st.none(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=2), x, max_size=2),
    max_leaves=20,
)


@settings(deadline=None)
@given(_DOCUMENTS)
def test_depth_is_that_of_the_document(document: object) -> None:
    def depth(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        return 0

    body = json.dumps(document).encode()
    assert [deeper(body, n) for n in range(8)] == [depth(document) > n for n in range(8)]


def test_a_keyring_compares_whole_tokens(tmp_path) -> None:
    store = open_store(tmp_path / "k.db")
    one, two = add_key(store, "a", ["read"]), add_key(store, "b", ["read"])
    ring = Keyring(store.records("keys"))
    assert ring.find(one) is not None and ring.find(one).name == "a"
    mixed = "_".join([*one.split("_")[:2], two.split("_", 2)[2]])
    assert ring.find(mixed) is None and ring.find(one + "x") is None and ring.find("") is None
    with pytest.raises(OnomaError, match="no scope"):
        add_key(store, "c", ["root"])
