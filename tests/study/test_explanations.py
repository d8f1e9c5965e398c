"""``onoma study explanations``: what cannot be measured is left out, and what S114 asks."""

import json

import numpy as np

from onoma.recipe import Recipe
from onoma.recommenders.registry import RECOMMENDERS, recommender
from onoma.run import run
from onoma.study import explanations as study

Markov = recommender("markov")


class Low(Markov):
    """In the order of a Markov chain, with scores that are logarithms of something small."""

    name = "low"

    def score(self, requests):
        return super().score(requests) - 1e3


def test_scores_that_are_never_positive_have_no_areas(small_split, tmp_path, monkeypatch):
    data = small_split.dataset.save(tmp_path / "small")
    monkeypatch.setitem(RECOMMENDERS, Low.name, f"{__name__}:Low")
    recipe = Recipe.check({"name": "low", "recommender": {"name": Low.name}}, "low")
    done = run(recipe, str(data), tmp_path / "run", quiet=True)
    methods = ("leave-one-out", "random", "cosine")
    result = study.explanations(
        None, tmp_path / "out", recipes=(), runs=[done.path], methods=methods, users=20
    )
    (about,) = result["models"].values()
    figures = [row["figures"] for row in about["rows"]]
    assert all(np.isnan(row["del"]["mean"]) and np.isnan(row["ins"]["mean"]) for row in figures)
    left = [row["pos@10"]["mean"] for row in figures]
    assert len(left) == 3 and left == sorted(left)
    for found in about["against"]["rivals"].values():
        assert set(found) == {"pos@10", "neg@10", "cdcg"}
    assert "against random: " in study.advice(about) and "del" not in study.advice(about)
    page = (tmp_path / "out" / "explanations.html").read_text("utf-8")
    assert "pos@10: less is better" in page and "nan" not in page
    kept = json.loads((tmp_path / "out" / "explanations.json").read_text("utf-8"))
    assert kept["models"].keys() == result["models"].keys()


def test_acceptance_holds_where_it_should():
    def found(difference, relative):
        return {"difference": difference, "low": 0.0, "high": 0.0, "relative": relative}

    def holds(path, cosine, neg, ins):
        rivals = {
            "path": {"del": found(*path), "neg@10": found(neg, 0.0), "ins": found(ins, 0.0)},
            "cosine": {"del": found(*cosine)},
        }
        return [row["holds"] for row in study.acceptance(rivals)]

    assert holds((-0.1, -0.071), (-0.2, -0.286), 0.006, 0.0) == [True] * 4
    assert holds((-0.01, -0.04), (0.1, -0.3), -0.01, -0.02) == [False] * 4
    # Without a rival, or where a figure could not be measured, nothing is said.
    assert [row["holds"] for row in study.acceptance({"path": {"neg@10": found(0.1, 0.1)}})] == [
        None, None, True, None
    ]  # fmt: skip
    assert study.acceptance({})[0]["measured"] == ""
