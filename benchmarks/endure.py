"""What the service survives: kills, a database that goes away, hours of load, swaps.

    python benchmarks/endure.py RUN --kill 20
    python benchmarks/endure.py RUN --postgres 5
    python benchmarks/endure.py RUN --minutes 10
    python benchmarks/endure.py RUN --swap OTHER

``--kill`` ends the server with SIGKILL under event load and counts what is in the store
afterwards. ``--postgres`` stops and starts a PostgreSQL server of its own under the same load.
``--minutes`` sends all kinds of requests and watches the memory. ``--swap`` puts two runs of one
folder in each other's place under load. Leaves with 1 where anything was lost, twice there or
failed.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onoma.errors import OnomaError
from onoma.serving.client import Client
from onoma.serving.store import open_store

PATIENCE = 120.0  # seconds that a start may take before it counts as failed


class Program:
    """``onoma serve`` on a run; :attr:`ready` is the seconds that the last start took."""

    def __init__(self, run: Path, store: Path | str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        words = [sys.executable, "-m", "onoma", "serve", run, "--store", store, "--port", self.port]
        self._words = [str(word) for word in (*words, "--quiet")]
        self.client = Client(f"http://127.0.0.1:{self.port}", timeout=60)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        began = time.perf_counter()
        self.process = subprocess.Popen(self._words, stderr=subprocess.DEVNULL)
        atexit.register(self.process.kill)
        while True:
            try:
                self.client.call("GET", "/health/ready")
                break
            except OnomaError:
                if self.process.poll() is not None or time.perf_counter() - began > PATIENCE:
                    raise SystemExit("the server did not start") from None
                time.sleep(0.02)
        self.ready = time.perf_counter() - began

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory(self) -> float:
        """MiB of memory that is its own."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        raise SystemExit("/proc does not tell the memory")


