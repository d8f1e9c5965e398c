"""What a run tells of answers of a language model: their cost, their gain, those of no use."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")


def test_a_run_tells_cost_gain_and_bad_answers(onoma, data, tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tiny import tiny_folder

    words = ["run", "pointwise-llm", "--data", data, "--quiet", "data.min_rating=null"]
    words += [f"recommender.model={tiny_folder()}", "evaluate.beside=[popular]"]
    words += ["evaluate.cases=12", "evaluate.mask_seen=false", "evaluate.examples=1"]
    code, out, err = onoma(*words, "--out", tmp_path / "first")
    assert code == 0, err
    assert "a case took 5.0 calls" in out and "1,000 tokens gain" in out
    first = json.loads((tmp_path / "first" / "metrics.json").read_text("utf-8"))
    cost, test = first["cost"], first["test"]
    assert cost["records"] == 12 and cost["calls"] == 5
    assert cost["random"]["ndcg@3"] == pytest.approx(0.4262, abs=1e-4)
    tokens = cost["prompt_tokens"] + cost["completion_tokens"]
    gain = 1000 * (test["ndcg@3"] - cost["random"]["ndcg@3"]) / tokens
    assert cost["gain"]["ndcg@3"] == pytest.approx(gain)
    assert test["unanswered"] == 0 and test["worst"]["ndcg@3"] == pytest.approx(test["ndcg@3"])
    assert "mean over the ranks" in first["protocol"]["equal_scores"]
    # A second run reads the answers off the disk; what they took is told all the same.
    assert onoma(*words, "--out", tmp_path / "second")[0] == 0
    second = json.loads((tmp_path / "second" / "metrics.json").read_text("utf-8"))
    assert second["cost"] == cost
    assert second["test"]["ndcg@3"] == test["ndcg@3"]
    page = (tmp_path / "first" / "report.html").read_text("utf-8")
    assert "gained by 1,000 tokens" in page
