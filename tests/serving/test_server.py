"""The real program in a process of its own: killed, swapped under load, refreshed."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import Serve
from endure import Program

from onoma.errors import OnomaError
from onoma.run import open_run
from onoma.serving.client import Client, ServiceError
from onoma.serving.options import Options
from onoma.serving.refresh import merged, refresh
from onoma.serving.server import check
from onoma.serving.store import Event, Record, open_store
from onoma.serving.view import View


@pytest.fixture
def program(runs: Path, tmp_path: Path) -> Iterator[Program]:
    made = Program(runs / "markov", tmp_path / "store.db")
    yield made
    made.kill()


def test_killed_under_load_it_keeps_every_event_it_acknowledged(
    program: Program, tmp_path: Path
) -> None:
    acknowledged: set[str] = set()
    for round_ in range(3):
        stop = threading.Event()

        def send(worker: int, round_: int = round_, stop: threading.Event = stop) -> None:
            for turn in range(10_000):
                if stop.is_set():
                    return
                ids = [f"{round_}-{worker}-{turn}-{n}" for n in range(5)]
                rows = [{"event_id": i, "user_id": f"w{worker}", "item_id": "1"} for i in ids]
                try:
                    done = program.client.events(rows)
                except OnomaError:
                    return
                assert done["accepted"] == 5
                acknowledged.update(ids)

        threads = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
        [thread.start() for thread in threads]
        time.sleep(1.0)
        program.kill()
        stop.set()
        [thread.join() for thread in threads]
        program.start()
    kept = [event.event_id for event in open_store(tmp_path / "store.db").events()]
    assert acknowledged <= set(kept) and len(kept) == len(set(kept)) and len(acknowledged) > 30
    assert program.client.recommend("w1")["fallback"] is None


def test_a_swap_under_load_fails_no_request(program: Program) -> None:
    answers: list[str] = []
    errors: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(program.client.recommend(history=["1"], k=3)["model"])
            except Exception as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    [thread.start() for thread in threads]
    assert program.client.swap("tiny")["name"] == "tiny"
    time.sleep(0.3)
    stop.set()
    [thread.join() for thread in threads]
    assert not errors and set(answers) == {"markov", "tiny"}
    program.kill()
    program.start()
    assert program.client.models()["current"]["name"] == "tiny"
    with pytest.raises(ServiceError) as refused:
        program.client.swap("nothing")
    assert refused.value.status == 404


def test_refresh_learns_what_the_store_has(runs: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    store.put("items", [Record("new", {"title": "New", "attributes": {"year": 2030}}),
                        Record("260", {}, gone=True)])  # fmt: skip
    users = [f"fresh{n}" for n in range(30)]
    store.add_events(
        [Event(f"{u}{i}", u, i, "view", 2_000_000_000 + n)
         for u in users for n, i in enumerate(["1", "480", "new", "3114"])]
        + [Event("d", "fresh0", "480", "dislike", 2_000_000_001),
           Event("z", "fresh0", "no such", "view", 2_000_000_001)]
    )  # fmt: skip
    run = open_run(runs / "markov")
    dataset, through = merged(run.dataset, store)
    assert through == store.events()[-1].seq
    assert dataset.n_interactions == run.dataset.n_interactions + 120 - int(
        (run.dataset.interactions["item"] == run.dataset.item_codes(["260"])[0]).sum()
    )
    assert dataset.item_codes(["260"])[0] == -1 and dataset.item_codes(["new"])[0] >= 0
    made = refresh(runs / "markov", store, quiet=True)
    assert made.path.name == "markov+1"
    view = View.load(made.path, store.id)
    assert view.through == through and view.catalogue.has("new")
    assert json.loads((made.path / "refresh.json").read_text())["from"] == "markov"
    row = view.past[view.past_user["fresh3"]]
    assert [view.catalogue.ids[code] for code in row] == ["1", "480", "new", "3114"]
    with pytest.raises(OnomaError, match="nothing new"):
        refresh(runs / "markov", open_store(tmp_path / "empty.db"))


def test_a_refreshed_run_hides_events_of_its_own_store_alone(
    serve: Serve, runs: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "first.db")
    store = open_store(path)
    store.add_events([Event(str(n), "ann", i, "like", n) for n, i in enumerate(["1", "260"])])
    made = refresh(runs / "markov", store, quiet=True)
    event = {"user_id": "ann", "item_id": "480"}
    for client, wanted in (
        (serve(made.path.name, store=path), ["1", "260", "480"]),
        (serve(made.path.name), ["1", "260", "480"]),
    ):
        client.post("/v1/events", json={"events": [event]})
        (ann,) = client.get("/v1/users?user_id=ann").json()["users"]
        assert ann["history"] == wanted
    other = open_store(tmp_path / "other.db")
    other.add_events([Event("x", "bo", "1", "like", 5)])
    assert merged(made.dataset, other)[0].n_interactions == made.dataset.n_interactions + 1
    more = refresh(made.path, other, quiet=True)
    assert more.dataset.n_interactions == made.dataset.n_interactions + 1


def test_an_erased_user_who_comes_back_is_learnt_anew(
    serve: Serve, runs: Path, tmp_path: Path
) -> None:
    client = serve("markov", store=str(tmp_path / "back.db"))
    store = client.app.state.service.store

    def done(item: str) -> None:
        client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": item}]})

    def history() -> list[str]:
        users = client.get("/v1/users?user_id=1").json()["users"]
        return users[0]["history"] if users else []

    done("1")
    client.delete("/v1/users?user_id=1")
    done("260")
    done("480")
    made = refresh(runs / "markov", store, quiet=True)
    client.post("/v1/models/swap", json={"run": made.path.name})
    done("1196")
    assert history() == ["260", "480", "1196"]
    again, through = merged(made.dataset, store, View.load(made.path, store.id).through)
    codes = again.past(again.user_code("1"))["item"].to_numpy()
    assert again.item_ids[codes].tolist() == ["260", "480", "1196"]
    swapped = refresh(made.path, store, quiet=True)
    client.post("/v1/models/swap", json={"run": swapped.path.name})
    assert history() == ["260", "480", "1196"]
    client.delete("/v1/users?user_id=1")  # the last event that the run has read is its last
    assert history() == [] and merged(again, store, through)[0].user_code("1") == -1


def test_workers_are_not_started_on_a_run_that_cannot_be_opened(runs: Path, tmp_path: Path) -> None:
    options = Options(run=str(tmp_path), store=str(tmp_path / "s.db"), workers=2)
    with pytest.raises(OnomaError, match="not a run"):
        check(options)
    check(options.model_copy(update={"run": str(runs / "markov")}))


def test_the_client_tells_what_is_wrong(free_port: int) -> None:
    with pytest.raises(OnomaError, match="cannot be reached"):
        Client(f"http://127.0.0.1:{free_port}").models()
    with pytest.raises(OnomaError, match="not an http address"):
        Client("ftp://x")


def test_the_client_names_events_so_that_sending_again_keeps_one() -> None:
    sent = []

    class Recorded(Client):
        def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
            sent.extend(body["events"])
            return {}

    mine = {"event_id": "mine", "user_id": "u", "item_id": "1"}
    Recorded().events([mine, {"user_id": "u", "item_id": "1"}, {"user_id": "u", "item_id": "1"}])
    assert sent[0] == mine and len({event["event_id"] for event in sent}) == 3
