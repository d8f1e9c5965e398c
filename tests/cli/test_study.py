import shutil
from pathlib import Path

import numpy as np

from onoma.recommenders.base import Requests
from onoma.run import open_run

SMALL = [
    "recommender.encoder={name: tfidf, dim: 8}",
    "recommender.width=16",
    "recommender.depth_width=16",
    "recommender.train.epochs=1",
]

METHODS = ("random", "rqkmeans", "rqkmeans-joined")
NO_TAGS = ("semantic", "random")


def test_a_study_ranks_methods_and_writes_a_page(as_json, onoma, data: Path, tmp_path) -> None:
    methods = [word for name in METHODS for word in ("--method", name)]
    words = ["study", "indexing", *SMALL, *methods, "--data", data, "--out", tmp_path]
    words += ["--seeds", 2, "--work", tmp_path / "work"]
    result = as_json(*words)
    means = [row["ndcg@10"]["mean"] for row in result["rows"]]
    assert len(means) == 3 and means == sorted(means, reverse=True)
    assert all(row["seeds"] == 2 and row["invalid"] == 0 for row in result["rows"])
    folder = tmp_path / "small"
    speller = open_run(folder / "random-seed1")
    assert speller.metrics["test"] == speller.metrics["modes"]["generate"]
    code, _, err = onoma("run", "popular", "--data", data, "evaluate.modes=[sing]")
    assert code == 2 and "no mode is called 'sing'" in err
    assert f"use {result['rows'][0]['index']}." in result["advice"]
    page = (folder / "study.html").read_text("utf-8")
    against = {row["index"]: row.get("against") for row in result["rows"]}
    assert against["rqkmeans"] is None and f"(p {against['random']['p']:.3f})" in page
    shutil.rmtree(tmp_path / "work")  # rows stand without the weights
    assert as_json(*words)["rows"] == result["rows"] and not (tmp_path / "work").exists()
    code, _, err = onoma("study", "indexing", "--data", data, "--method", "nope")
    assert code == 2 and "no index is called 'nope'" in err


def test_a_catalogue_without_categories_skips_what_needs_them(as_json, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    lines = [f"u{n // 6},i{n * 7 % 11},{n}" for n in range(120)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    methods = [word for name in NO_TAGS for word in ("--method", name)]
    small = [word for word in SMALL if "encoder" not in word]
    small.append("recommender.encoder={name: collaborative, dim: 4}")
    out = tmp_path / "study"
    words = ["study", "indexing", *small, *methods, "--data", log, "--out", out, "--seeds", 1]
    words += ["--work", tmp_path / "work"]
    result = as_json(*words)
    assert [row["index"] for row in result["rows"]] == ["random"]
    assert "no column 'categories'" in result["skipped"]["semantic"]
    assert [path.name for path in (out / "log").glob("*-seed0")] == ["random-seed0"]
    assert len(list((tmp_path / "work").iterdir())) == 1


def test_a_speller_beside_a_given_trunk_leaves_its_ranking_as_it_is(onoma, data: Path, tmp_path):
    words = ["run", "flagship", *SMALL, "--data", data, "--quiet"]
    assert onoma(*words, "--out", tmp_path / "trunk")[0] == 0
    beside = [f"recommender.trunk={tmp_path}/trunk", "recommender.index={method: random}"]
    assert onoma(*words, *beside, "--out", tmp_path / "beside")[0] == 0
    trunk, speller = (open_run(tmp_path / name) for name in ("trunk", "beside"))
    asked = Requests.of(trunk.split.test)
    ranked, spelled = (
        [done.recommender.recommend(asked, 10, mode=mode).items for done in (trunk, speller)]
        for mode in ("rank", "generate")
    )
    assert np.array_equal(*ranked) and not np.array_equal(*spelled)
    code, _, err = onoma(*words, f"recommender.trunk={tmp_path}/none", "--out", tmp_path / "lost")
    assert code == 2 and "none" in err
