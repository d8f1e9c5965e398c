from pathlib import Path

import pytest

from onoma.run import open_run

TINY = ["recommender.hidden=8", "recommender.latent=4", "recommender.train.epochs=2"]


def test_explains_the_first_recommendation(onoma, as_json, runs) -> None:
    split = open_run(runs["markov"]).split
    user = str(split.dataset.users["user_id"][int(split.test.users[0])])
    first = as_json("recommend", runs["markov"], "--user", user)
    found = as_json("explain", runs["markov"], "--user", user)
    assert found["item_id"] == first["items"][0]["item_id"] and found["method"] == "exact"
    assert found["score"] == pytest.approx(first["items"][0]["score"])
    assert {e["item_id"] for e in found["contributions"]} == set(first["history"])
    # Of a chain of first order the last item brings everything.
    assert found["contributions"][0]["item_id"] == first["history"][-1]
    code, out, _ = onoma("explain", runs["markov"], "--user", user, "-k", 1)
    assert code == 0 and f"[{found['item_id']}]" in out and "contribution" in out


def test_explains_any_item_and_leaves_it_out_of_the_history(as_json, runs) -> None:
    found = as_json(
        "explain", runs["markov"], "--history", "item-1,item-2", "--item", "item-1",
        "--method", "leave-one-out",
    )  # fmt: skip
    assert [entry["item_id"] for entry in found["contributions"]] == ["item-2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either --user or --history"),
        (["--user", "nobody"], "no user 'nobody'"),
        (["--history", "item-1", "--item", "nothing"], "no item 'nothing'"),
        (["--history", "item-1", "--method", "guess"], "no method of explanation"),
        (["--history", "item-1", "--method", "spinrec"], "differentiable"),
    ],
)
def test_what_cannot_be_explained_is_told(words, said, onoma, runs) -> None:
    code, out, err = onoma("explain", runs["markov"], *words)
    assert code == 2 and not out and said in err and err.count("\n") == 1


def test_a_study_ranks_methods_by_deletion(as_json, onoma, data: Path, runs, tmp_path) -> None:
    words = ["study", "explanations", *TINY, "data.test=0.5", "--data", data, "--out", tmp_path]
    words += ["--recipe", "spinrec", "--run", runs["markov"], "--users", 12]
    result = as_json(*words)
    vae, chain = result["models"]["spinrec"], result["models"][str(runs["markov"])]
    areas = [row["figures"]["del"]["mean"] for row in vae["rows"]]
    assert areas == sorted(areas) and vae["users"] == 12
    assert "exact" not in {row["method"] for row in vae["rows"]}
    by_name = {row["method"]: row["figures"] for row in chain["rows"]}
    assert "spinrec" not in by_name
    assert by_name["exact"]["del"]["mean"] < by_name["random"]["del"]["mean"]
    assert vae["against"]["method"] == "spinrec" and chain["against"]["method"] == "exact"
    page = (tmp_path / "explanations.html").read_text("utf-8")
    assert "spinrec against path" in page
    assert len(vae["acceptance"]) == 4 and "acceptance" not in chain
    assert all(row["holds"] is not None for row in vae["acceptance"])
    _, out, _ = onoma(*words, "--method", "spinrec", "--method", "path")
    assert "S114: ins not worse" in out and "S114: ins not worse" in page
    late = [*words, "--run", tmp_path / "none", "--out", tmp_path / "late"]
    code, _, err = onoma(*late)
    assert code == 2 and "not a run directory" in err and not (tmp_path / "late").exists()
    code, _, err = onoma("study", "explanations", "--data", data, "--method", "nope")
    assert code == 2 and "'nope'" in err