class Senders:
    """Threads that send batches of events, and remember which were acknowledged."""

    def __init__(self, client: Client, item: str, threads: int = 4) -> None:
        self._client, self._item = client, item
        self.acknowledged: set[str] = set()
        self.failed = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(threads)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def _send(self, worker: int) -> None:
        turn, mark = 0, f"{time.monotonic_ns()}-{worker}"
        while not self._stop.is_set():
            turn += 1
            ids = [f"{mark}-{turn}-{n}" for n in range(5)]
            rows = [{"event_id": i, "user_id": f"w{worker}", "item_id": self._item} for i in ids]
            while not self._stop.is_set():  # the same again until it is acknowledged
                try:
                    done = self._client.events(rows)
                except OnomaError:
                    self.failed += 1
                    time.sleep(0.2)
                    continue
                if done["accepted"] + done["duplicates"] != len(rows):
                    raise SystemExit(f"not taken: {done}")
                self.acknowledged.update(ids)
                break

    def stop(self) -> None:
        """Wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def counted(store: str, acknowledged: set[str]) -> bool:
    """Print and tell whether each acknowledged event is in the store once."""
    opened = open_store(store)
    kept: list[str] = []
    after = 0
    while events := opened.events(after):
        kept += [event.event_id for event in events]
        after = events[-1].seq
    opened.close()
    missing, twice = len(acknowledged - set(kept)), len(kept) - len(set(kept))
    print(f"{len(acknowledged)} events acknowledged: {missing} missing, {twice} twice")
    return missing == 0 and twice == 0


def some_items(client: Client, count: int = 200) -> list[str]:
    """Ids of the catalogue."""
    return [item["item_id"] for item in client.call("GET", f"/v1/items?limit={count}")["items"]]


def kills(run: Path, times: int, folder: Path) -> bool:
    """SIGKILL under event load, again and again."""
    store = str(folder / "store.db")
    program = Program(run, store)
    first, ready = program.ready, []
    senders = Senders(program.client, some_items(program.client)[0])
    rng = random.Random(0)
    for _ in range(times):
        time.sleep(rng.uniform(0.5, 1.5))
        program.kill()
        program.start()
        ready.append(program.ready)
    time.sleep(0.5)
    senders.stop()
    last = program.client.recommend("w0")
    program.kill()
    print(f"first start {first:.2f} s; killed {times} times, ready again in {_spread(ready)} s")
    good = counted(store, senders.acknowledged) and last["fallback"] is None
    return good and max(ready) < 5


@contextmanager
def database(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A PostgreSQL server of its own: its URL, what starts it, and what stops it at once."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    control = str(found[0]) if found else shutil.which("pg_ctl")
    if control is None:
        raise SystemExit("no PostgreSQL server is installed")
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
        folder.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"

    def run(*words: str) -> None:
        subprocess.run(
            [control, "-D", str(data), "-w", *words], check=True, user=user, cwd=folder,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    run("initdb", "-o", "-A trust -U onoma")

    def start() -> None:
        run("-o", settings, "-l", str(folder / "log"), "start")

    def stop() -> None:
        run("-m", "immediate", "stop")

    start()
    try:
        yield f"postgresql://onoma@127.0.0.1:{port}/postgres", start, stop
    finally:
        stop()


def database_stops(run: Path, times: int, folder: Path) -> bool:
    """The database is stopped at once and started under event load, and the server killed too."""
    with database(folder) as (url, start, stop):
        program = Program(run, url)
        senders = Senders(program.client, some_items(program.client)[0])
        back, killed = [], []
        for _ in range(times):
            time.sleep(1.0)
            stop()
            time.sleep(1.0)
            start()
            began = time.perf_counter()
            before = len(senders.acknowledged)
            while len(senders.acknowledged) == before:
                if time.perf_counter() - began > PATIENCE:
                    raise SystemExit("no event was kept after the database came back")
                time.sleep(0.01)
            back.append(time.perf_counter() - began)
            program.kill()
            program.start()
            killed.append(program.ready)
        time.sleep(1.0)
        senders.stop()
        program.kill()
        print(
            f"PostgreSQL stopped {times} times: events kept again {_spread(back)} s after it came"
        )
        print(f"server killed {times} times, ready again in {_spread(killed)} s")
        return counted(url, senders.acknowledged) and max(killed) < 5


def lasting(run: Path, minutes: float, folder: Path, clients: int = 4) -> bool:
    """All kinds of requests for some minutes; memory after the first tenth and at the end."""
    program = Program(run, folder / "store.db")
    client, items = program.client, some_items(program.client)
    stop, done, errors = threading.Event(), [0] * clients, []

    def work(worker: int) -> None:
        rng = random.Random(worker)
        while not stop.is_set():
            history = rng.sample(items, 30)
            asks: list[Callable[[], Any]] = [
                lambda h=history: client.recommend(history=h),
                lambda h=history: client.recommend(user_id=f"u{rng.randrange(50)}", history=h[:5]),
                lambda h=history: client.recommend(history=h, filter=f"title != '{h[0]}'"),
                lambda h=history: client.search(rng.choice(["love", "star", "toy story"])),
                lambda h=history: client.similar(h[0]),
                lambda h=history: client.chat([{"role": "user", "content": "a comedy"}]),
                lambda h=history: client.recommend(history=h[:10], k=3, explain=True),
                lambda h=history: client.models(),
            ]
            weights = [40, 20, 10, 10, 10, 5, 1, 4]
            try:
                rng.choices(asks, weights)[0]()
                done[worker] += 1
            except Exception as error:
                errors.append(str(error))

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(clients)]
    [thread.start() for thread in threads]
    began, seen = time.monotonic(), []
    while time.monotonic() - began < 60 * minutes:
        time.sleep(min(10.0, 6 * minutes))
        seen.append((time.monotonic() - began, program.memory()))
    stop.set()
    [thread.join() for thread in threads]
    program.kill()
    warm = [mib for at, mib in seen if at > 6 * minutes]
    first, grown = warm[0], max(warm[-3:]) / warm[0] - 1
    print(
        f"{minutes:g} minutes, {sum(done)} requests, {len(errors)} failed; memory {first:.0f} MiB "
        f"after a tenth, {warm[-1]:.0f} MiB at the end, at most {max(warm):.0f} ({grown:+.1%})"
    )
    for error in sorted(set(errors))[:5]:
        print(error)
    print(json.dumps([[round(at), round(mib, 1)] for at, mib in seen[:: max(1, len(seen) // 12)]]))
    return not errors and grown < 0.05


def swaps(run: Path, other: str, folder: Path, seconds: float = 20.0) -> bool:
    """Two runs take each other's place while four clients ask."""
    program = Program(run, folder / "store.db")
    items = some_items(program.client)
    stop, answers, errors = threading.Event(), [], []

    def work(worker: int) -> None:
        rng = random.Random(worker)
        while not stop.is_set():
            try:
                found = program.client.recommend(history=rng.sample(items, 20))
                answers.append(found["model"])
            except Exception as error:
                errors.append(str(error))

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    [thread.start() for thread in threads]
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        program.client.swap((other, run.resolve().name)[count % 2])
        count += 1
    program.client.call("POST", "/v1/models/restore")
    stop.set()
    [thread.join() for thread in threads]
    program.kill()
    each = {name: answers.count(name) for name in sorted(set(answers))}
    print(f"{count + 1} swaps under load: {len(answers)} requests {each}, {len(errors)} failed")
    return not errors and len(each) == 2


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{ordered[0]:.2f} to {ordered[-1]:.2f} (median {ordered[len(ordered) // 2]:.2f})"


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--kill", type=int, metavar="TIMES")
    parser.add_argument("--postgres", type=int, metavar="TIMES")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--swap", metavar="OTHER", type=lambda word: Path(word).name,
                        help="a run beside RUN, by name or path")  # fmt: skip
    args = parser.parse_args()
    good = []
    for asked, what in (
        (args.kill, kills), (args.postgres, database_stops), (args.minutes, lasting),
        (args.swap, swaps),
    ):  # fmt: skip
        if asked:
            with tempfile.TemporaryDirectory(prefix="onoma-endure-") as folder:
                good.append(what(args.run, asked, Path(folder)))
    if not good:
        parser.error("nothing was asked for")
    raise SystemExit(not all(good))


if __name__ == "__main__":
    main()
