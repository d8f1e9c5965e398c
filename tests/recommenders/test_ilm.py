"""ILM: the shared suite, then what is its own."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import Conformance
from conformance import fitted as shared

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.neural.noise import Noise
from onoma.neural.qformer import QueryTransformer
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.ilm import ILM, checksum
from onoma.recommenders.bridged.representing import Conversing, Representing

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder

pytest.importorskip("transformers")
SEQUENCE = {"width": 16, "blocks": 1, "heads": 1, "length": 20,
            "train": {"epochs": 2, "lr": 1e-2, "batch_tokens": 256}}  # fmt: skip
QUICK = {"epochs": 1, "lr": 3e-3, "valid_every": 1}


def ilm(folder=None, **settings):
    settings = {
        "model": str(tiny_folder()), "layers": 1, "sequence": SEQUENCE, "history": 3, "title": 3,
        "encoder": {"name": "tfidf", "dim": 16}, "negatives": 3, "shortlist": 4, "batch": 16,
        "checked": 10, "queries": 2, "width": 16, "blocks": 1, "heads": 2, "spread": 2, "words": 6,
        "joint": 8, "pairs": 16, "represent": {"epochs": 2, "lr": 1e-2, "valid_every": 2},
        "train": QUICK, **settings,
    }  # fmt: skip
    return ILM(quiet=True, folder=folder, **settings)


class TestILM(Conformance):
    def make(self):
        return ilm()


@pytest.fixture(scope="module")
def fitted(small_split):
    return shared(TestILM(), small_split).model


@pytest.fixture
def former():
    torch.manual_seed(0)
    return QueryTransformer(5, 8, 2, 2, 3, 2, 6, 0.0, Noise()).eval()


_sequence = []


def built(split, **settings):
    """With the SASRec fitted, once for all, and nothing else."""
    model = ilm(**settings)
    if not _sequence:
        _sequence.append(model.sequence.fit(split))
    model.sequence = copy.deepcopy(_sequence[0])
    torch.manual_seed(0)
    model.module = model._build(split)
    return model


def test_who_sees_whom(former):
    """Queries never see a text that is told, and its words see nothing that comes after them."""
    vectors, words = torch.randn(2, 5), torch.randn(2, 4, 8)
    known = torch.tensor([[True] * 4, [True, True, False, False]])
    other, longer = words.clone(), words.clone()
    other[0, 2] = torch.randn(8)
    longer[1, 2:] = torch.randn(2, 8)
    with torch.no_grad():
        alone = former(vectors)
        queries, texts = former.together(vectors, words, known, "causal")
        queries_, texts_ = former.together(vectors, other, known, "causal")
        torch.testing.assert_close(queries, alone)
        torch.testing.assert_close(queries_, alone)
        torch.testing.assert_close(texts_[0, :2], texts[0, :2])
        assert not torch.allclose(texts_[0, 3], texts[0, 3])
        assert not torch.allclose(
            former.together(vectors + 1, words, known, "causal")[1][0, 0], texts[0, 0]
        )
        both, _ = former.together(vectors, words, known, "both")
        assert not torch.allclose(both[0], alone[0])
        # What stands behind a text is nobody's business.
        torch.testing.assert_close(former.together(vectors, longer, known, "both")[0][1], both[1])
        torch.testing.assert_close(
            former.read(longer, known)[1, :2], former.read(words, known)[1, :2]
        )


def test_each_stage_trains_its_own_and_the_language_model_stays(small_split):
    model = built(small_split)
    module = model.module
    before = checksum(module.lm)
    for phase, task in (("represent", Representing), ("tell", Conversing)):
        module.begin(phase)
        wanted = {name for name, p in module.named_parameters() if p.requires_grad}
        one = task(model, small_split)
        one.loss(one.plan(0, 0)[0]).backward()
        got = {name for name, p in module.named_parameters() if p.grad is not None}
        assert got == wanted
        texts = {name for name in wanted if "text" in name or name.startswith("language")}
        assert bool(texts) == (phase == "represent")
        assert any(name.startswith("former.blocks") for name in wanted)
        assert ("adaptor.weight" in wanted) == (phase == "tell")
    assert not any(p.requires_grad or p.grad is not None for p in module.lm.parameters())
    assert checksum(module.lm) == before
    with torch.no_grad():
        next(iter(module.lm.parameters()))[0, 0] += 1e-3
    assert checksum(module.lm) != before


def trained(module, losses, lr=1e-2):
    """The module after a step for each loss, which is a function without arguments."""
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=lr)
    module.train()
    for loss in losses:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    return module.eval()


def test_items_learn_to_be_read(small_split):
    """Then an item's own text fits best, matches, and its words are likelier behind it."""
    model = built(small_split)
    module, task = model.module, Representing(model, small_split)
    items = torch.from_numpy(task.warm)
    same = torch.from_numpy(module.names[task.warm][:, None] == module.names[task.warm])

    def apart():
        """By how much own texts are better than those of other items."""
        language, former, vectors = module.language, module.former, module.ids[items]
        with torch.no_grad():
            fits = language.compared(former(vectors)) @ language.as_texts(former, items).T
            fits = fits.amax(1)
            told, others = (
                float(language._told(former, part, items)) for part in (vectors, vectors.roll(1, 0))
            )
            torch.manual_seed(0)
            matched = float(language.described(former, vectors, items, same)[1])
        return float(fits.diagonal().mean() - fits.mean()), others - told, matched

    module.eval()
    before = apart()
    assert max(before[:2]) < 0.05 and before[2] > 0.6

    def loss():
        return sum(module.language.described(module.former, module.ids[items], items, same))

    trained(module, [loss] * 60)
    after = apart()
    assert after[0] > 0.3 and after[1] > 0.06 and after[2] < before[2]


