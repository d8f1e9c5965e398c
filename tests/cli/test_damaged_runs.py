"""Every verb that reads a run meets damaged ones: a line, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onoma import Recipe
from onoma.run import run

sys.path.insert(0, str(Path(__file__).parents[1]))
from mutations import damaged_runs  # noqa: E402

SMALL = [
    "recommender.encoder={name: tfidf, dim: 8}",
    "recommender.index={method: rqkmeans, levels: 2, size: 8}",
    "recommender.width=16",
    "recommender.depth_width=16",
    "recommender.train.epochs=1",
]
VERBS: list[Callable[[Path, Path], list[object]]] = [
    lambda path, out: ["evaluate", path],
    lambda path, out: ["recommend", path, "--user", "user-0"],
    lambda path, out: ["recommend", path, "--history", "item-1,item-2", "--mode", "generate"],
    lambda path, out: ["index", "health", path],
    lambda path, out: ["compare", path, path.parent / "whole"],
    lambda path, out: ["run", path / "recipe.yaml", "--out", out, "--quiet"],
]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the flagship."""
    out = tmp_path_factory.mktemp("flagship") / "whole"
    return run(Recipe.load("flagship", SMALL), str(data), out, quiet=True).path


def test_damaged_runs(finished: Path, onoma, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    refused, wrong = 0, []
    (tmp_path / "whole").symlink_to(finished)
    for number, mutation in enumerate(damaged_runs(finished, tmp_path)):
        out = tmp_path / "out" / str(number)
        words = VERBS[number % len(VERBS)](mutation.path, out)
        code, _, err = onoma(*words)
        refused += code != 0
        if code == 0:
            continue
        # A recipe that reads well but asks for other things fails by its own words.
        places = (*mutation.files, "recipe", "small")
        if code != 2 or "Traceback" in err:
            wrong.append(f"{mutation.label}: {words[0]}: exit code {code}: {err[:300]}")
        elif len(err.strip().splitlines()) > 1 or len(err) > 1000:
            wrong.append(f"{mutation.label}: {words[0]}: not one line: {err[:300]!r}")
        elif not any(place in err for place in places):
            wrong.append(f"{mutation.label}: {words[0]}: names no place: {err[:300]}")
    assert not wrong, "\n".join(wrong)
    assert refused > 20
