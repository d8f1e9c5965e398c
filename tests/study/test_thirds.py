"""``onoma study thirds``: who is good on which targets."""

import sys
from pathlib import Path

import numpy as np
import pytest

from onoma.study.thirds import SEQUENCE, THIRDS, TITLES, compared, thirds

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder


@pytest.fixture(scope="module")
def data(small_split, tmp_path_factory):
    return str(small_split.dataset.save(tmp_path_factory.mktemp("data") / "small"))


def test_thirds_cover_all_cases_and_popularity_is_for_the_warmest(data, tmp_path):
    words = ["evaluate.candidates={negatives: 4}", "evaluate.ks=[1, 5]"]
    result = thirds(
        data, tmp_path, recipe="popular", beside=["random"], overrides=words, quiet=True
    )
    assert sum(result["cases"][part] for part in THIRDS) == result["cases"]["all"]
    assert result["edges"] == sorted(result["edges"])
    random, popular = result["rows"]
    assert random["parent"] and not popular["parent"] and result["acceptance"] == []
    assert popular["warmest"]["mean"] > popular["coldest"]["mean"]
    assert popular["warmest"]["mean"] > random["warmest"]["mean"]
    again = thirds(data, tmp_path, recipe="popular", beside=["random"], overrides=words, quiet=True)
    assert again == result


def test_tests_are_paired_with_each_parent():
    rng = np.random.default_rng(0)
    low, high = (rng.random(300) < share for share in (0.2, 0.8))
    cases = {"a": low * 1.0, "b": low * 1.0, "system": high * 1.0}
    parts = {"all": np.ones(300, dtype=bool), "coldest": np.zeros(300, dtype=bool)}
    *_, system = compared(cases, parts, ["a", "b"])
    assert "coldest" not in system and set(system["all"]["against"]) == {"a", "b"}
    for test in system["all"]["against"].values():
        assert test["difference"] > 0.4 and test["p"] <= test["p_holm"] < 0.01


def test_a_system_brings_its_parents_along(data, tmp_path):
    pytest.importorskip("transformers")
    settings = (
        f"model={tiny_folder()}", "layers=1", "title=3", "history=3", "negatives=3", "shortlist=5",
        "encoder={name: tfidf, dim: 16}", "joint=16", "align={epochs: 2}", "checked=4",
        "sequence={width: 16, length: 20, train: {epochs: 2, lr: 0.01, batch_tokens: 256}}",
    )  # fmt: skip
    words = [*(f"recommender.{word}" for word in settings), "evaluate.cases=20",
             "evaluate.candidates={negatives: 4}"]  # fmt: skip
    result = thirds(data, tmp_path, overrides=words, quiet=True)
    names = [row["arm"] for row in result["rows"]]
    assert names == [SEQUENCE, TITLES, "a-llmrec", "a-llmrec, mixed", "a-llmrec, joint"]
    assert [row["parent"] for row in result["rows"]] == [True, True, False, False, False]
    assert len(result["acceptance"]) == 4
    assert (tmp_path / "a-llmrec" / "seed0" / "mode-mixed" / "cases.parquet").exists()