def test_pairs_leave_out_what_the_user_took(small_split):
    model = built(small_split)
    task = Representing(model, small_split)
    plan = task.plan(0, 0)
    users = np.concatenate([one.drawn.users for one in plan])
    assert sorted(users) == sorted(task.places.users)  # each once
    for one in plan:
        for user, end, target, partner in zip(
            one.drawn.users, one.drawn.ends, one.drawn.targets, one.partners, strict=True
        ):
            history = small_split.train[int(user)]
            assert history[end] == target and partner in history[:end]
        assert (small_split.train_counts[one.items] > 0).all()
    took = task.places.took(users, np.arange(small_split.dataset.n_items))
    for row, user in zip(took, users, strict=True):
        assert set(np.flatnonzero(row)) == set(small_split.train[int(user)].tolist())
    language = model.module.language
    vectors = torch.nn.functional.normalize(torch.randn(2, 2, 8), dim=2)
    nothing, free = torch.zeros(2), torch.zeros((2, 2), dtype=torch.bool)
    with torch.no_grad():
        some = language.paired(vectors, vectors.flip(0), nothing, free)
        assert float(some) > 1
        alone = language.paired(vectors, vectors.flip(0), nothing, ~torch.eye(2, dtype=torch.bool))
        assert float(alone) == 0
        expected = max(float(a @ b) for a in vectors[0] for b in vectors[1])
        assert float(language.alike(vectors, vectors)[0, 1]) == pytest.approx(expected, abs=1e-6)


def test_what_is_taken_together_is_drawn_together(small_split):
    """By the loss between items alone."""
    only = {"contrast": 0.0, "matching": 0.0, "telling": 0.0, "taking": 0.0}
    model = built(small_split, **only)
    module, task = model.module, Representing(model, small_split)

    def loss():
        module.eval()
        with torch.no_grad():
            return float(np.mean([float(task.loss(one)) for one in task.plan(1, 99)]))

    def nearer():
        """How much more alike items are that follow each other somewhere."""
        with torch.no_grad():
            every = module.language.compared(module.former(module.ids))
            alike = module.language.alike(every, every)
        rows = [small_split.train[user] for user in range(len(small_split.train))]
        pairs = [pair for row in rows for pair in zip(row[:-1], row[1:], strict=True)]
        first, second = torch.tensor(np.array(pairs).T.astype(np.int64))
        return float(alike[first, second].mean() - alike.mean())

    before, apart = loss(), nearer()
    every = [one for epoch in range(30) for one in task.plan(0, epoch)]
    trained(module, [lambda one=one: task.loss(one) for one in every])
    assert loss() < before and nearer() > apart + 0.1


def test_vectors_begin_like_words_and_differ_by_item(fitted, small_split):
    for bridge in ("fresh", "mlp", "linear"):
        module = built(small_split, bridge=bridge).module
        module.meet()
        words = module.lm.get_input_embeddings().weight
        with torch.no_grad():
            told = module.of_items(torch.arange(module.n_items))
        assert told.shape == (module.n_items, 2, module.width)
        torch.testing.assert_close(told.mean(0), words.mean(0).expand(2, -1), rtol=1e-3, atol=1e-4)
        spread = (told - told.mean(0)).square().mean().sqrt()  # between items alone
        assert float(spread) == pytest.approx(float(words.std(0).mean()), rel=1e-3)


