"""LLM-SRec: the shared suite, then what is its own."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.neural.alignment import uniformity
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.llmsrec import LLMSRec, _Learning
from onoma.recommenders.bridged.soft import Places

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder

pytest.importorskip("transformers")
SEQUENCE = {"width": 16, "blocks": 1, "heads": 1, "length": 20,
            "train": {"epochs": 4, "lr": 1e-2, "batch_tokens": 256}}  # fmt: skip
QUICK = {"epochs": 2, "lr": 3e-3, "valid_every": 1}


def llmsrec(folder=None, **settings):
    settings = {
        "model": str(tiny_folder()), "layers": 1, "sequence": SEQUENCE, "history": 4, "title": 4,
        "dates": False, "hidden": 16, "width": 8, "negatives": 1, "train": QUICK, **settings,
    }  # fmt: skip
    return LLMSRec(quiet=True, folder=folder, **settings)


class TestLLMSRec(Conformance):
    def make(self):
        return llmsrec()


@pytest.fixture(scope="module")
def fitted(small_split):
    return llmsrec(dates=True).fit(small_split)


def test_only_what_stands_around_the_language_model_is_trained(fitted, small_split):
    names = {name.split(".")[0] for name in fitted.module.state_dict()}
    trained = {"bridge", "read_user", "read_item", "head_user", "head_item", "teach"}
    kept = {"ids", "vectors", "user_mean", "user_spread", "item_mean", "item_spread"}
    assert names == trained | kept
    assert {name.split(".")[0] for name, _ in fitted.module.named_parameters()} == trained
    assert not any(p.requires_grad for p in fitted.module.lm.parameters())


def test_the_read_out_is_found_whatever_stands_beside_it(fitted):
    """A user's vector is the head of the state at his own last slot, however long others are."""
    module = fitted.module
    alone = module.users([[3]], [[-1]])
    together = module.users([[3], [1, 2, 3, 4]], [[-1], [-1] * 4])
    torch.testing.assert_close(together[0], alone[0], rtol=1e-4, atol=1e-5)
    prompt = module.told([3])
    assert prompt.count(None) == 2 and prompt[-1] is None
    with torch.no_grad():
        inputs = module.embed(torch.tensor([code or 0 for code in prompt]))
        inputs[prompt.index(None)] = module.bridge(module.ids[3])
        inputs[-1] = module.read_user
        state = module.lm.base_model(inputs_embeds=inputs[None]).last_hidden_state[0, -1]
    state = (state - module.user_mean) / module.user_spread
    torch.testing.assert_close(module.head_user(state), alone[0], rtol=1e-4, atol=1e-5)


def test_heads_read_states_around_their_mean(small_split):
    model = llmsrec()
    model.sequence.fit(small_split)
    torch.manual_seed(0)
    model.module = module = model._build(small_split)
    histories = [[1, 2], [3], [4, 5, 6]]
    module.centre(histories, [[-1] * len(row) for row in histories])
    seen = []
    module.head_user.register_forward_hook(lambda part, inputs, out: seen.append(inputs[0]))
    module.users(histories, [[-1] * len(row) for row in histories])
    states = seen[0].detach()
    assert float(states.mean(0).abs().max()) < 1e-3
    assert torch.allclose(states.std(0, correction=0), torch.ones(module.width), atol=1e-2)
    module.centre([[1]], [[-1]])
    assert torch.equal(module.user_spread, torch.ones(module.width))


def test_order_and_days_are_told(fitted):
    def vector(items, times=None):
        asked = Requests(Ragged.from_rows([items]))
        if times:
            asked = replace(asked, times=Ragged(asked.history.offsets, np.array(times)))
        return fitted.user_vectors(asked)

    assert not torch.allclose(vector([1, 2, 3]), vector([3, 1, 2]), atol=1e-4)
    assert torch.equal(vector([9, 1, 2, 3, 4]), vector([8, 1, 2, 3, 4]))  # only the last four
    dated = vector([1, 2], [86400, 86400 * 40])
    assert not torch.allclose(dated, vector([1, 2]), atol=1e-4)
    assert torch.equal(vector([1, 2], [-1, -1]), vector([1, 2]))


def test_a_history_is_read_once(fitted, monkeypatch):
    asked = Requests(Ragged.from_rows([[5, 6], [7], [5, 6], []]))
    fitted.forget()
    first = fitted.user_vectors(asked)
    monkeypatch.setattr(type(fitted.module), "users", None)
    assert torch.equal(fitted.user_vectors(asked), first) and torch.equal(first[0], first[2])


