"""``onoma data``: exit codes, JSON, and no half-written folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onoma.cli.main import main
from onoma.dataset.load import load

GOOD = "user_id,item_id,timestamp\na,x,1\na,y,2\na,z,3\nb,x,1\n"


def onoma(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["data", *map(str, words)])
    return int(left.value.code or 0)


def test_import_info_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = tmp_path / "l.csv", tmp_path / "out"
    log.write_text(GOOD + "b,y,never\n")
    assert onoma("import", log, "--out", out) == 2
    told = capsys.readouterr().err
    assert "l.csv, line 6: timestamp 'never' is not a time" in told and told.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["l.csv"]

    assert onoma("import", log, "--out", out, "--bad-rows", "set-aside", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["interactions"] == 4 and record["rejected"] == 1
    assert json.loads((out / "rejects.jsonl").read_text())["place"] == 6
    assert load(out).hash == record["hash"]

    assert onoma("import", log, "--out", out, "--bad-rows", "1") == 2
    assert "not empty" in capsys.readouterr().err
    assert (
        onoma(
            "import",
            log,
            "--out",
            out,
            "--bad-rows",
            "1",
            "--overwrite",
            "--k-core",
            2,
            "--name",
            "two",
        )
        == 2
    )
    assert load(out).hash == record["hash"]  # a failed import leaves the old one
    assert onoma("import", log, "--out", out, "--bad-rows", "1", "--overwrite") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.csv", "out"]
    capsys.readouterr()

    assert onoma("info", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["items"] == 3
    assert onoma("validate", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and {f["check"] for f in found["findings"]} >= {"short-users"}
    assert onoma("validate", log) == 2
    assert "bad-rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--rename", "user_id"],
        ["--bad-rows", "maybe"],
        ["--time-unit", "h"],
        ["--format", "xls"],
        ["--since", "soon"],
        ["--keep", "some"],
        ["--min-rating", "3"],
        ["--encoding", "klingon"],
        ["--columns", "a,b"],
        ["--rename", "user_id=nobody"],
        ["--k-core", "-1"],
        ["--texts"],
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "l.csv"
    log.write_text(GOOD)
    assert onoma("import", log, "--out", tmp_path / "out", *words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("import", "info", "validate"):
        assert onoma(verb, "--help") == 0
        assert f"onoma data {verb} " in capsys.readouterr().out