def test_controls_have_as_many_weights_and_no_first_stage(fitted, small_split):
    module = fitted.module
    module.begin("tell")
    weights = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert fitted.training["represent"]["epochs"] == 2 and fitted.training["language_unchanged"]
    for bridge in ("fresh", "mlp"):
        other = built(small_split, bridge=bridge).module
        assert not hasattr(other, "language")
        other.begin("tell")
        count = sum(p.numel() for p in other.parameters() if p.requires_grad)
        assert count == weights if bridge == "fresh" else abs(count - weights) < 0.03 * weights
    assert ilm(bridge="mlp").fit(small_split).training["represent"] == {}


def test_the_language_model_reads_the_vectors(small_split):
    """Titles get likelier behind an item's own vectors, which vectors alone can tell."""
    model = built(small_split, bridge="fresh", checked=40)
    module, task = model.module, Conversing(model, small_split)
    module.begin("tell")
    module.meet()
    before = model.told_apart()
    assert abs(before["others"] - before["own"]) < 0.1
    every = [one for epoch in range(20) for one in task.plan(0, epoch)]
    trained(module, [lambda one=one: task.spoken(one) for one in every])
    after = model.told_apart()
    assert after["own"] < before["own"] and after["others"] > after["own"] + 0.12


def test_a_question_holds_the_queries_of_the_user_and_of_each_item(fitted):
    module = fitted.module
    pieces, codes = module.prompt([1, 2], [3, 4, 7])
    assert codes == [-1, 1, 2, 3, 4, 7] and pieces.count(None) == 12
    states = torch.randn(1, 16)
    with torch.no_grad():
        soft = module.told([codes], states)
        torch.testing.assert_close(soft[:2], module.of_users(states)[0])
        torch.testing.assert_close(soft[4:6], module.of_items(torch.tensor([2]))[0])
    found = module.weigh([1, 2], [3, 4, 7], states[0])
    for item, value in zip([3, 4, 7], found, strict=True):
        prompts = module.composer.compose([pieces], [module.answer(item)])
        with torch.no_grad():
            loss = module.answer_loss(prompts, soft)
        assert value == pytest.approx(-float(loss), abs=1e-4)


def test_without_vectors_only_titles_are_read(fitted, small_split):
    model = ilm(soft=False).fit(small_split)
    pieces, codes = model.module.prompt([1], [2, 3])
    assert None not in pieces and codes == [] and model.training["epochs"] == 0
    lists = np.tile(np.array([1, 5, 9, 20], dtype=np.int32), (len(small_split.test), 1))
    asked = replace(Requests.of(small_split.test), candidates=lists, mask_seen=False)
    assert not np.array_equal(model.recommend(asked, 4).items, fitted.recommend(asked, 4).items)


def test_a_broken_off_run_ends_with_the_same_bits(small_split, tmp_path, monkeypatch):
    whole = ilm(tmp_path / "whole").fit(small_split)
    often = {"represent": {"epochs": 2, "lr": 1e-2, "valid_every": 2, "checkpoint_seconds": 0},
             "train": {**QUICK, "checkpoint_seconds": 0}}  # fmt: skip
    for task, at in ((Representing, 6), (Conversing, 3)):
        loss, steps = task.loss, []

        def breaking(self, batch, loss=loss, steps=steps, at=at):
            steps.append(1)
            if len(steps) == at:
                raise KeyboardInterrupt
            return loss(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(task, "loss", breaking)
            with pytest.raises(KeyboardInterrupt):
                ilm(tmp_path / "broken", **often).fit(small_split)
    resumed = ilm(tmp_path / "broken", **often).fit(small_split)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    assert not list((tmp_path / "broken" / "represent").glob("*.safetensors"))


def test_users_with_a_single_item_leave_nothing_to_learn(small_split):
    short = Ragged.from_rows([row[:1] for row in map(small_split.train.__getitem__, range(9))])
    nothing = np.full(len(short.values), -1, dtype=np.int64)
    one = Representing(built(small_split), replace(small_split, train=short, train_times=nothing))
    assert one.plan(0, 0) == []


def test_bad_settings_are_told():
    with pytest.raises(OnomaError, match="no multiple"):
        ilm(width=18, heads=4)
    with pytest.raises(OnomaError, match="no loss"):
        ilm(contrast=0, matching=0, telling=0, beside=0, taking=0)
