"""HLLM: the shared suite, then what is its own."""

import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

sys.path.insert(0, str(Path(__file__).parents[1]))
from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.language.opening import torch_model
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.hllm import HLLM, _Together
from tiny import tiny_folder

QUICK = {"epochs": 2, "batch_tokens": 128, "lr": 3e-3, "valid_every": 1}


def hllm(**settings):
    settings = {
        "model": str(tiny_folder()), "item_layers": 1, "user_layers": 1, "words": 40, "length": 8,
        "added": 8, "negatives": 16, "together": QUICK, "train": QUICK, **settings,
    }  # fmt: skip
    return HLLM(quiet=True, **settings)


class TestHLLM(Conformance):
    def make(self):
        return hllm()


@pytest.fixture(scope="module")
def fitted(small_split):
    return hllm().fit(small_split)


@pytest.fixture
def untrained(small_split):
    model = hllm()
    torch.manual_seed(0)
    model.module = model._build(small_split)
    return model


def test_both_tiers_begin_with_mean_zero_and_deviation_one(untrained, small_split):
    module = untrained.module
    before = module.encode(module.texts)
    assert before.mean(0).abs().max() > 0.2
    module.settle(small_split.train)
    vectors = module.encode(module.texts)
    history = torch.from_numpy(small_split.train.last(8).padded(module.n_items))
    states = module.states_of(torch.nn.functional.embedding(history, module.table()))
    for found in (vectors, states[history < module.n_items]):
        torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), rtol=0, atol=0.05)
        torch.testing.assert_close(
            found.std(0, correction=0), torch.ones(found.shape[1]), rtol=0, atol=0.05
        )


def test_tiers_begin_as_the_first_layers_or_anew(untrained, small_split):
    network = torch_model(str(tiny_folder())).network
    rows = network.get_input_embeddings().weight[untrained.module.known]
    assert torch.equal(untrained.module.item.words.weight, rows)
    assert len(rows) < network.config.vocab_size
    first = network.base_model.layers[0].state_dict()
    for tier in (untrained.module.item.tier, untrained.module.encoder):
        assert len(tier.body.layers) == 1
        for name, value in tier.body.layers[0].state_dict().items():
            assert torch.equal(value, first[name])
    anew = hllm(start="random")
    anew.module = anew._build(small_split)
    mine, theirs = untrained.module.state_dict(), anew.module.state_dict()
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in theirs.items()}
    user, item = (
        f"{tier}.body.layers.0.self_attn.q_proj.weight" for tier in ("encoder", "item.tier")
    )
    assert not torch.equal(mine[user], theirs[user])
    half = hllm(start="random-items")
    half.module = half._build(small_split)
    halves = half.module.state_dict()
    assert torch.equal(mine[user], halves[user])
    for name in (item, "item.words.weight"):
        assert not torch.equal(mine[name], halves[name])


def test_the_mark_is_read_behind_each_text(untrained, small_split):
    """Texts of several lengths together, and alone, against transformers' own pass."""
    model, module = untrained, untrained.module
    rows = model._tokens(small_split.dataset.items)[:5]
    assert len({len(row) for row in rows}) > 1
    together = module.encode(module.texts[:5])
    network = torch_model(str(tiny_folder())).network
    for place, row in enumerate(rows):
        alone = module.encode(module.texts[place : place + 1])[0]
        words = network.get_input_embeddings()(torch.from_numpy(row))
        states = module.item.tier(torch.cat([words, module.item.mark[None]])[None])
        assert torch.allclose(together[place], states[0].mean(0), atol=1e-5)
        assert torch.allclose(alone, states[0].mean(0), atol=1e-5)


