import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onoma import Recipe
from onoma.cli.main import main
from onoma.dataset import Dataset, Split
from onoma.run import run

Outcome = tuple[int, str, str]


@pytest.fixture
def onoma(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command line in this process: exit code, stdout, stderr."""

    def call(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def data(small_split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data set in folder form."""
    dataset: Dataset = small_split.dataset
    return dataset.save(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="session")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of two baselines."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: run(Recipe.load(name), str(data), folder / name, quiet=True).path
        for name in ("popular", "markov")
    }


@pytest.fixture
def as_json(onoma: Callable[..., Outcome]) -> Callable[..., object]:
    """What a verb prints with --json."""

    def call(*words: object) -> object:
        code, out, err = onoma(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return call
