"""LMRec: the shared suite, then what is its own."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance
from torch.nn import functional as F

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.tuned.histories import lines
from onoma.recommenders.tuned.lmrec import LMRec, _Joint

pytest.importorskip("transformers")

QUICK = {"epochs": 3, "batch_tokens": 64, "lr": 3e-3, "valid_every": 1}


def lmrec(**settings):
    settings = {
        "width": 16, "layers": 1, "heads": 2, "inner": 32, "vocabulary": 320, "words": 12,
        "length": 6, "negatives": 8, "train": QUICK, **settings,
    }  # fmt: skip
    return LMRec(quiet=True, **settings)


class TestLMRec(Conformance):
    def make(self):
        return lmrec()


@pytest.fixture(scope="module")
def fitted(small_split):
    return lmrec().fit(small_split)


def test_items_are_written_one_after_the_other():
    texts = torch.tensor([[5, 6, -1], [7, -1, -1], [-1, -1, -1]], dtype=torch.int32)
    rows, ends = lines(texts, torch.tensor([[0, 1, 2], [1, 3, 3], [3, 3, 3]]), 1)
    assert rows.tolist() == [[1, 5, 6, 1, 7, 1, 1], [1, 7, 1, -1, -1, -1, -1], [1] + [-1] * 6]
    assert ends.tolist() == [[3, 5, 6], [2, 2, 2], [0, 0, 0]]


def test_the_end_is_read_where_it_is(fitted):
    """Histories of several lengths together, alone, and as the beginning of a longer one."""
    module, pad = fitted.module, fitted.module.n_items
    items = torch.tensor([[3, 4, 5], [3, pad, pad], [pad, pad, pad]])
    with torch.no_grad():
        together = module.at_ends(items)
        rows, ends = lines(module.texts, items[:1], module.end)
        states = module.states(rows)[0]
        assert torch.allclose(together[0], states[-1], atol=1e-5)
        assert torch.allclose(together[1], states[ends[0, 0]], atol=1e-5)
        assert torch.allclose(together[2], states[0], atol=1e-5)


def test_both_losses_are_what_they_should_be(small_split):
    model = lmrec(dropout=0.0, language=0.5, matching=2.0)
    torch.manual_seed(0)
    model.module = module = model._build(small_split)
    task = _Joint(model, small_split)
    rows = np.array([int(task.batches.windows.lengths.argmax())])
    module.noise.at(0, 0)
    drawn = module.noise.integers(module.n_items, 8)
    module.noise.at(0, 0)
    with torch.no_grad():
        loss = float(task.loss((rows, None)))
        items = torch.from_numpy(task.batches.windows.take(rows)[0].astype(int))
        text, ends = lines(module.texts, items[None], module.end)
        states = module.states(text)[0]
        logits = states[:-1] @ module.lm.embed_tokens.weight.T
        language = F.cross_entropy(logits, text[0, 1:])
        table = model._items()  # divided by the root of the width
        scores = module.of_user(states[ends[0, :-1]]) @ table.T + module.bias
        told = []
        for place, target in enumerate(items[1:]):
            wrong = drawn[drawn != target]
            miss = F.binary_cross_entropy_with_logits(
                scores[place, wrong], torch.zeros(len(wrong)), reduction="sum"
            )
            told.append(F.softplus(-scores[place, target]) + miss)
        expected = 0.5 * language + 2.0 * torch.stack(told).mean()
    assert loss == pytest.approx(float(expected), rel=1e-3)  # bf16 where it is native


def test_without_language_it_only_matches(small_split):
    alone = lmrec(language=0.0)
    torch.manual_seed(0)
    alone.module = alone._build(small_split)
    task = _Joint(alone, small_split)
    batch = task.plan(0, 0)[0]
    task.loss(batch).backward()
    grad = alone.module.lm.embed_tokens.weight.grad
    read = alone.module.texts.unique()
    unread = np.setdiff1d(np.arange(len(grad)), read.numpy())
    assert len(unread) and not grad[unread[unread > 1]].any()  # no softmax over the vocabulary


def test_joint_training_learns_to_write(small_split):
    model = lmrec(train={**QUICK, "epochs": 10, "lr": 1e-2, "valid_every": 5})
    losses = [row["loss"] for row in model.fit(small_split).training["history"]]
    assert losses[-1] < 0.75 * losses[0]


def test_a_killed_run_goes_on_to_the_same_bits(small_split, tmp_path, monkeypatch):
    whole = lmrec(folder=tmp_path / "a").fit(small_split)
    steps, once = [], torch.optim.AdamW.step

    def stop(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return once(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            lmrec(folder=tmp_path / "b").fit(small_split)
    assert (tmp_path / "b" / "checkpoint.safetensors").is_file()
    again = lmrec(folder=tmp_path / "b").fit(small_split)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_a_probe_trains_the_maps_alone(fitted, small_split, tmp_path):
    fitted.save(tmp_path)
    probe = lmrec(start=str(tmp_path), freeze=True, language=0.0).fit(small_split)
    before, after = fitted.module.lm.state_dict(), probe.module.lm.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(fitted.module.of_user.weight, probe.module.of_user.weight)
    with pytest.raises(OnomaError, match="another size"):
        lmrec(start=str(tmp_path), width=32).fit(small_split)
    with pytest.raises(OnomaError, match="start from"):
        lmrec(freeze=True)


def test_texts_of_another_service_are_read_for_their_language(small_split, tmp_path):
    """The share is kept, and none of their items is matched."""
    log = [(f"u{user}", f"x{(user + step) % 9}", step) for user in range(12) for step in range(5)]
    pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(
        tmp_path / "interactions.parquet"
    )
    pl.DataFrame(
        {
            "item_id": [f"x{n}" for n in range(9)],
            "title": [f"a strange zebra {n}" for n in range(9)],
        }
    ).write_parquet(tmp_path / "items.parquet")
    model = lmrec(agnostic=str(tmp_path), mix=0.4, vocabulary=600)
    torch.manual_seed(0)
    model.module = model._build(small_split)
    tokens = model._tokens(["a strange zebra"])[0]
    assert (tokens >= 0).sum() <= 4  # its words are in the vocabulary
    task = _Joint(model, small_split)
    own, other = task.plan(0, 0)[0]
    assert len(own) and other is not None and len(other)
    assert model.module.n_items == small_split.dataset.n_items
    mixed, plain = (float(task.loss(batch).detach()) for batch in ((own, other), (own, None)))
    assert mixed != plain


def test_texts_alone_make_an_item(fitted, small_split):
    items = small_split.dataset.items
    row = items.filter(pl.col("title").is_not_null()).head(1)
    more = fitted.extend(items, row.with_columns(item_id=pl.lit("new")))
    code = int(small_split.dataset.item_codes([row["item_id"][0]])[0])
    asked = Requests(Ragged.from_rows([[3, 4], [9]]), mask_seen=False)
    scores = more.score(asked)
    assert torch.allclose(scores[:, -1], scores[:, code], atol=1e-5)
    assert torch.allclose(scores[:, :-1], fitted.score(asked), atol=1e-5)