def test_the_lesson_knows_nothing_of_the_target(small_split):
    model = llmsrec()
    model.sequence.fit(small_split)
    torch.manual_seed(0)
    model.module = model._build(small_split)
    task = _Learning(model, small_split)
    batch = task.plan(0, 0)[0]
    history, _ = task.places.before(batch, 99)
    for row, user in enumerate(batch.users):
        whole = small_split.train[int(user)]
        assert history[row].tolist() == whole[: batch.ends[row]].tolist()
        assert whole[batch.ends[row]] == batch.targets[row]
    loss = task.loss(batch)
    loss.backward()
    missing = {n for n, p in model.module.named_parameters() if p.grad is None}
    assert not missing and torch.isfinite(loss)


def test_the_lesson_draws_users_to_what_is_made_of_their_states(small_split):
    """Each user's own taught vector is nearer than those of others, and only after the lesson."""
    asked = Requests.of(small_split.valid)

    def nearer(model):
        with torch.no_grad():
            taught = model.module.teach(model.states(asked.history))
            users = model.user_vectors(asked)
            normalize = torch.nn.functional.normalize
            cosine = normalize(users, dim=1) @ normalize(taught, dim=1).T
        own = cosine.diagonal()
        return float(own.mean() - (cosine.sum() - own.sum()) / (cosine.numel() - len(own)))

    longer = {**QUICK, "lr": 1e-2, "epochs": 16, "valid_every": 16}
    model = llmsrec(distil=4.0, uniformity=4.0, batch=12, train=longer).fit(small_split)
    torch.manual_seed(0)
    fresh = llmsrec()
    fresh.sequence = model.sequence
    fresh.module = fresh._build(small_split)
    assert nearer(model) > 0.15 > abs(nearer(fresh)) + 0.05


def test_without_the_lesson_the_guard_against_collapse_stays(small_split):
    """What the lesson is worth is not what its guard is worth: S041's loss has both."""
    asked = Requests.of(small_split.valid)

    def crowd(model):
        assert not hasattr(model.module, "teach")
        with torch.no_grad():
            return float(uniformity(torch.nn.functional.normalize(model.user_vectors(asked))))

    longer = {**QUICK, "lr": 1e-2, "epochs": 4, "valid_every": 4}
    guarded, bare = (
        llmsrec(distil=0, uniformity=weight, train=longer).fit(small_split) for weight in (20, 0)
    )
    assert crowd(guarded) < crowd(bare) - 0.05


def test_negatives_are_others(small_split):
    names = np.arange(small_split.dataset.n_items) // 2  # pairs are called the same
    places = Places(small_split, 20, 0, names)
    assert len(places.users) == 20
    drawn = places.plan(0, 0, 8, 3)
    assert [len(one.users) for one in drawn] == [8, 8, 4]
    for one in drawn:
        for user, target, row in zip(one.users, one.targets, one.negatives, strict=True):
            called = [names[item] for item in row if item >= 0]
            assert names[target] not in called and len(set(called)) == len(called)
            assert not set(row.tolist()) & set(small_split.train[int(user)].tolist())
    again, other = places.plan(0, 0, 8, 3), places.plan(0, 1, 8, 3)
    assert all(np.array_equal(a.negatives, b.negatives) for a, b in zip(drawn, again, strict=True))
    assert not np.array_equal(drawn[0].users, other[0].users)


def test_uniformity_is_one_where_all_rows_are_the_same():
    rows = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    assert float(uniformity(rows[:1].repeat(5, 1))) == pytest.approx(1)
    pairs = [torch.exp(-2 * (rows[i] - rows[j]).square().sum())
             for i in range(6) for j in range(6) if i != j]  # fmt: skip
    assert float(uniformity(rows)) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-5)
    assert float(uniformity(rows[:1])) == 0


def test_a_broken_off_run_ends_with_the_same_bits(small_split, tmp_path, monkeypatch):
    whole = llmsrec(tmp_path / "whole").fit(small_split)
    loss, steps = _Learning.loss, []

    def breaking(self, batch):
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(_Learning, "loss", breaking)
    often = {**QUICK, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        llmsrec(tmp_path / "broken", train=often).fit(small_split)
    assert (tmp_path / "broken" / "sequence" / "checkpoint.safetensors").exists()
    resumed = llmsrec(tmp_path / "broken", train=often).fit(small_split)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name


def test_a_fitted_sasrec_is_taken_from_its_folder(small_split, tmp_path):
    one = llmsrec().fit(small_split)
    one.sequence.save(tmp_path)
    other = llmsrec(sequence=str(tmp_path)).fit(small_split)
    asked = Requests.of(small_split.test)
    assert torch.equal(one.score(asked), other.score(asked))
    with pytest.raises(ValueError, match="extra"):
        llmsrec(sequence={"nope": 1})


def test_another_language_model_is_told(fitted, small_split, tmp_path):
    fitted.save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace(fitted.module.source, "torch:0000"))
    with pytest.raises(OnomaError, match="trained around torch:0000"):
        LLMSRec.load(tmp_path, small_split.dataset)
