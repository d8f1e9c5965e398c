"""RSLLM: the shared suite, then what is its own."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.encoding.shuffled import deal
from onoma.neural.softrow import SoftRow
from onoma.recommenders.base import Requests
from onoma.recommenders.tuned.choosing import Choosing
from onoma.recommenders.tuned.hybrid import _written
from onoma.recommenders.tuned.rsllm import RSLLM

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder

pytest.importorskip("peft")
SEQUENCE = {"width": 16, "blocks": 1, "heads": 1, "length": 20,
            "train": {"epochs": 2, "lr": 1e-2, "batch_tokens": 256}}  # fmt: skip
QUICK = {"epochs": 1, "lr": 3e-3, "valid_every": 1}


def rsllm(folder=None, **settings):
    settings = {
        "model": str(tiny_folder()), "layers": 1, "sequence": SEQUENCE, "history": 3, "title": 3,
        "negatives": 3, "shortlist": 4, "batch": 16, "checked": 10, "first": QUICK, "train": QUICK,
        **settings,
    }  # fmt: skip
    return RSLLM(quiet=True, folder=folder, **settings)


class TestRSLLM(Conformance):
    def make(self):
        return rsllm(history=2, shortlist=3)


@pytest.fixture(scope="module")
def fitted(small_split):
    return rsllm().fit(small_split)


def test_each_stage_trains_what_it_reads(fitted, small_split):
    module, learns = fitted.module, {}
    for told in ("text", "both"):
        module.begin(told)
        task = Choosing(fitted, small_split, 0)
        task.loss(task.plan(0, 0)[0]).backward()
        learns[told] = {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None}
    module.begin("both")
    assert learns == {"text": {"updates"}, "both": {"updates", "projector", "marks"}}
    assert fitted.training["text"]["epochs"] == 1


def test_the_target_stands_anywhere_and_no_draw_comes_again(fitted, small_split):
    plans = [Choosing(fitted, small_split, skipped).plan(0, 0) for skipped in (0, 1)]
    places = {int(at) for one in plans[0] for at in (one.order == 0).argmax(axis=1)}
    assert places == set(range(4))
    first, second = (np.concatenate([one.negatives for one in plan]) for plan in plans)
    assert not np.array_equal(first, second)


def test_what_is_told(fitted):
    module = fitted.module
    both = module.prompt([1, 2], [3, 4])
    assert both.codes == [-1, 1, -1, 2, -1, 3, -1, 4, -2] and len(both.spans) == 4
    for item, begin, end in both.spans:
        assert both.pieces[begin:end] == module.titles[item] and both.pieces[end] is None
    assert both.end == len(both.pieces) - 1 and both.pieces.count(None) == 9
    module.begin("text")
    words = module.prompt([1, 2], [3, 4])
    assert not words.codes and words.end == -1 and len(words.spans) == 4
    module.begin("ids")
    ids = module.prompt([1, 2], [3, 4])
    assert ids.codes == both.codes and [item for item, _, _ in ids.spans] == [3, 4]
    module.begin("both")


def test_tokens_tell_nothing_by_their_length(fitted, small_split):
    module = fitted.module
    every = torch.arange(module.n_items)
    with torch.no_grad():
        assert torch.allclose(module.projected(every).norm(dim=1), torch.tensor(module.size))
    assert torch.allclose(module.ids.square().mean(1), torch.ones(module.n_items), atol=1e-4)
    control = rsllm(dealt=True)
    control.sequence = fitted.sequence
    dealt = control._build(small_split).ids.numpy()
    assert np.array_equal(dealt, deal(module.ids.numpy(), 0))


def test_a_title_weighs_what_the_model_says_and_writing_is_free(fitted):
    """Tree and greedy walk behind a prefix agree with reading and writing as a whole."""
    module, pool = fitted.module, [3, 4, 7]
    values, written = module.weigh([1, 2], pool, write=True)
    asked = module.prompt([1, 2], pool)
    with torch.no_grad():
        for item, value in zip(pool, values, strict=True):
            said = module.losses([asked], [item])[0]
            assert value == pytest.approx(-float(said) * len(module.answer(item)), abs=1e-3)
    prompts, soft = module.composer.compose([asked.pieces]), module.soft([asked])
    (said,) = module.write(prompts, {module.end[0]}, 4, soft=soft)
    found = [place for place, item in enumerate(pool) if module.titles[item] == said]
    assert found == ([written] if written >= 0 else [])
    row = SoftRow(module.lm)
    row.place(module._inputs(prompts, soft)[0].detach())
    assert said and _written(row, [[said[0] + 1], said]) == 1


def test_targets_and_what_was_taken_are_no_negatives(fitted):
    module = fitted.module
    asked = [module.prompt([1, 2], [3, 4, 7]), module.prompt([5], [9, 3, 2])]
    states = torch.randn(2, 200, module.width)
    with torch.no_grad():
        found = module._next(asked, [3, 3], states)  # the first took 2, of the second's pool
        tokens = torch.nn.functional.normalize(module.projected(torch.arange(12)), dim=1)
    wanted = []
    for row, negatives in ((0, [4, 7, 9]), (1, [4, 7, 9, 2])):
        behind = torch.nn.functional.normalize(states[row, asked[row].end], dim=0)
        logits = (tokens[[3, *negatives]] @ behind) / module.settings.temperature
        wanted.append(torch.logsumexp(logits, 0) - logits[0])
    assert float(found) == pytest.approx(float(sum(wanted)) / 2, abs=1e-4)


def test_written_titles_come_first_and_others_count_as_none(fitted, small_split, monkeypatch):
    asked = Requests(Ragged.from_rows([[1, 2], [2, 3]]), mask_seen=False)
    asked = replace(asked, candidates=np.array([[5, 9, 20]] * 2, dtype=np.int32), as_told=True)
    fitted.forget()
    answers = iter([(np.array([-1.0, -2.0, -3.0]), 2), (np.array([-3.0, -1.0, -2.0]), -1)])
    monkeypatch.setattr(type(fitted.module), "weigh", lambda *_, **__: next(answers))
    ranked = fitted.recommend(asked, 3)
    written = fitted.recommend(asked, 3, mode="written")
    fitted_report = fitted.language_report()
    fitted.forget()
    assert ranked.items.tolist() == [[5, 9, 20], [9, 20, 5]] and ranked.answered is None
    assert written.items.tolist() == [[20, 5, 9], [9, 20, 5]]
    assert written.answered.tolist() == [True, False]
    assert fitted_report["written"] == {"asked": 2, "valid_ratio": 0.5}


def test_without_a_first_stage_or_losses(small_split):
    model = rsllm(first=None, alpha=0, beta=0, marked="history").fit(small_split)
    assert model.training["text"] == {}
    asked = model.module.prompt([1], [2, 3])
    assert asked.codes == [-1, 1, -2]
    assert [float(part) for part in model.module.losses([asked], [2])[1:]] == [0.0, 0.0]


def test_a_broken_off_run_ends_with_the_same_bits(small_split, tmp_path, monkeypatch):
    whole = rsllm(tmp_path / "whole").fit(small_split)
    loss, steps = Choosing.loss, []

    def breaking(self, batch):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(Choosing, "loss", breaking)
    often = {**QUICK, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        rsllm(tmp_path / "broken", train=often, first=often).fit(small_split)
    resumed = rsllm(tmp_path / "broken", train=often, first=often).fit(small_split)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    assert not list((tmp_path / "broken" / "text").glob("*.safetensors"))
