from pathlib import Path

import polars as pl
import pytest

from onoma import open_run
from onoma.cli.systems import load
from onoma.dataset.load import load as onoma_load
from onoma.recipe import Recipe, packaged


def test_run_prints_figures_and_leaves_a_report(onoma, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    code, text, err = onoma("run", "popular", "--data", data, "--out", out, "--quiet")
    assert code == 0, err
    assert "ndcg@10" in text
    assert {"recipe.yaml", "metrics.json", "report.html"} <= {path.name for path in out.iterdir()}
    code, _, err = onoma("run", "markov", "--data", data, "--out", out)
    assert code == 2
    assert "other settings" in err


def test_arms_of_an_experiment_lie_side_by_side(
    onoma, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def folders(*words: str) -> set[str]:
        code, _, err = onoma("run", "markov", *words, "--data", data, "--quiet")
        assert code == 0, err
        return {path.name.removeprefix(f"markov-{data.name}") for path in Path("runs").iterdir()}

    plain = folders()
    assert plain == {""}
    arms = folders("evaluate.ks=[5, 10]", "seed=1") | folders(f"evaluate.ks={list(range(1, 60))}")
    assert arms > {"", "-evaluate.ks=5_10-seed1"} and len(arms) == 3  # long lists by their digest
    assert folders("seed=1", "evaluate.ks=[5,10]") == arms  # the same settings, the same run


def test_evaluate_repeats_the_figures_of_the_run(as_json, onoma, runs: dict[str, Path]) -> None:
    known = open_run(runs["markov"]).metrics
    assert as_json("evaluate", runs["markov"])["ndcg@10"] == pytest.approx(known["test"]["ndcg@10"])
    assert as_json("evaluate", runs["markov"], "--part", "valid")["recall@5"] == pytest.approx(
        known["valid"]["recall@5"]
    )
    again = as_json("evaluate", runs["markov"], "--repeats", "-k", 3)
    assert "recall@3" in again and "recall@10" not in again
    code, _, err = onoma("evaluate", runs["markov"], "--mode", "wrong")
    assert code == 2
    assert "no mode 'wrong'" in err


def test_compare_pairs_the_cases(as_json, onoma, runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    result = as_json("compare", runs["popular"], runs["markov"], "--html", page)
    base, other = result["metrics"]["ndcg@10"]
    figures = {name: open_run(path).metrics["test"]["ndcg@10"] for name, path in runs.items()}
    assert base["mean"] == pytest.approx(figures["popular"], abs=1e-6)
    assert other["difference"] == pytest.approx(figures["markov"] - figures["popular"], abs=1e-6)
    assert other["low"] <= other["difference"] <= other["high"]
    assert "markov" in page.read_text("utf-8")
    code, _, err = onoma("compare", *runs.values(), "--metric", "nonsense")
    assert code == 2
    assert "no metric 'nonsense'" in err


def test_compare_does_not_trust_stale_cases(as_json, runs: dict[str, Path]) -> None:
    path = runs["markov"] / "cases.parquet"
    as_json("compare", *runs.values())
    good = pl.read_parquet(path)
    good.with_columns(pl.col("ndcg@10") + 0.25).write_parquet(path)
    after = as_json("compare", *runs.values())["metrics"]["ndcg@10"][1]["mean"]
    assert after == pytest.approx(good["ndcg@10"].mean(), abs=1e-6)
    path.write_bytes(b"PAR1 damaged")
    assert as_json("compare", *runs.values())["metrics"]["ndcg@10"][1]["mean"] == after


def test_compare_refuses_other_data(onoma, runs: dict[str, Path], data: Path, tmp_path) -> None:
    onoma("run", "popular", "data.ties=id", "--data", data, "--out", tmp_path / "x", "--quiet")
    code, _, err = onoma("compare", runs["popular"], tmp_path / "x")
    assert code == 2
    assert "same cases" in err


def test_recommend_answers_users_and_strangers(as_json, onoma, runs: dict[str, Path]) -> None:
    run = runs["markov"]
    known = as_json("recommend", run, "--user", "user-0", "-k", 4)
    assert 0 < len(known["items"]) <= 4
    answered = [row["item_id"] for row in known["items"]]
    assert not set(answered) & set(known["history"])
    words = ["--history", ",".join(known["history"])]
    if not any("," in word for word in known["history"]):
        assert as_json("recommend", run, *words, "-k", 4)["items"] == known["items"]
    banned = as_json("recommend", run, "--user", "user-0", "--exclude", answered[0])
    assert answered[0] not in [row["item_id"] for row in banned["items"]]
    for wrong in (["--history", "nowhere"], ["--user", "nobody"], ["--history", " , "]):
        code, _, err = onoma("recommend", run, *wrong)
        assert code == 2
        assert err.count("\n") == 1


def test_recommend_has_no_ceiling_of_the_catalogue(as_json, runs: dict[str, Path]) -> None:
    items = as_json("recommend", runs["popular"], "--user", "user-0", "-k", 9999)["items"]
    assert len({row["item_id"] for row in items}) == len(items)


def test_systems_agree_with_the_recipes(as_json) -> None:
    rows = load()
    assert [row["id"] for row in rows] == [f"S{number:03}" for number in range(1, 120)]
    recipes = {name: Recipe.load(name) for name in packaged()}
    named = {row["id"]: row["recipe"] for row in rows if "recipe" in row}
    covered = {recipe.system: name for name, recipe in recipes.items() if recipe.system}
    assert named == covered
    for row in rows:
        done = row.get("measured", [{"holds": [False]}])[0]
        whole = "part" not in row and all(done["holds"])
        assert (row["status"] == "ready") == (row["id"] in covered or whole)
    assert as_json("systems", "tiger")[0]["id"] == "S033"


def test_what_was_measured_stands_beside_what_was_asked(onoma, data_folder: Path) -> None:
    hashes = {"movielens": onoma_load("packaged:movielens").hash}
    for row in (row for row in load() if "measured" in row):
        for done in row["measured"]:
            assert len(row["acceptance"]) == len(done["figures"]) == len(done["holds"])
            name = done["data"]
            if name not in hashes:
                hashes[name] = onoma_load(str(data_folder / name)).hash
            assert done["hash"] == hashes[name]
        verb, *words = row["command"].removeprefix("onoma ").split()
        assert onoma(verb, *words[: words.index("--data")], "--help")[0] == 0
    code, text, _ = onoma("systems", "s116")
    assert code == 0 and "recall@10 of exact search" in text and "0.484" in text
    assert "3 of 3" in onoma("systems", "VQ")[1]
    assert "not measured yet" in onoma("systems", "S005")[1]


def test_doctor_measures(as_json) -> None:
    found = as_json("doctor")
    assert found["matrix_rate_gflops"]["float32"] > 0
    assert found["extras"]["dev"] != "not installed"
