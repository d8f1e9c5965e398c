import json
from pathlib import Path

import pytest

QUICK = ["recommender.train.epochs=1", "recommender.width=8"]


def test_a_grid_is_run_once_and_rendered_from_its_rows(onoma, as_json, data: Path, tmp_path):
    out, work = tmp_path / "results", tmp_path / "work"
    words = ["leaderboard", "--data", data, "--out", out, "--work", work, "--seeds", 2]
    words += ["--recipes", "popular,markov"]
    first = as_json(*words)
    assert sorted(first["ran"]) == [
        f"small/{name}-seed{seed}" for name in ("markov", "popular") for seed in (0, 1)
    ]
    folder = out / "small" / "markov-seed1"
    names = {"recipe.yaml", "metrics.json", "cases.parquet", "row.json", "environment.json"}
    assert names <= {path.name for path in folder.iterdir()}
    row = json.loads((folder / "row.json").read_text())
    assert row["seed"] == 1 and row["dataset"]["hash"] and row["command"].startswith("onoma run")
    assert str(tmp_path) not in "".join(
        path.read_text() for path in folder.iterdir() if path.suffix != ".parquet"
    )
    (board,) = first["boards"]
    assert [r["seeds"] for r in board["rows"]] == [2, 2]
    stamp = (folder / "row.json").stat().st_mtime_ns
    assert as_json(*words)["ran"] == [] and (folder / "row.json").stat().st_mtime_ns == stamp
    again = as_json("leaderboard", "--out", out)
    assert again["boards"] == first["boards"] and again["ran"] == []
    assert "markov" in (out / "leaderboard.html").read_text("utf-8")
    changed = as_json(*words, "evaluate.ks=[10]")
    assert len(changed["ran"]) == 4


def test_rows_are_tested_against_sasrec_and_a_spent_budget_starts_nothing(
    as_json, data: Path, tmp_path
):
    out, work = tmp_path / "results", tmp_path / "work"
    words = ["leaderboard", "--out", out, "--work", work, "--data", data, "--seeds", 1]
    as_json(*words, "--recipes", "sasrec", *QUICK)
    result = as_json(*words, "--recipes", "popular")
    (board,) = result["boards"]
    rows = {row["recipe"]: row for row in board["rows"]}
    assert "against" not in rows["sasrec"] and 0 < rows["popular"]["against"]["p_holm"] <= 1
    gap = rows["popular"]["ndcg@10"]["mean"] - rows["sasrec"]["ndcg@10"]["mean"]
    assert rows["popular"]["against"]["difference"] == pytest.approx(gap, abs=1e-6)
    late = as_json(*words, "--recipes", "markov", "--budget", 0)
    assert late["ran"] == [] and late["pending"] == ["small/markov-seed0"]


def test_an_empty_results_folder_is_told(onoma, tmp_path):
    code, _, err = onoma("leaderboard", "--out", tmp_path)
    assert code == 2 and "no results yet" in err
