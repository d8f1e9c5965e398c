"""Who may come into the studio where keys are asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from onoma.serving.app import create_app
from onoma.serving.keys import add_key, revoke_key
from onoma.serving.options import Options
from onoma.studio import door, runs
from onoma.studio.frame import Studio

REPORT = "/studio/report/markov"


@pytest.fixture
def client(markov: Path, tmp_path: Path) -> Iterator[TestClient]:
    store = str(tmp_path / "store.db")
    options = Options(run=str(markov), store=store, require_keys=True, quiet=True)
    app = create_app(options)
    service, sessions = app.state.service, door.Sessions()
    app.include_router(door.routes(options, service.keys, sessions))
    app.include_router(runs.routes(Studio(app, service)))
    app.add_middleware(door.Door, options=options, keys=service.keys, sessions=sessions)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as made:
        yield made


def _key(client: TestClient, scope: str) -> str:
    service = client.app.state.service  # type: ignore[attr-defined]
    token = add_key(service.store, scope, [scope])
    service.follow()
    return token


def test_strangers_are_sent_to_the_door_and_a_read_key_opens_it(client: TestClient) -> None:
    away = client.get(REPORT)
    assert (away.status_code, away.headers["location"]) == (303, door.LOGIN)
    assert client.get(door.LOGIN).status_code == 200
    entered = client.post(door.LOGIN, data={"key": _key(client, "read")})
    cookie = entered.headers["set-cookie"].lower()
    assert entered.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie
    report = client.get(REPORT)
    assert report.status_code == 200 and "markov" in report.text
    assert "default-src 'self'" in report.headers["content-security-policy"]
    assert client.get("/v1/models").status_code == 401, "the cookie is the studio's alone"
    kept = {"cookie": f"{door.COOKIE}={client.cookies[door.COOKIE]}"}
    client.post(f"{door.PREFIX}/logout")
    for headers in ({}, kept):
        assert client.get(REPORT, headers=headers).status_code == 303


def test_unknown_keys_and_keys_without_the_read_scope_stay_out(client: TestClient) -> None:
    for token, status in (("onoma_nothing", 401), (_key(client, "write"), 403)):
        refused = client.post(door.LOGIN, data={"key": token})
        assert refused.status_code == status and "set-cookie" not in refused.headers
    assert client.get(REPORT).status_code == 303


def test_a_revoked_key_closes_the_sessions_it_opened(client: TestClient) -> None:
    token = _key(client, "read")
    client.post(door.LOGIN, data={"key": token})
    assert client.get(REPORT).status_code == 200
    service = client.app.state.service  # type: ignore[attr-defined]
    revoke_key(service.store, token.split("_")[1])
    service.follow()
    assert client.get(REPORT).status_code == 303


def test_pages_of_other_sites_may_not_ask(client: TestClient) -> None:
    client.post(door.LOGIN, data={"key": _key(client, "read")})
    assert client.get(REPORT, headers={"origin": "http://elsewhere.example"}).status_code == 403
    assert client.get(REPORT, headers={"origin": "http://localhost"}).status_code == 200


def test_reports_are_of_runs_in_the_folder_alone(client: TestClient) -> None:
    client.post(door.LOGIN, data={"key": _key(client, "read")})
    for name in ("nothing", "markov%2f..%2fmarkov", "..%2fmarkov"):
        assert client.get(f"/studio/report/{name}").status_code == 404
