"""SASRecLLM: the shared suite, then what is its own."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from conformance import Conformance

sys.path.insert(0, str(Path(__file__).parents[1]))
from onoma.dataset import Cases, Dataset, Ragged
from onoma.dataset.likes import likes
from onoma.errors import OnomaError
from onoma.evaluation.likes import judged
from onoma.recommenders.base import Requests
from onoma.recommenders.tuned.sasrecllm import SASRecLLM
from tiny import tiny_folder

pytest.importorskip("peft")
SEQUENCE = {
    "width": 16, "heads": 2, "input_dropout": 0.1,
    "train": {"epochs": 20, "lr": 1e-2, "batch_tokens": 256, "valid_every": 5},
}  # fmt: skip


def sasrecllm(epochs=1, mapping=1, schedule=(), **settings):
    quick = {"lr": 1e-2, "valid_every": 1, **dict(schedule)}
    settings = {
        "model": str(tiny_folder()), "sequence": SEQUENCE, "shots": 16, "mapped": 200, "batch": 8,
        "length": 3, "validated": 60, "train": {"epochs": epochs, **quick},
        "mapping": {"epochs": mapping, **quick}, **settings,
    }  # fmt: skip
    return SASRecLLM(**{"quiet": True, **settings})


class TestSASRecLLM(Conformance):
    def make(self):
        return sasrecllm(layers=1, length=2)


@pytest.fixture(scope="module")
def camps():
    """Every second film is liked by all, the others by nobody; titles do not say which."""
    draw = np.random.default_rng(0)
    rows = [
        (f"u{n}", f"i{item}", 5.0 if item % 2 else 1.0, 100 * step + n)
        for n in range(160)
        for step, item in enumerate(draw.permutation(24)[:8])
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(24)], "title": ["A film"] * 24})
    return likes(Dataset.construct(log, items, name="camps"), seen=4)


def test_vectors_tell_what_words_cannot(camps):
    model = sasrecllm(mapping=8).fit(camps)
    found = {mode: judged(model, camps.test, camps, mode).summary()["auc"] for mode in model.modes}
    assert found["hybrid"] > 0.9 and found["text"] < 0.7


def test_the_map_is_all_that_its_stage_moves(camps):
    """Text answers stay as the second step left them, and without a map in training nothing is."""
    torch.manual_seed(0)
    short = sasrecllm(mapping=1).fit(camps)
    long = sasrecllm(mapping=2).fit(camps)
    part = camps.test.take(np.arange(6))
    assert np.allclose(short.judge(part, "text"), long.judge(part, "text"), atol=1e-5)
    assert not np.allclose(short.judge(part, "hybrid"), long.judge(part, "hybrid"), atol=1e-3)
    assert short.training["text"]["epochs"] == 1


def test_mapped_vectors_are_as_long_as_words(camps):
    model = sasrecllm().fit(camps)
    with torch.no_grad():
        soft = model.soft(camps.test.take(np.arange(5)))
    words = model.module.lm.get_input_embeddings().weight.norm(dim=1).mean()
    assert soft.shape == (10, model.module.width)
    assert torch.allclose(soft.norm(dim=1), words.expand(10), rtol=1e-3)


def test_what_was_not_liked_is_kept_from_the_sequence_model(camps):
    model = sasrecllm().fit(camps)
    mixed = [0 < camps.test.liked[row].mean() < 1 for row in range(len(camps.test))]
    row = int(np.flatnonzero(mixed)[0])
    part = camps.test.take(np.array([row]))
    liked = part.history[0][part.liked[0] > 0]
    alone = Cases(part.users, Ragged.from_rows([liked]), part.targets, labels=part.labels)
    with torch.no_grad():
        assert torch.allclose(model.soft(part), model.soft(alone), atol=1e-5)


def test_a_sequence_model_beside_is_told_the_likes_alone(camps):
    """Else it would take dislikes for likes; they may not be answered all the same."""
    model = sasrecllm().fit(camps).sequence
    part = camps.test.take(np.arange(20))
    likes = [part.history[row][part.liked[row] > 0] for row in range(20)]
    alone = Cases(part.users, Ragged.from_rows(likes), part.targets, labels=part.labels)
    assert part.liked.values.min() == 0
    assert np.allclose(judged(model, part, camps).scores, judged(model, alone, camps).scores)
    told = model.recommend(Requests.of(part), 100).items
    for row in range(20):
        assert not np.isin(told[row], part.history[row]).any()
    free = model.recommend(Requests.of(part, mask_seen=False), 100).items
    assert np.isin(free[0], part.history[0]).any()


def test_dealt_vectors_are_those_of_other_items(camps):
    model, dealt = sasrecllm().fit(camps), sasrecllm(dealt=True).fit(camps)
    part = camps.test.take(np.arange(6))
    with torch.no_grad():
        items = model.module.items[torch.from_numpy(part.targets.values.astype(np.int64))]
        own = dealt.module.mapped(items)
        put = dealt.soft(part).view(6, 2, -1)[:, 1]
    assert not torch.allclose(put, own, atol=1e-4)
    assert np.allclose(model.judge(part, "text"), dealt.judge(part, "text"), atol=1e-5)


@pytest.fixture
def own(tmp_path):
    """The path of a prompt of these words."""

    def write(user, *names):
        told = {"name": "own", "version": 1, "about": "a test", "user": user,
                "placeholders": dict.fromkeys(names, "something")}  # fmt: skip
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(told))
        return str(tmp_path / "own.yaml")

    return write


@pytest.mark.parametrize("order", [("taste", "item"), ("item", "taste"), ("item",)])
def test_every_vector_stands_in_its_own_place(camps, own, order):
    places = ", ".join(f"the {name}: ${name}" for name in order)
    model = sasrecllm(hybrid=own(f"$liked, $target? {places}", "liked", "target", *order))
    model.fit(camps)
    part = camps.test.take(np.arange(3))
    mixed = model.composed(part, "hybrid")
    with torch.no_grad():
        put = model.module._inputs(mixed, model.soft(part))[tuple(mixed.slots.unbind(1))]
        items = torch.from_numpy(part.targets.values.astype(np.int64))
        item = model.module.mapped(model.module.items[items])
    found = [torch.allclose(put[place :: len(order)], item, atol=1e-5)
             for place in range(len(order))]  # fmt: skip
    assert found == [name == "item" for name in order]


def test_a_prompt_with_places_that_nothing_fills_is_refused_before_fitting(camps, own):
    model = sasrecllm(hybrid=own("$history, $target?", "history", "target"))
    with pytest.raises(OnomaError, match=r"\$history.*own.*\$disliked.*\$item"):
        model.fit(camps)
    assert not model.sequence.training
    model = sasrecllm(prompt=own("$taste, $target?", "taste", "target"))
    with pytest.raises(OnomaError, match=r"\$taste"):  # words alone have no vectors
        model.fit(camps)
    with pytest.raises(OnomaError, match=r"neither \$taste nor \$item"):
        sasrecllm(hybrid="like-or-not").fit(camps)


def test_hierarchical_freezing_thaws_the_updates_last(camps):
    """The step begins where the map's ended, and both move."""
    held = sasrecllm().fit(camps)
    model = sasrecllm(together={"epochs": 2, "lr": 1e-2, "valid_every": 1}).fit(camps)
    part = camps.test.take(np.arange(6))
    assert not np.allclose(held.judge(part, "text"), model.judge(part, "text"), atol=1e-3)
    assert not torch.allclose(held.module.map[0].weight, model.module.map[0].weight, atol=1e-3)
    assert model.training["epochs"] == 2 and model.training["map"]["epochs"] == 1
    assert held.training["epochs"] == 1 and "map" not in held.training
    with pytest.raises(ValueError, match="no updates"):
        sasrecllm(shots=0, together={"epochs": 1})


