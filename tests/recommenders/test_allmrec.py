"""A-LLMRec: the shared suite, then what is its own."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.allmrec import ALLMRec
from onoma.recommenders.bridged.stages import MIXES, Telling

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder

pytest.importorskip("transformers")
SEQUENCE = {"width": 16, "blocks": 1, "heads": 1, "length": 20,
            "train": {"epochs": 4, "lr": 1e-2, "batch_tokens": 256}}  # fmt: skip
QUICK = {"epochs": 1, "lr": 3e-3, "valid_every": 1}


def allmrec(folder=None, **settings):
    settings = {
        "model": str(tiny_folder()), "layers": 1, "sequence": SEQUENCE, "history": 3, "title": 3,
        "encoder": {"name": "tfidf", "dim": 16}, "joint": 16, "negatives": 3, "shortlist": 4,
        "batch": 16, "checked": 10, "align": {"epochs": 8, "lr": 1e-2, "valid_every": 4},
        "train": QUICK, **settings,
    }  # fmt: skip
    return ALLMRec(quiet=True, folder=folder, **settings)


class TestALLMRec(Conformance):
    def make(self):
        return allmrec()


@pytest.fixture(scope="module")
def fitted(small_split):
    return allmrec().fit(small_split)


def test_each_stage_trains_its_own_and_no_other(small_split):
    model = allmrec()
    model.sequence.fit(small_split)
    torch.manual_seed(0)
    model.module = module = model._build(small_split)
    learns = {}
    for phase in ("align", "tell"):
        module.begin(phase)
        names = {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad}
        learns[phase] = names
    assert learns["tell"] == {"user_bridge", "item_bridge"}
    assert learns["align"] == {"item_in", "item_out", "text_in", "text_out"}
    task = Telling(model, small_split)
    batch = task.plan(0, 0)[0]
    task.loss(batch).backward()
    with_gradient = {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == learns["tell"]


def test_the_target_stands_anywhere_among_others_of_other_names(fitted, small_split):
    task = Telling(fitted, small_split)
    first, second = task.plan(0, 0), task.plan(0, 1)
    places = np.concatenate([(one.order == 0).argmax(axis=1) for one in first])
    assert set(places.tolist()) == set(range(4))
    names = fitted.module.names
    assert len(set(names.tolist())) < len(names)  # titles are cut: some are read alike
    for one in first:
        for target, row in zip(one.targets, one.negatives, strict=True):
            called = [names[item] for item in row if item >= 0]
            assert len({*called, names[target]}) == len(called) + 1
    by_user = [
        {int(u): set(r.tolist()) for b in plan for u, r in zip(b.users, b.negatives, strict=True)}
        for plan in (first, second)
    ]
    assert any(by_user[0][user] != by_user[1][user] for user in by_user[0])


def test_a_title_weighs_what_the_model_says_of_it(fitted):
    """The tree behind a prefix of vectors agrees with reading question and answer as a whole."""
    module, state = fitted.module, torch.randn(16)
    found = module.weigh([1, 2], [3, 4, 7], state)
    pieces, codes = module.prompt([1, 2], [3, 4, 7])
    assert codes == [-1, 1, 2, 3, 4, 7] and pieces.count(None) == 6 and pieces[0] is None
    for item, value in zip([3, 4, 7], found, strict=True):
        prompts = module.composer.compose([pieces], [module.answer(item)])
        with torch.no_grad():
            loss = module.answer_loss(prompts, module.told([codes], state[None]))
        assert value == pytest.approx(-float(loss), abs=1e-4)
    assert not np.allclose(found, module.weigh([1, 2], [3, 4, 7], -state))


def test_the_second_stage_begins_with_vectors_like_words(fitted, small_split):
    torch.manual_seed(0)
    module = fitted._build(small_split)
    words = module.lm.get_input_embeddings().weight
    module.meet()
    with torch.no_grad():
        items = module.item_bridge(module.joined(torch.arange(module.n_items)))
    torch.testing.assert_close(items.mean(0), words.mean(0), rtol=1e-3, atol=1e-4)
    assert float(items.std(0).mean()) == pytest.approx(float(words.std(0).mean()), rel=1e-3)


def test_cold_items_are_known_by_their_texts(fitted, small_split):
    module = fitted.module
    cold = np.flatnonzero(small_split.train_counts == 0)
    assert len(cold) and not module.warm[cold].any()
    items = torch.arange(module.n_items)
    with torch.no_grad():
        joined = module.joined(items)
        for rows, want in (
            (cold, module.text_in(module.content[cold])),
            (module.warm, module.item_in(module.ids[module.warm])),
        ):
            torch.testing.assert_close(joined[rows], want, rtol=1e-5, atol=1e-6)
        apart = (module.item_in(module.ids) - module.text_in(module.content))[module.warm]
        shuffled = module.text_in(module.content)[module.warm][torch.randperm(len(apart))]
        mixed = module.item_in(module.ids)[module.warm] - shuffled
    assert float(apart.square().mean()) < float(mixed.square().mean())


def test_modes_are_the_titles_the_first_stage_and_both(fitted, small_split):
    asked = Requests.of(small_split.test)
    lists = np.tile(np.array([1, 5, 9, 20], dtype=np.int32), (len(asked), 1))
    asked = replace(asked, candidates=lists, mask_seen=False)
    fitted.module.mix.fill_(0.0)
    plain = fitted.recommend(asked, 4).items
    assert np.array_equal(fitted.recommend(asked, 4, mode="mixed").items, plain)
    fitted.module.mix.fill_(1e6)
    joint = fitted.recommend(asked, 4, mode="joint").items
    assert np.array_equal(fitted.recommend(asked, 4, mode="mixed").items, joint)
    assert not np.array_equal(joint, plain)
    fitted.module.mix.fill_(MIXES[1])


def test_without_vectors_only_titles_are_read(small_split):
    model = allmrec(soft=False).fit(small_split)
    pieces, codes = model.module.prompt([1], [2, 3])
    assert None not in pieces and codes == [] and model.training["epochs"] == 0
    history = Ragged.from_rows([[1, 2, 3], [9, 1, 2, 3]])  # the same three are told
    lists = np.array([[5, 9, 12], [5, 9, 12]], dtype=np.int32)
    asked = Requests(history, candidates=lists, as_told=True, mask_seen=False)
    assert len(set(map(tuple, model.recommend(asked, 3).items.tolist()))) == 1
    assert float(model.module.mix) in np.float32(MIXES)


def test_told_candidates_keep_their_order_when_asked(fitted):
    history = Ragged.from_rows([[1, 2]])
    made = []
    fitted.forget()
    original = type(fitted.module).weigh
    type(fitted.module).weigh = lambda self, told, pool, state: (
        made.append(tuple(pool)) or original(self, told, pool, state)
    )
    try:
        for row in ([9, 5, 20], [20, 9, 5]):
            asked = Requests(history, candidates=np.array([row], dtype=np.int32))
            fitted.recommend(replace(asked, as_told=True), 3)
            fitted.recommend(asked, 3)
    finally:
        type(fitted.module).weigh = original
    assert made[0] == (9, 5, 20) and (20, 9, 5) in made and len(made) <= 3  # asked once


def test_a_broken_off_run_ends_with_the_same_bits(small_split, tmp_path, monkeypatch):
    whole = allmrec(tmp_path / "whole").fit(small_split)
    loss, steps = Telling.loss, []

    def breaking(self, batch):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(Telling, "loss", breaking)
    often = {**QUICK, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        allmrec(tmp_path / "broken", train=often).fit(small_split)
    resumed = allmrec(tmp_path / "broken", train=often).fit(small_split)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    assert not list((tmp_path / "broken" / "align").glob("*.safetensors"))
