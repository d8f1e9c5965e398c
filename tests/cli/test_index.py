from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onoma import Recipe, encoding
from onoma.cli.named import Named
from onoma.indexing import METHODS, ItemIndex
from onoma.indexing.rendering import from_text, from_tokens
from onoma.run import Run, build


def test_build_health_browse_compare(as_json, onoma, data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "rq", tmp_path / "tree"
    made = as_json("index", "build", "rqkmeans", "levels=2", "size=8", "--data", data,
                   "--out", first)  # fmt: skip
    assert made["health"]["after"]["items"] == 0
    as_json("index", "build", "semantic", "encoder=null", "--data", data, "--out", second)
    judged = as_json("index", "health", first, "--rebuild-seed", 0)
    assert {key: judged[key] for key in made["health"]} == made["health"]
    assert judged["agreement"] == made["agreement"]
    assert judged["agreement"]["levels"][0]["explained"] > 0.2
    assert judged["stability"] == {"unchanged": 1, "first": 1, "mutual": 1}
    assert judged["seconds"] == made["seconds"]["index"] and judged["peak_memory_mb"] > 10
    other = as_json("index", "health", first, "--rebuild-seed", 5)["stability"]
    assert other["unchanged"] < 1 and other["mutual"] < 1
    bare = as_json("index", "health", first, "--bare")
    assert bare["agreement"] is None and bare["levels"] == made["health"]["levels"]
    code, text, err = onoma("index", "health", first, "--rebuild-seed", 0)
    assert code == 0 and "bought together" in text and "100.0% of the names unchanged" in text
    rows = as_json("index", "compare", first, second)
    assert [row["method"] for row in rows] == ["rqkmeans", "semantic"]
    assert rows[1]["explained"][0] is None and rows[1]["alike"][1] > 1.5
    assert onoma("index", "compare", first, second)[0] == 0
    code, text, err = onoma("index", "browse", second, "--titles", 50)
    assert code == 0, err
    assert "semantic, 40 items" in text and "red lipstick number 4" in text
    assert onoma("index", "browse", second, "--html", tmp_path / "names.html")[0] == 0
    assert "red lipstick number 4" in (tmp_path / "names.html").read_text("utf-8")
    code, text, _ = onoma("index", "browse", first, "--prefix", "0")
    assert code == 0 and "below (0,)" in text


@pytest.mark.parametrize("prefix", ["0,0,0,0,0", "99999999999", "99", "-1"])
def test_browse_below_a_prefix_that_no_name_has(onoma, as_json, data, tmp_path, prefix) -> None:
    names = tmp_path / "rq"
    as_json("index", "build", "rqkmeans", "levels=2", "size=8", "--data", data, "--out", names)
    code, _, err = onoma("index", "browse", names, f"--prefix={prefix}")
    assert code == 2 and f"no name begins with {prefix}" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "how", [{}, {"encoder": "collaborative"}, {"index": {"method": "rqkmeans"}}]
)
def test_a_run_is_judged_by_the_vectors_that_named_it(data: Path, tmp_path: Path, how) -> None:
    recipe = Recipe.load("mender", [f"data.path={data}", "recommender.index={method: rqkmeans}"])
    raw = recipe.model_dump(mode="json")
    raw["recommender"].pop("encoder", None)
    raw["recommender"].pop("index")
    raw["recommender"] |= how
    recipe = Recipe.check(raw, "mender")
    named, settings = Named(tmp_path), build(recipe).settings
    named.run = Run(tmp_path, recipe)
    named.run.metrics = {}
    expected = encoding.cached(encoding.build(settings.encoder), named.split)
    assert np.array_equal(named.vectors, expected)
    assert named.again(0).method == settings.index["method"]


def test_export_names_as_text(onoma, as_json, data: Path, tmp_path: Path) -> None:
    names = tmp_path / "tree"
    as_json("index", "build", "semantic", "encoder=null", "--data", data, "--out", names)
    out = tmp_path / "names.csv"
    assert onoma("index", "export", names, "--out", out)[0] == 0
    index, table = ItemIndex.load(names), pl.read_csv(out, infer_schema=False)
    assert table.columns == ["item_id", "title", "name"]
    assert np.array_equal(from_tokens(index, table["name"].to_list()), np.arange(40))
    items = pl.read_parquet(data / "items.parquet")["item_id"]
    assert table["item_id"].to_list() == items.to_list()
    assert onoma("index", "export", names, "--as", "text", "--out", tmp_path / "n.parquet")[0] == 0
    texts = pl.read_parquet(tmp_path / "n.parquet")["name"].to_list()
    assert np.array_equal(from_text(index, texts), np.arange(40))
    code, _, err = onoma("index", "export", names, "--out", tmp_path / "names.txt")
    assert code == 2 and ".csv nor .parquet" in err and not (tmp_path / "names.txt").exists()


def test_methods_are_all_listed(as_json) -> None:
    assert {row["method"] for row in as_json("index", "methods")} == set(METHODS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "nope"], "no way of naming"),
        (["build", "rqkmeans", "wings=2"], "wings"),
        (["build", "rqkmeans", "levels=0"], "levels is 0"),
        (["build", "rqkmeans", "encoder=nope"], "no encoder"),
        (["build", "rqkmeans", "encoder=null"], "names items by vectors"),
        (["build", "title", "column=categories"], "'categories' holds List"),
        (["build", "semantic", "column=item_id2"], "no column 'item_id2'"),
    ],
)
def test_bad_words_are_one_line(onoma, data: Path, tmp_path: Path, words, said) -> None:
    out = tmp_path / "x"
    code, _, err = onoma("index", *words, "--data", data, "--out", out)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not out.exists()
