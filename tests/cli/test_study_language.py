"""``onoma study language``: arms that differ in nothing but the texts, and what is made of them."""

from pathlib import Path

import numpy as np
import pytest

from onoma.evaluation.cases import read_cases
from onoma.evaluation.slices import first_targets
from onoma.recipe import Recipe
from onoma.run import asked, open_run
from onoma.study.language import ARMS, rarest

TINY = [
    "recommender.encoder={name: tfidf, dim: 8}",
    "recommender.width=8",
    "recommender.batch=64",
    "recommender.negatives=16",
    "recommender.train={epochs: 2, lr: 0.01, valid_every: 1}",
]


def test_three_arms_are_run_paired_and_kept(as_json, onoma, data: Path, tmp_path):
    words = ["study", "language", *TINY, "--recipe", "alpharec", "--data", data]
    words += ["--out", tmp_path, "--seeds", 2]
    result = as_json(*words)
    arms = {row["arm"]: row for row in result["rows"]}
    assert list(arms) == ["without", "with", "shuffled"]
    assert "against" not in arms["without"]["ndcg@10"]
    for name in ("with", "shuffled"):
        told = arms[name]["ndcg@10"]["against"]
        base, own = arms["without"]["ndcg@10"]["mean"], arms[name]["ndcg@10"]["mean"]
        assert told["difference"] == pytest.approx(own - base, abs=1e-6)
        assert told["p"] <= told["p_holm"] <= 1
    for key, verdict in result["verdict"].items():
        gains = verdict["gains"]
        assert verdict["holds"] == (gains["with"] and not gains["shuffled"]), key
    before = (tmp_path / "with" / "seed1" / "model.safetensors").stat().st_mtime_ns
    assert as_json(*words)["rows"] == result["rows"]
    assert (tmp_path / "with" / "seed1" / "model.safetensors").stat().st_mtime_ns == before
    code, out, _ = onoma(*words)
    assert code == 0 and "gains from its texts and from no others" in out
    code, _, err = onoma("study", "language", "--recipe", "ease", "--data", data)
    assert code == 2 and "ease has no arms" in err


def test_the_cases_are_those_that_a_run_measures(as_json, onoma, data: Path, tmp_path):
    """Short histories leave before cases are drawn; the rare ones are picked among what is left."""
    words = ["study", "language", *TINY, "evaluate.history=4", "evaluate.cases=12"]
    words += ["--recipe", "alpharec", "--data", data, "--out", tmp_path, "--seeds", 1]
    result = as_json(*words)
    base = open_run(tmp_path / "without" / "seed0")
    cases, counts = asked(base.recipe, base.split)[0], base.split.train_counts
    rare = counts[first_targets(cases)] <= rarest(counts)
    assert result["cases"] == len(cases) == 12
    assert result["scarce"]["rare"]["cases"] == rare.sum() > 0
    measured = read_cases(base.path)["ndcg@10"]
    assert result["rows"][0]["rare"]["mean"] == pytest.approx(measured[rare].mean())
    few = counts[first_targets(cases)] <= 5
    assert result["scarce"]["few"]["cases"] == few.sum() > 0
    found = read_cases(base.path)["recall@20"][few].mean()
    assert result["rows"][0]["few"]["mean"] == pytest.approx(found)
    assert "12 cases" in onoma(*words)[1]
    code, _, err = onoma(*words, "evaluate.ks=[1,10]", "--out", tmp_path / "cut")
    assert code == 2 and "evaluate.ks" in err and "20" in err
    assert not (tmp_path / "cut").exists()


def test_the_rarest_quarter_is_as_near_one_as_ties_allow():
    assert rarest(np.repeat([1, 2, 3, 9], [3, 4, 30, 63])) == 3  # 37 % of the items, 2 would be 7
    assert rarest(np.repeat([1, 2, 3, 9], [9, 12, 30, 49])) == 2  # 21 %, 3 would be 51
    assert rarest(np.full(5, 7)) == 7


@pytest.mark.parametrize("name", ["alpharec", "llminit", "llm-kt", "pad"])
def test_arms_share_all_that_is_not_text(name):
    """The backbone has the system's sizes and schedule; a control is the system on other texts."""
    own = Recipe.load(name).recommender
    arms = {arm: make(dict(own), 5) for arm, make in ARMS[name].items()}
    assert arms["with"] == own
    base = arms["without"]
    assert "encoder" not in base and "profiles" not in base
    shared = own["of"] if name == "llm-kt" else own
    for key in set(base) & set(shared) - {"name", "train"}:
        assert base[key] == shared[key]
    epochs = own["train"]["epochs"] + own.get("pretrain", 0) + own.get("align", 0)
    assert base["train"] == {**own["train"], "epochs": epochs}
    for arm in (arm for arm in arms if "shuffled" in arm):
        changed = {key for key in own if arms[arm][key] != own[key]}
        assert changed == ({"profiles"} if name == "llm-kt" else {"encoder"})


def test_the_spectrum_of_tables_by_width_and_beginning(as_json, onoma, data: Path, tmp_path):
    words = ["study", "collapse", *(w for w in TINY if "width" not in w), "--data", data]
    words += ["--out", tmp_path, "--width", 2, "--width", 8]
    words += [word for name in ("random", "uni", "shuffled") for word in ("--begin", name)]
    rows = {(row["width"], row["beginning"]): row for row in as_json(*words)["rows"]}
    assert len(rows) == 6
    for (width, name), row in rows.items():
        assert 1 <= row["effective_rank"] <= width and 1 <= row["directions"] <= width
        assert row["used"] == pytest.approx(row["effective_rank"] / width, abs=0.01)
        assert (row["first"] is None) == (name == "random")
    code, _, err = onoma("study", "collapse", "--data", data, "--begin", "nope")
    assert code == 2 and "no beginning is called 'nope'" in err
    code, _, err = onoma(*words, "--width", 99, "--out", tmp_path / "wide", "--begin", "var")
    assert code == 2 and "cannot begin a table of 99" in err
    assert not (tmp_path / "wide").exists()
