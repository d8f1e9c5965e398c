"""Figures are compared only where the same was asked of the same data."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from onoma import open_run
from onoma.dataset import Dataset, split
from onoma.errors import OnomaError
from onoma.recipe import Recipe
from onoma.recommenders import Requests
from onoma.run import run

SHORT = ["evaluate.candidates={negatives: 5}", "evaluate.ks=[1,3]"]


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """A CSV of ratings of 40 users, and items with titles beside it."""
    draw = np.random.default_rng(3)
    lines = ["user_id,item_id,rating,timestamp"]
    for user in range(40):
        for step, item in enumerate(draw.permutation(25)[:8]):
            lines.append(f"u{user},i{item},{draw.integers(1, 6)},{100 * user + step}")
    path = tmp_path / "rated.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def ran(onoma, *words: object) -> Path:
    out = Path(str(words[words.index("--out") + 1]))
    code, _, err = onoma("run", *words, "--quiet")
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    "words",
    [SHORT[:1], ["evaluate.cases=20"], ["evaluate.history=4"], ["evaluate.mask_seen=false"]],
)
def test_other_questions_are_not_paired(onoma, runs, data: Path, tmp_path: Path, words) -> None:
    other = ran(onoma, "popular", *words, "--data", data, "--out", tmp_path / "other")
    code, _, err = onoma("compare", runs["popular"], other)
    assert code == 2 and "same cases" in err and err.count("\n") == 1


def test_equal_counts_of_other_users_are_not_paired(onoma, data: Path, tmp_path: Path) -> None:
    folders = [
        ran(onoma, "popular", "evaluate.cases=9", f"evaluate.history={n}", "--data", data, "--out",
            tmp_path / f"from-{n}")
        for n in (1, 5)
    ]  # fmt: skip
    assert onoma("compare", *folders)[0] == 2


def test_a_baseline_of_nothing_has_no_shares(as_json, onoma, tmp_path: Path) -> None:
    """Everybody's last item is his own, and another is more popular, so nobody hits."""
    rows = [(f"u{u}", item, t) for u in range(9) for t, item in enumerate(["a", "b", f"own{u}"])]
    rows += [(f"v{u}", item, t) for u in range(9) for t, item in enumerate(["z", "a"])]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "log.csv")
    zero = tmp_path / "sasrec.yaml"
    zero.write_text("name: sasrec\nrecommender: {name: popular}\nevaluate: {ks: [1]}\n")
    words = ["leaderboard", "--data", tmp_path / "log.csv", "--out", tmp_path / "out"]
    words += ["--work", tmp_path / "work", "--seeds", 1, "--recipes", f"{zero},markov"]
    (board,) = as_json(*words, "evaluate.ks=[1]")["boards"]
    assert [row["against"]["share"] for row in board["rows"] if "against" in row] == [None]
    assert "–" in onoma("leaderboard", "--out", tmp_path / "out")[1]


