"""Click rankers: the shared suite, then labels, retrieval, reasonings and figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import Conformance
from prompted import tiny_model

from onoma import encoding
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking import reasons
from onoma.recommenders.ranking.clicks import (
    Pairs,
    attributes,
    auc,
    held,
    logloss,
    negatives,
)
from onoma.recommenders.ranking.din import DIN
from onoma.recommenders.ranking.llmcf import LLMCF

TFIDF = {"name": "tfidf", "dim": 16}
QUICK = {"epochs": 4, "lr": 1e-2, "valid_every": 2, "patience": 9}
SMALL = {"width": 8, "batch": 64, "train": QUICK, "quiet": True}


def llmcf(**how):
    told = {"size": 40, "encoder": TFIDF, **how}
    return LLMCF(content=TFIDF, reasons=told, **SMALL)


class TestDIN(Conformance):
    def make(self):
        return DIN(**SMALL)


class TestLLMCF(Conformance):
    def make(self):
        return llmcf()


@pytest.fixture(scope="module")
def fitted(small_split):
    return llmcf().fit(small_split)


def test_auc_and_logloss_equal_their_definitions():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(60).round(1)  # with ties
    clicked = rng.random(60) < 0.4
    right, wrong = scores[clicked], scores[~clicked]
    won = (right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2
    assert auc(scores, clicked) == pytest.approx(won)
    chance = 1 / (1 + np.exp(-scores))
    want = -np.log(np.where(clicked, chance, 1 - chance)).mean()
    assert logloss(scores, clicked.astype(float)) == pytest.approx(want)
    assert auc(scores, np.ones(60, dtype=bool)) == 0.5


def test_what_a_user_took_is_no_negative():
    taken = np.array([2, 5, 9])
    assert held(np.array([[2, 3], [9, 11]]), taken).tolist() == [[True, False], [True, False]]
    assert not held(np.array([1]), taken[:0]).any()


def test_clicks_are_told_from_what_nobody_took(small_split):
    """Better than chance on what training holds, and the figures are those of the scores."""
    settings = {**SMALL, "train": {**QUICK, "epochs": 30}}
    model = DIN(**settings).fit(small_split)
    cases = small_split.valid
    figures = model.click_figures(cases)
    assert figures["pairs"] == 2 * len(cases) and figures["auc"] > 0.6
    other = negatives(cases, small_split.dataset.n_items)
    target = cases.targets.values[cases.targets.offsets[:-1]]
    whole = model.score(Requests.of(cases)).numpy()
    rows = np.arange(len(cases))
    both = np.stack([whole[rows, target], whole[rows, other]], axis=1).reshape(-1)
    assert figures["auc"] == pytest.approx(auc(both, np.tile([True, False], len(cases))))
    assert "valid_auc" in model.training and "valid_ndcg@10" not in model.training
    for row in rows:
        assert other[row] not in cases.history[row] and other[row] != target[row]


def test_attributes_are_the_last_category_and_the_brand(small_split):
    items = small_split.dataset.items
    codes = attributes(items)
    assert codes.shape == (40, 2)
    kinds = items["categories"].to_list()
    silent = np.array([kind is None for kind in kinds])
    assert (codes[silent, 0] == 0).all() and (codes[~silent, 0] > 0).all()
    names = {kind[-1] for kind in kinds if kind}
    assert len(np.unique(codes[~silent, 0])) == len(names)


def test_the_base_holds_training_alone(small_split):
    examples = reasons.sampled(small_split, 60, 0)
    taken = [one for one in examples if one.taken]
    assert len(taken) >= 20 and [one.taken for one in examples] == sorted(
        (one.taken for one in examples), reverse=True
    )
    for one in examples:
        history = small_split.train[one.user]
        assert (history[one.place] == one.item) == one.taken
        assert one.taken or one.item not in history
    blind = replace(small_split, test=small_split.test.take(np.arange(0)))
    assert reasons.sampled(blind, 60, 0) == examples


def test_nothing_is_retrieved_of_what_the_same_user_did_later(fitted):
    module = fitted.module
    users, places = module.base_users, module.base_places
    pairs = Pairs(module.base_history, users, module.base_items, places)
    found = module.retrieve(pairs)
    assert found.shape == (len(users), 4)
    same = users[found] == users[:, None]
    assert not (same & (places[found] >= places[:, None])).any()  # itself neither
    stranger = torch.full_like(users, module.n_users)
    free = module.retrieve(Pairs(module.base_history, stranger, module.base_items, places))
    rows = torch.arange(len(users))[:, None]
    assert (free == rows).any(1).float().mean() > 0.9  # the nearest is the pair itself
    assert (module.base_taken[found].sum(1) == 2).all()
    hidden = replace(pairs, users=stranger, owners=users)
    assert torch.equal(module.retrieve(hidden), found)


def test_training_tells_nothing_of_its_own_labels_where_the_user_is_hidden(
    fitted, small_split, monkeypatch
):
    module, asked = fitted.module, []
    monkeypatch.setattr(module, "loss", lambda pairs, labels: asked.append(pairs) or labels.sum())
    task = fitted._task(small_split)
    for batch in task.plan(0, 0):
        task.loss(batch)
    for pairs in asked:
        hidden = pairs.users == module.n_users
        assert hidden.any() and (pairs.owners < module.n_users).all()
        assert torch.equal(pairs.users[~hidden], pairs.owners[~hidden])
        found = module.retrieve(pairs)
        same = module.base_users[found] == pairs.owners[:, None]
        assert not (same & (module.base_places[found] >= pairs.places[:, None])).any()


def test_reasonings_and_their_labels_change_the_answer(fitted, small_split):
    requests = Requests.of(small_split.test)
    before = fitted.score(requests)
    module = fitted.module
    for buffer in (module.base_reasons, module.decoder.norm.weight):
        kept = buffer.detach().clone()
        with torch.no_grad():
            buffer.zero_()
        assert not torch.allclose(fitted.score(requests), before)
        with torch.no_grad():
            buffer.copy_(kept)
    assert torch.equal(fitted.score(requests), before)


def test_the_control_has_the_same_reasonings_under_other_pairs(fitted, small_split):
    dealt = llmcf(shuffled=0).fit(small_split)
    ours, theirs = (model.module.base_reasons.numpy() for model in (fitted, dealt))
    order = [np.lexsort(rows.T) for rows in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]])
    assert not np.allclose(ours, theirs)
    assert torch.equal(fitted.module.base_items, dealt.module.base_items)


def test_a_template_says_what_is_shared_and_how_it_ended(small_split):
    examples = reasons.sampled(small_split, 20, 0)
    told = reasons.facts(small_split, examples, 3)
    texts = reasons.TemplateReasoner().write(told)
    for one, text in zip(told, texts, strict=True):
        assert text.endswith(f"The person {reasons.TAKEN if one.taken else reasons.LEFT}.")
        assert all(name in text for name in one.shared)
        assert len(one.history) <= 3


def test_poor_reasonings_are_left_out():
    told = [reasons.Told(("red soap",), "red soap", (), "known", True)] * 3
    good = "The person likes red soap and had one before, so this red soap fits and they took it."
    texts = [good, "soap soap soap soap soap soap", ""]
    encoder = encoding.build({"name": "tfidf", "dim": 16, "min_df": 1})
    _, scores = reasons.vectors_of(texts, told, encoder)
    assert scores[0] > scores[1] > scores[2] == -1
    chosen = reasons.kept(scores, np.array([True] * 3), 1.0)
    assert chosen.tolist() == [0, 1]


def test_a_language_model_that_is_named_writes_and_is_counted(small_split):
    model = llmcf(by=tiny_model(), size=8, tokens=8, keep=1.0).fit(small_split)
    report = model.language_report()
    assert report["answers"]["asked"] == 8 and report["usage"]["completion_tokens"] > 0
    assert "template" not in report["answers"] and report["model"] != "none"
    plain = llmcf().fit(small_split).language_report()
    assert plain["model"].startswith("none: template") and plain["answers"]["template"] == 40


def test_an_encoder_without_texts_is_told(small_split):
    with pytest.raises(OnomaError, match="reads no texts"):
        llmcf(encoder="als").fit(small_split)
