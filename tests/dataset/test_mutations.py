"""Nothing that can be fed to an importer ends in a traceback or a half-written folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from onoma.cli.data import app
from onoma.dataset.load import load
from onoma.errors import OnomaError

sys.path.insert(0, str(Path(__file__).parents[1]))
from mutations import Mutation, mutations  # noqa: E402

N = 500
COMMAND = typer.main.get_command(app)


def _use(mutation: Mutation, out: Path, policy: str) -> None:
    if mutation.kind == "data":
        words = ["import", str(mutation.path), "--out", str(out), "--bad-rows", policy, "--json"]
        COMMAND.main(args=words, standalone_mode=False)
    elif mutation.kind == "recipe":
        from onoma.recipe import Recipe

        Recipe.load(str(mutation.path))
    else:
        from onoma.indexing.index import ItemIndex

        ItemIndex.load(mutation.path)


def _complaint(mutation: Mutation, out: Path, policy: str) -> tuple[bool, str | None]:
    """Whether it was refused, and what was wrong with how."""
    try:
        _use(mutation, out, policy)
    except OnomaError as error:
        line = str(error)
        if "\n" in line or len(line) > 1000:
            return True, f"not one short line: {line[:200]!r}"
        if not any(name in line for name in mutation.files):
            return True, f"names no place: {line}"
        return True, "left something behind" if out.exists() else None
    except BaseException as error:  # a panic of a library is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return True, f"{type(error).__name__}: {str(error)[:200]}"
    if mutation.kind == "data":
        load(out)
    return False, None


@pytest.mark.parametrize("kind", ["data", "recipe", "index"])
def test_mutated_inputs(
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Waiting for the disk a thousand times proves nothing here.
    monkeypatch.setattr("os.fsync", lambda handle: None)
    outs, refused, wrong, tried = tmp_path / "out", 0, [], 0
    outs.mkdir()
    for number, mutation in enumerate(mutations(tmp_path / "in", N, kind=kind)):
        tried += 1
        policy = "refuse" if number % 2 else "set-aside"
        was_refused, complaint = _complaint(mutation, outs / mutation.label, policy)
        refused += was_refused
        if complaint:
            wrong.append(f"{mutation.label}: {complaint}")
        if list(outs.glob(".*")):
            wrong.append(f"{mutation.label}: a temporary folder is left")
    capsys.readouterr()
    assert not wrong, "\n".join(wrong)
    assert tried // 5 < refused <= tried