def test_a_board_holds_rows_of_one_question(as_json, data: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "results", tmp_path / "work"
    short = tmp_path / "short.yaml"
    short.write_text(
        "name: short\nrecommender: {name: popular}\n"
        "evaluate: {ks: [1, 3], candidates: {negatives: 5}}\n"
    )
    words = ["leaderboard", "--data", data, "--out", out, "--work", work, "--seeds", 1]
    boards = as_json(*words, "--recipes", f"popular,markov,{short}")["boards"]
    assert [(board["keys"], [r["recipe"] for r in board["rows"]]) for board in boards] in (
        [(["recall@3", "ndcg@3"], ["short"]), (["recall@10", "ndcg@10"], ["markov", "popular"])],
        [(["recall@10", "ndcg@10"], ["markov", "popular"]), (["recall@3", "ndcg@3"], ["short"])],
    )
    assert as_json("leaderboard", "--out", out)["boards"] == boards


def test_yes_and_no_have_a_board_of_their_own(as_json, onoma, rated: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "results", tmp_path / "work"
    words = ["leaderboard", "--data", rated, "--out", out, "--work", work, "--seeds", 1]
    boards = as_json(*words, "--recipes", "popular,liked", "data.seen=3")["boards"]
    assert sorted(board["keys"][-1] for board in boards) == ["auc", "ndcg@10"]
    (liked,) = work.glob("*/judged.parquet")
    figures = as_json("evaluate", liked.parent)
    assert figures["auc"] == pytest.approx(open_run(liked.parent).metrics["test"]["auc"])
    assert onoma("evaluate", liked.parent, "-k", 3)[0] == 2
    code, _, err = onoma("compare", liked.parent, liked.parent)
    assert code == 2 and "yes or no" in err


def test_two_data_sets_of_one_name_are_refused(onoma, rated: Path, tmp_path: Path) -> None:
    twin = tmp_path / "more" / "rated.csv"
    twin.parent.mkdir()
    twin.write_text("\n".join(rated.read_text().splitlines()[:200]))
    words = ["--data", rated, "--data", twin, "--recipes", "popular", "--out", tmp_path / "x"]
    code, _, err = onoma("leaderboard", *words)
    assert code == 2 and "rated/popular-seed0" in err and not (tmp_path / "x").exists()


def test_what_is_measured_again_is_what_was_asked(as_json, onoma, data: Path, tmp_path) -> None:
    short = ran(onoma, "markov", *SHORT, "--data", data, "--out", tmp_path / "short")
    known = open_run(short).metrics["test"]
    assert as_json("evaluate", short)["ndcg@3"] == pytest.approx(known["ndcg@3"])
    stored = pl.read_parquet(short / "cases.parquet")
    twin = shutil.copytree(short, tmp_path / "twin")
    (twin / "cases.parquet").unlink()
    row = as_json("compare", short, twin, "--metric", "ndcg@3")["metrics"]["ndcg@3"][1]
    assert row["difference"] == 0 and row["p"] == 1
    assert pl.read_parquet(twin / "cases.parquet").equals(stored)


@pytest.mark.parametrize("what", ["events", "ratings", "titles"])
def test_changed_data_is_not_answered_from_before(onoma, rated: Path, tmp_path, what: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = pl.read_csv(rated)
    titles = pl.DataFrame({"item_id": [f"i{i}" for i in range(25)], "title": ["red"] * 25})
    log.write_csv(folder / "interactions.csv")
    titles.write_csv(folder / "items.csv")
    words = ["run", "popular", "--data", folder, "--out", tmp_path / "run", "--quiet"]
    assert onoma(*words)[0] == 0
    before = (tmp_path / "run" / "metrics.json").read_text()
    assert onoma(*words)[0] == 0 and (tmp_path / "run" / "metrics.json").read_text() == before
    if what == "events":
        log.head(200).write_csv(folder / "interactions.csv")
    elif what == "ratings":
        log.with_columns(rating=pl.lit(3)).write_csv(folder / "interactions.csv")
    else:
        titles.with_columns(title=pl.lit("blue")).write_csv(folder / "items.csv")
    for verb in (words, ["recommend", tmp_path / "run", "--user", "u0"]):
        code, _, err = onoma(*verb)
        assert code == 2 and "data changed" in err and "--fresh" in err
    assert onoma(*words, "--fresh")[0] == 0
    assert onoma("recommend", tmp_path / "run", "--user", "u0")[0] == 0
    board = ["leaderboard", "--data", folder, "--recipes", "popular", "--seeds", 1]
    board += ["--out", tmp_path / "board", "--work", tmp_path / "work"]
    assert "popular-seed0: recall" in onoma(*board)[2] and onoma(*board)[2] == ""
    titles.with_columns(title=pl.lit("green")).write_csv(folder / "items.csv")
    assert "replaces a row" in onoma(*board)[2]


@pytest.mark.parametrize(
    "words,told",
    [
        (["evaluate.ks=[]"], "evaluate.ks"),
        (["evaluate.ks=[0,10]"], "evaluate.ks"),
        (["evaluate.history=60"], "evaluate.history"),
    ],
)
def test_questions_that_cannot_be_asked_stop_before_training(
    onoma, data: Path, tmp_path: Path, words, told: str
) -> None:
    code, _, err = onoma("run", "markov", *words, "--data", data, "--out", tmp_path / "run")
    assert code == 2 and told in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()  # so that the words can be corrected


def test_a_split_without_validation_cases_is_measured(onoma, tmp_path: Path) -> None:
    """Everybody who acts in the window of validation is new in it."""
    rows = [(f"old{u}", f"i{(u + s) % 9}", s) for u in range(30) for s in range(5)]
    rows += [(f"new{u}", f"i{u % 9}", 500) for u in range(20)]
    rows += [(f"old{u}", f"i{(u + 6) % 9}", 900) for u in range(20)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "log.csv")
    words = ["data.protocol=temporal", "data.valid=0.1", "data.test=0.1"]
    out = ran(onoma, "popular", *words, "--data", tmp_path / "log.csv", "--out", tmp_path / "run")
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["test"]["cases"] == 20 and "valid" not in figures
    assert onoma("run", "popular", "--data", tmp_path / "log.csv", "--out", out)[0] == 2


def test_the_same_recommender_beside_differs_by_what_its_recipe_says(
    onoma, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("name: other\nrecommender: {name: sasrec, blocks: 1, train: {lr: 0.01}}\n")
    words = ["recommender.heads=1", "recommender.train.epochs=1", f"evaluate.beside=[{other}]"]
    for width in (8, 16):  # each has its own beside it
        out = tmp_path / f"run-{width}"
        ran(onoma, "sasrec", f"recommender.width={width}", *words, "--data", data, "--out", out)
        assert out.joinpath("metrics.json").is_file()
    made = [open_run(path).recipe.recommender for path in sorted(tmp_path.glob("other-small-*"))]
    assert sorted((one["width"], one["blocks"]) for one in made) == [(8, 1), (16, 1)]
    assert all(one["train"]["epochs"] == 1 and one["train"]["lr"] == 0.01 for one in made)


def test_what_cannot_stand_beside_stops_before_training(onoma, data: Path, tmp_path: Path) -> None:
    ran(onoma, "markov", "seed=0", "evaluate.ks=[10]", "--data", data, "--out",
        tmp_path / "markov-small")  # fmt: skip
    words = ["popular", "evaluate.beside=[markov]", "--data", data, "--out", tmp_path / "run"]
    code, _, err = onoma("run", *words)
    assert code == 2 and "other settings" in err
    assert not (tmp_path / "run").exists()  # so that the words can be corrected


def test_a_damaged_recipe_in_the_folder_is_told(onoma, data: Path, tmp_path: Path) -> None:
    out = ran(onoma, "popular", "--data", data, "--out", tmp_path / "run")
    (out / "recipe.yaml").write_text("name: [")
    code, _, err = onoma("run", "popular", "--data", data, "--out", out)
    assert code == 2 and "recipe.yaml" in err
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load((out / "recipe.yaml").read_text())


def test_users_are_asked_about_as_the_evaluation_does() -> None:
    log = pl.DataFrame(
        {"user_id": ["a"] * 5, "item_id": list("vwxyz"), "timestamp": [5, None, 1, None, 9]}
    )
    dataset = Dataset.construct(log, name="some")
    parts = split(dataset)
    asked = Requests.known(dataset, 0)
    np.testing.assert_array_equal(asked.history[0][:-1], parts.test.history[0])
    assert parts.test.times is not None and asked.times is not None
    np.testing.assert_array_equal(asked.times[0][:-1], parts.test.times[0])


def test_an_interrupted_run_does_not_go_on_with_other_data(rated, tmp_path, monkeypatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    log, words = tmp_path / "log.csv", ["recommender.train.epochs=2", "recommender.width=8"]
    log.write_bytes(rated.read_bytes())
    recipe, out = Recipe.load("sasrec", words), tmp_path / "run"
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(sys.modules[run.__module__], "write_names", dies)
        run(recipe, str(log), out, quiet=True)
    assert (out / "checkpoint.safetensors").exists() and not (out / "metrics.json").exists()
    begun = (out / "begun.json").read_text()
    (out / "begun.json").write_text("{")
    with pytest.raises(OnomaError, match="--fresh"):
        run(recipe, str(log), out, quiet=True)
    (out / "begun.json").write_text(begun)
    pl.read_csv(log).with_columns(pl.col("timestamp").reverse()).write_csv(log)
    with pytest.raises(OnomaError, match="data changed"):
        run(recipe, str(log), out, quiet=True)
    done = run(recipe, str(log), out, fresh=True, quiet=True)
    assert done.metrics["training"]["epochs"] == 2 and not (out / "begun.json").exists()
