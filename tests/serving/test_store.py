import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onoma.errors import OnomaError
from onoma.serving.store import Event, Record, Store, open_store

BIN = next(
    (p.parent for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None
)


class Server:
    """A PostgreSQL server in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.as_root = os.geteuid() == 0
        if self.as_root:
            shutil.chown(folder, "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._run("initdb", "-D", folder / "data", "-A", "trust", "-U", "onoma", "--no-sync")
        self.start()
        self.url = f"postgresql://onoma@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        self._run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l",
                  self.folder / "log", "-w", "start")  # fmt: skip

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", how, "-w", "stop")

    def _run(self, command: str, *words: object) -> None:
        assert BIN is not None
        subprocess.run(
            [str(BIN / command), *map(str, words)], check=True, stdout=subprocess.DEVNULL,
            user="postgres" if self.as_root else None, cwd=self.folder,
        )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if BIN is None:
        pytest.skip("no PostgreSQL server is installed")
    pytest.importorskip("psycopg", reason="the postgres extra is not installed")
    # Not below pytest's own folder, which only its owner may enter.
    folder = Path(f"/tmp/onoma-pg-{os.getpid()}")
    folder.mkdir()
    made = Server(folder)
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    import psycopg

    server: Server = request.getfixturevalue("server")
    with psycopg.connect(server.url, autocommit=True) as admin:
        name = f"t{time.monotonic_ns()}"
        admin.execute(f"CREATE DATABASE {name}")
    return server.url.removesuffix("postgres") + name


def _event(number: int, user: str = "u") -> Event:
    return Event(f"e{number}", user, "i\u2603'--", "view", number, 1.5, None)


def test_events_are_kept_once_in_order_and_seen_by_others(url: str) -> None:
    one, two = open_store(url), open_store(url)
    seen = two.version()
    assert one.add_events([_event(1), _event(2), _event(1)]) == [True, True, False]
    assert two.version() != seen
    seen = two.version()
    assert two.version() == seen
    assert two.add_events([_event(2), _event(3)]) == [False, True]
    for store in (one, two, open_store(url)):
        kept = store.events()
        assert [e.event_id for e in kept] == ["e1", "e2", "e3"]
        assert [e.seq for e in kept] == sorted({e.seq for e in kept})
        assert kept[0].item_id == "i\u2603'--" and kept[0].value == 1.5
        assert store.events(kept[1].seq) == kept[2:]
        assert store.events(0, limit=1) == kept[:1]
    assert one.forget(["u"]) == 3 and two.events() == []
    one.add_events([_event(4)])
    assert two.events()[0].seq > kept[-1].seq


def test_records_are_replaced_and_follow_in_the_order_of_changes(url: str) -> None:
    store = open_store(url)
    store.put("items", [Record("a", {"t": 1}), Record("b", {"t": [None, "é"]})])
    first = store.records("items")
    store.put("items", [Record("a", {"t": 2}, gone=True)])
    assert [(r.id, r.gone) for r in store.records("items", first[-1].seq)] == [("a", True)]
    assert [r.id for r in store.records("items")] == ["b", "a"]
    assert {r.id: r.data for r in store.get("items", ["a", "zz"])} == {"a": {"t": 2}}
    with pytest.raises(ValueError):
        store.put("nothing", [])


def test_a_store_has_an_id_that_no_other_has(url: str, tmp_path: Path) -> None:
    one, two = open_store(url), open_store(url)
    assert one.id == two.id != open_store(tmp_path / "other.db").id
    assert one.records("settings") == [] and one.add_events([_event(1)]) == [True]
    assert open_store(url).id == one.id and one.events()[0].seq == 1


def test_concurrent_writers_lose_and_repeat_nothing(url: str) -> None:
    stores = [open_store(url) for _ in range(2)]

    def write(worker: int) -> int:
        kept = 0
        for turn in range(15):
            ids = [_event(turn * 3 + k, f"u{worker}") for k in range(3)]
            kept += sum(stores[worker % 2].add_events(ids))
        return kept

    with ThreadPoolExecutor(8) as pool:
        fresh = sum(pool.map(write, range(8)))
    events = stores[0].events()
    assert fresh == len(events) == len({e.event_id for e in events}) == 45
    assert len({e.seq for e in events}) == 45


def test_a_failing_call_fails_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    bad = Event("x", None, "i", "view", 1)  # type: ignore[arg-type]
    results: list[object] = []

    def send(event: Event) -> None:
        try:
            results.append(store.add_events([event]))
        except Exception as error:
            results.append(type(error).__name__)

    threads = [threading.Thread(target=send, args=(e,)) for e in (_event(1), bad, _event(2))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    kept = {e.event_id for e in store.events()}
    assert {"e1", "e2"} <= kept


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but long enough to look at" * 100)
    with pytest.raises(OnomaError, match="cannot be opened"):
        open_store(tmp_path / "x.db")
    with pytest.raises(OnomaError, match="no such kind"):
        open_store("mysql://x")


def test_postgres_stopped_and_started_loses_nothing(server: Server) -> None:
    store: Store = open_store(server.url)
    acknowledged: list[str] = []
    done = threading.Event()

    def load() -> None:
        number = 0
        while not done.is_set():
            number += 1
            try:
                store.add_events([_event(number, "load")])
            except Exception:
                continue
            acknowledged.append(f"e{number}")

    thread = threading.Thread(target=load)
    thread.start()
    for _ in range(2):
        time.sleep(0.5)
        server.stop("immediate")  # as if the power went
        server.start()
    time.sleep(0.5)
    done.set()
    thread.join()
    kept = [e.event_id for e in store.events() if e.user_id == "load"]
    assert len(kept) == len(set(kept)) and set(acknowledged) <= set(kept) and acknowledged
    store.close()


_WRITER = """
import sys
from onoma.serving.store import Event, open_store
store = open_store(sys.argv[1])
from concurrent.futures import ThreadPoolExecutor
def send(number):
    store.add_events([Event(f"{sys.argv[2]}-{number}", "u", "i", "view", number)])
    sys.stdout.write(f"{sys.argv[2]}-{number}\\n")
    sys.stdout.flush()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(send, range(100000)))
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    said: set[str] = set()
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), f"r{round_}"], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.wait()
        said |= {line.decode().strip() for line in lines if line.endswith(b"\n")}
    kept = [event.event_id for event in open_store(path).events()]
    assert said <= set(kept) and len(kept) == len(set(kept)) and len(said) >= 150