def test_what_is_wanted_is_no_negative_and_nor_is_its_twin(untrained):
    module = untrained.module
    rng = torch.Generator().manual_seed(0)
    states, vectors = (torch.randn(n, 32, generator=rng) for n in (4, 9))
    vectors[5] = vectors[2] * 1.5  # another item of the same text
    targets, drawn = torch.tensor([2, 0, 2, -1]), torch.tensor([2, 3, 5, 7])
    loss = module.contrast(states, targets, vectors[targets.clamp(0)], drawn, vectors[drawn])
    cosines = torch.nn.functional.cosine_similarity(states[:, None], vectors[None], dim=2) / 0.07
    expected = []
    for row, kept in ((0, [2, 3, 7]), (1, [0, 2, 3, 5, 7]), (2, [2, 3, 7])):
        expected.append(torch.logsumexp(cosines[row, kept], 0) - cosines[row, targets[row]])
    assert torch.allclose(loss, torch.stack(expected).mean(), atol=1e-5)


def test_padding_does_not_enter_the_loss(untrained, small_split):
    """Sequences of several lengths together give the mean over all their places."""
    model = untrained
    task = _Together(model, small_split)
    lengths = task.batches.windows.lengths
    rows = np.array([int(lengths.argmin()), int(lengths.argmax())])
    everything = torch.arange(model.module.n_items)
    model.module.noise.integers = lambda high, n: everything  # the same negatives for any batch
    parts = [model_loss(task, rows[at : at + 1]) for at in (0, 1)]
    weights = lengths[rows] - 1
    expected = (parts[0] * weights[0] + parts[1] * weights[1]) / weights.sum()
    assert weights[0] != weights[1]
    assert model_loss(task, rows) == pytest.approx(expected, abs=1e-4)


def model_loss(task, rows):
    with torch.no_grad():
        return float(task.loss(rows))


def test_vectors_are_kept_when_the_item_tier_has_stopped(fitted):
    module = fitted.module
    with torch.no_grad():
        assert torch.allclose(module.vectors[:-1], module.encode(module.texts), atol=1e-5)
    assert not module.vectors[-1].any()
    trained = {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad}
    assert trained == {"encoder", "log_scale"}
    phases = [row["phase"] for row in fitted.training["history"]]
    assert phases == ["together", "together", "user", "user"]


def test_texts_alone_make_an_item(fitted, small_split):
    """A new item with the words of an old one is where that one is."""
    items = small_split.dataset.items
    row = items.filter(pl.col("title").is_not_null()).head(1)
    more = fitted.extend(items, row.with_columns(item_id=pl.lit("new")))
    code = int(small_split.dataset.item_codes([row["item_id"][0]])[0])
    asked = Requests(Ragged.from_rows([[3, 4], [9]]), mask_seen=False)
    scores = more.score(asked)
    assert scores.shape[1] == fitted.module.n_items + 1
    assert torch.allclose(scores[:, -1], scores[:, code], atol=1e-4)
    assert torch.allclose(scores[:, :-1], fitted.score(asked), atol=1e-5)


def test_a_saved_model_needs_no_language_model(small_split, tmp_path):
    shutil.copytree(tiny_folder(), tmp_path / "lm")
    model = hllm(model=str(tmp_path / "lm")).fit(small_split)
    model.save(tmp_path / "run")
    shutil.rmtree(tmp_path / "lm")
    again = HLLM.load(tmp_path / "run", small_split.dataset)
    asked = Requests.of(small_split.test)
    assert torch.allclose(again.score(asked), model.score(asked), atol=1e-5)
    (tmp_path / "run" / "tiers.json").write_text("{}")
    with pytest.raises(OnomaError, match="tiers"):
        HLLM.load(tmp_path / "run", small_split.dataset)


@pytest.mark.parametrize("after", [5, 12])
def test_a_killed_run_goes_on_to_the_same_bits(small_split, tmp_path, monkeypatch, after):
    """Killed in either phase."""
    whole = hllm(folder=tmp_path / "a").fit(small_split)
    steps, once = [], torch.optim.AdamW.step

    def stop(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == after:
            raise KeyboardInterrupt
        return once(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            hllm(folder=tmp_path / "b").fit(small_split)
    assert (tmp_path / "b" / "checkpoint.safetensors").is_file() == (after > 9)
    again = hllm(folder=tmp_path / "b").fit(small_split)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_more_layers_than_there_are_is_told(small_split):
    with pytest.raises(OnomaError, match="layers"):
        hllm(item_layers=99).fit(small_split)
