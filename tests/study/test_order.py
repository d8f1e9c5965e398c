"""``onoma study order`` on recommenders for whom order is nothing, and all."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from onoma.dataset import Cases, Ragged
from onoma.errors import OnomaError
from onoma.recommenders.base import Recommender
from onoma.recommenders.registry import recommender
from onoma.study.order import WITH, WITHOUT, YARDSTICK, order, permuted, sensitivity

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


class Listener(Recommender):
    """Keeps what it is asked."""

    name = "listener"
    reads = frozenset({"history", "liked"})
    window = 3

    def __init__(self):
        self.asked = []

    def fit(self, split):
        return self

    def score(self, requests):
        self.asked.append(requests)
        return torch.zeros(len(requests), 12)

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder, dataset):
        raise NotImplementedError


def test_likes_move_with_their_items_and_times_stay():
    history = Ragged.from_rows([range(8), [9, 4]])
    liked = Ragged(history.offsets, (history.values % 2).astype(np.int8))
    times = Ragged(history.offsets, np.arange(10, dtype=np.int64))
    cases = Cases(
        np.array([3, 4], np.int32), history, Ragged.from_rows([[10], [11]]), times=times,
        liked=liked,
    )  # fmt: skip
    for masked in (True, False):
        model = Listener()
        sensitivity(model, cases, seed=2, mask_seen=masked)
        plain, mixed = model.asked
        assert plain.history[0].tolist() == [5, 6, 7] != mixed.history[0].tolist()
        assert sorted(mixed.history[0]) == [5, 6, 7]
        for one in (plain, mixed):
            assert (one.liked.values == one.history.values % 2).all()
            assert one.times.values.tolist() == [5, 6, 7, 8, 9]
            assert sorted(set(one.forbidden()[0].tolist())) == (list(range(8)) if masked else [])


@pytest.mark.parametrize(
    ("name", "settings", "window"),
    [
        ("sasrec", {"length": 30}, 30),
        ("a-llmrec", {"sequence": {"length": 30}, "history": 4}, 30),
        ("ilm", {"sequence": {"length": 30}, "history": 40}, 40),
        ("rsllm", {"sequence": {"length": 30}, "history": 4}, 30),
        ("llm-srec", {"sequence": {"length": 30}, "history": 4}, 4),  # the SASRec only teaches
        ("bigrec", {"sasrec": {"length": 30}, "recent": 4}, 30),
        ("bigrec", {"signal": "popularity", "recent": 4}, 4),
        ("tallrec", {"length": 7}, 7),
        ("sasrecllm", {"sequence": {"length": 30}, "length": 7}, None),  # its last likes
        ("llm-kt", {"of": {"name": "sasrec", "length": 30}}, 30),
        ("llm-kt", {"of": {"name": "lightgcn"}}, None),
        ("p5", {"length": 7}, 7),
        ("grank", {"length": 7, "long": 9}, 9),
        ("corr", {"length": 9, "ranker": {"length": 7}}, 9),
        ("fintrec", {"length": 7}, None),  # the whole activity is one of its inputs
        ("tiger", {"length": 7}, 7),
        ("listwise-llm", {"recent": 3}, 3),
        ("preference-llm", {"recent": 3}, None),  # tastes are of the whole history
        ("popular", {}, None),
    ],
)
def test_models_say_how_far_back_they_read(name, settings, window):
    assert recommender(name).create(settings).window == window


def test_arms_of_one_name_are_refused_before_anything_is_fitted(data, tmp_path):
    with pytest.raises(OnomaError, match="popular"):
        order(data, tmp_path, recipes=["popular", "markov", "popular"], seeds=[0], quiet=True)
    assert not list(tmp_path.iterdir())


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
    recipe = {"name": "sasrec", "recommender": {"name": "popular"}, "evaluate": {"cases": 20}}
    (tmp_path / "sasrec.yaml").write_text(yaml.safe_dump(recipe))
    order(data, tmp_path, recipes=[str(tmp_path / "sasrec.yaml")], seeds=[0], quiet=True)
    assert order(data, tmp_path, seeds=[0], overrides=words, quiet=True)["rows"] == result["rows"]
