"""The service under load from a second process, beside a bare FastAPI ping.

    python benchmarks/serve.py

A flagship of the recipe's size over 20,000 items, trained for an epoch (weights do not change the
time), answers bare histories of 50 over loopback. The clients are asynchronous connections of one
process that each wait for an answer before the next request. Prints requests a second and the
latencies that the clients saw, and the processor's time for one request on each side.

``--peers PYTHON`` names the interpreter of an environment with ``implicit`` and ``rectools[torch]``
(they cap numpy below 2): their recommendation for one user is timed in the same run, in process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

PING = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI(telemetry={"tracing": False, "metrics": False})
@app.get("/ping")
async def ping():
    return {"ok": True}
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


def prepared(folder: Path, items: int) -> Path:
    """A run of the flagship on synthetic data."""
    sys.path.insert(0, str(Path(__file__).parent))
    from recommend import synthetic

    from onoma import Recipe
    from onoma.run import run

    out = folder / f"flagship-{items}"
    if not (out / "metrics.json").exists():
        data = synthetic(items).save(folder / f"data-{items}")
        settings = [
            "recommender.encoder={name: tfidf}",
            "recommender.train.epochs=1",
            "recommender.train.batch_tokens=8192",
            "evaluate.modes=[rank]",
        ]
        run(Recipe.load("flagship", settings), str(data), out, quiet=True)
    return out


def started(command: list[str], url: str) -> subprocess.Popen[bytes]:
    """A process, once it answers."""
    process = subprocess.Popen(command)
    for _ in range(600):
        time.sleep(0.1)
        try:
            urllib.request.urlopen(url).read()
            return process
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the server did not start") from None
    raise SystemExit("the server did not answer")


async def client(port: int, requests: list[bytes], until: float, times: list[float]) -> None:
    """Send one request after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for place in range(10**9):
        began = time.perf_counter()
        if began > until:
            break
        writer.write(requests[place % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - began)
    writer.close()


async def load(port: int, requests: list[bytes], clients: int, seconds: float) -> None:
    """All clients at once; prints one line of JSON."""
    times: list[float] = []
    for span in (min(2.0, seconds), seconds):  # the first warms up
        times.clear()
        until = time.perf_counter() + span
        parts = [requests[place::clients] for place in range(clients)]
        await asyncio.gather(*(client(port, part, until, times) for part in parts))
    done = np.array(times) * 1e3
    p50, p99 = np.percentile(done, [50, 99])
    print(json.dumps({"rps": len(done) / seconds, "p50": p50, "p99": p99, "max": done.max()}))


def written(path: str, body: object | None) -> bytes:
    """A whole request."""
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def bodies(items: int, count: int = 256) -> list[object]:
    """Histories of 50."""
    rng = np.random.default_rng(1)
    return [
        {"history": [f"i{code}" for code in rng.choice(items, 50, replace=False)], "k": 10}
        for _ in range(count)
    ]


def measured(port: int, what: str, clients: int, seconds: float, items: int) -> dict[str, float]:
    """The load, from a process of its own."""
    words = [sys.executable, __file__, "--load", what, "--port", str(port)]
    words += ["--clients", str(clients), "--seconds", str(seconds), "--items", str(items)]
    return dict(json.loads(subprocess.run(words, check=True, capture_output=True).stdout))


def cpu_seconds(pid: int) -> float:
    """What a process and its threads have used, where /proc tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answered(port: int) -> float:
    """Recommendations that the service has counted."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    head = 'onoma_requests_total{route="/v1/recommend",status="200"} '
    return sum(float(line[len(head) :]) for line in text.splitlines() if line.startswith(head))


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Print one line for the ping and one for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="keeps the run for the next time")
    parser.add_argument("--peers", default=os.environ.get("ONOMA_PEERS"))
    parser.add_argument("--load", choices=["ping", "recommend"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        made = [written("/ping", None)]
        if args.load == "recommend":
            made = [written("/v1/recommend", body) for body in bodies(args.items)]
        asyncio.run(load(args.port, made * args.clients[0], args.clients[0], args.seconds))
        return
    folder = args.folder or Path(tempfile.mkdtemp(prefix="onoma-serve-"))
    run = prepared(folder, args.items)
    port = free_port()
    process = started([sys.executable, "-c", PING, str(port)], f"http://127.0.0.1:{port}/ping")
    spent = cpu_seconds(process.pid)
    ping = measured(port, "ping", 8, args.seconds, args.items)
    spent = 1e3 * (cpu_seconds(process.pid) - spent) / (ping["rps"] * _both(args.seconds))
    process.kill()
    print(f"ping        8 clients  {_line(ping)}  {spent:.2f} ms of processor a request")
    port, store = free_port(), folder / f"load-{os.getpid()}.db"
    command = [sys.executable, "-m", "onoma", "serve", str(run), "--port", str(port), "--quiet"]
    process = started([*command, "--store", str(store)], f"http://127.0.0.1:{port}/health/ready")
    for clients in args.clients:
        spent, asked = cpu_seconds(process.pid), answered(port)
        found = measured(port, "recommend", clients, args.seconds, args.items)
        spent, asked = cpu_seconds(process.pid) - spent, answered(port) - asked
        each = f"{1e3 * spent / max(asked, 1):.2f} ms of processor a request"
        print(f"recommend {clients:3} clients  {_line(found)}  {each}")
    process.terminate()
    process.wait()
    if args.peers is None:
        print("implicit, RecTools: left out; name an interpreter that has them with --peers")
        return
    script = str(Path(__file__).with_name("serving_peers.py"))
    out = subprocess.run([args.peers, script, str(args.items)], capture_output=True, text=True)
    line = next((x for x in out.stdout.splitlines() if x.startswith("PEER ")), None)
    if line is None:
        raise SystemExit(f"the peers failed:\n{out.stderr[-2000:]}")
    for name, found in json.loads(line[5:]).items():
        print(
            f"{name:<30} p50 {found['p50']:6.2f} ms  p99 {found['p99']:6.2f} ms  "
            f"{found['cpu']:.2f} ms of processor a request"
        )


def _both(seconds: float) -> float:
    """Seconds of load with those that warm up."""
    return seconds + min(2.0, seconds)


def _line(found: dict[str, float]) -> str:
    return (
        f"{found['rps']:7.0f} requests/s  p50 {found['p50']:6.2f} ms  p99 {found['p99']:6.2f} ms"
        f"  max {found['max']:7.2f} ms"
    )


if __name__ == "__main__":
    main()