@pytest.mark.parametrize(
    "sequence",
    [
        {"name": "gru", "width": 12, "train": {"epochs": 8, "lr": 1e-2, "batch_tokens": 256}},
        {"name": "lightgcn", "width": 12, "layers": 0, "train": {"epochs": 8, "lr": 1e-2}},
    ],
)
def test_another_encoder_before_a_fixed_model(camps, sequence, tmp_path):
    """Plug and play: the language model keeps its adapter, only the map learns."""
    first = sasrecllm().fit(camps)
    first.save(tmp_path / "first")
    tuned = {"model": str(tiny_folder()), "adapter": str(tmp_path / "first" / "adapter")}
    model = sasrecllm(model=tuned, shots=0, sequence=sequence, mapping=6).fit(camps)
    part = camps.test
    assert np.allclose(first.judge(part, "text"), model.judge(part, "text"), atol=1e-4)
    assert not model.module.updates and model.module.items.shape[1] == 12
    found = {mode: judged(model, part, camps, mode).summary()["auc"] for mode in model.modes}
    assert found["hybrid"] > 0.85
    model.save(tmp_path / "plugged")
    again = SASRecLLM.load(tmp_path / "plugged", camps.dataset)
    assert np.allclose(again.judge(part), model.judge(part), atol=1e-5)


def test_an_encoder_without_users_is_refused():
    with pytest.raises(OnomaError, match="popular has no vectors of users"):
        sasrecllm(sequence={"name": "popular"})
    with pytest.raises(OnomaError, match="hstu has no vectors of users"):
        sasrecllm(sequence={"name": "hstu"})


class Broken(Exception):
    """A run that is broken off."""


@pytest.mark.parametrize(("stage", "step"), [("text", 3), ("hybrid", 7), ("hybrid", 22)])
def test_broken_off_in_any_step_and_resumed_gives_the_same_bits(camps, tmp_path, stage, step):
    """A step that had ended is not learnt again, and the one that broke goes on."""
    settings = {
        "epochs": 3, "mapping": 3, "schedule": {"checkpoint_seconds": 0}, "mapped": 40,
        "lora": {"dropout": 0.3},
        "together": {"epochs": 2, "lr": 1e-2, "valid_every": 1, "checkpoint_seconds": 0},
    }  # fmt: skip

    def saved(name, model):
        model.fit(camps).save(tmp_path / name)
        files = sorted((tmp_path / name).rglob("*.safetensors"))
        return {str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files}

    whole = saved("whole", sasrecllm(folder=tmp_path / "whole-run", **settings))
    broken = sasrecllm(folder=tmp_path / "broken-run", **settings)
    learn, asked = broken.missed, []

    def missed(cases, mode):
        asked.append(mode)
        if asked.count(stage) == step:
            raise Broken
        return learn(cases, mode)

    broken.missed = missed
    with pytest.raises(Broken):
        broken.fit(camps)
    assert saved("again", sasrecllm(folder=tmp_path / "broken-run", **settings)) == whole
