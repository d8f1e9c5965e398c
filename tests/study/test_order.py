"""``onoma study order`` on recommenders for whom order is nothing, and all."""

import sys
from pathlib import Path

import numpy as np
import pytest

from onoma.dataset import Ragged
from onoma.study.order import WITH, WITHOUT, YARDSTICK, order, permuted

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder


@pytest.fixture(scope="module")
def data(small_split, tmp_path_factory):
    return str(small_split.dataset.save(tmp_path_factory.mktemp("data") / "small"))


def test_popularity_is_blind_to_order_and_a_chain_has_nothing_else(data, tmp_path):
    result = order(data, tmp_path, recipes=["popular", "markov"], seeds=[0, 1], trained=True,
                   quiet=True)  # fmt: skip
    popular, markov = result["rows"]
    assert popular["sensitivity"]["mean"] == 0 and popular["against"]["p_holm"] == 1
    assert popular["trained"] == popular["original"]
    assert markov["sensitivity"]["low"] > 0.1 and markov["against"]["p_holm"] < 0.05
    assert markov["trained"]["mean"] < markov["original"]["mean"]
    assert len(markov["sensitivity"]["seeds"]) == 2 and result["acceptance"] == []
    assert "cosine" not in markov and (tmp_path / "order.json").exists()


def test_rows_are_cut_before_they_are_mixed():
    whole = Ragged.from_rows([range(30), [7], []])
    users = np.array([5, -1, 6])
    mixed = permuted(whole.last(10), users, 0)
    assert sorted(mixed[0]) == list(range(20, 30)) and mixed[0].tolist() != list(range(20, 30))
    assert mixed[1].tolist() == [7] and len(mixed[2]) == 0
    assert np.array_equal(permuted(whole.last(10), users, 0).values, mixed.values)
    assert not np.array_equal(permuted(whole.last(10), users, 1).values, mixed.values)


def test_the_bridged_model_with_and_without_its_lesson(data, tmp_path):
    pytest.importorskip("transformers")
    sequence = (
        "recommender.sequence={width: 16, blocks: 1, heads: 1, length: 20, "
        "train: {epochs: 4, lr: 0.01, batch_tokens: 256}}"
    )
    settings = f"model={tiny_folder()}", "layers=1", "hidden=16", "title=3", "history=4"
    words = [*(f"recommender.{word}" for word in settings), "evaluate.cases=20", sequence]
    result = order(data, tmp_path, seeds=[0], overrides=words, quiet=True)
    arms = [YARDSTICK, f"{YARDSTICK}, last 4", WITHOUT, WITH]
    assert [row["arm"] for row in result["rows"]] == arms
    assert [row["reads"] for row in result["rows"]] == [20, 4, 4, 4]
    assert len({row["permuted"]["mean"] for row in result["rows"][:2]}) == 2
    assert all(-1 <= row["cosine"] < 1 for row in result["rows"])
    assert len(result["acceptance"]) == 2 and result["distilled"]["loss"]["cases"] == 20
    again = order(data, tmp_path, seeds=[0], overrides=words, quiet=True)  # kept runs
    assert again["rows"] == result["rows"]
