"""CoRR: the shared suite, then samples, losses and what flows where."""

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval.corr import CoRR, _Cooperation, _kl

QUICK = {"epochs": 2, "lr": 5e-3, "valid_every": 1, "patience": 9, "batch_tokens": 128}
SMALL = {"width": 16, "length": 8, "anchors": 24, "drawn": 6, "quiet": True, "train": QUICK,
         "ranker": {"width": 8, "length": 5}}  # fmt: skip


def corr(**settings):
    return CoRR(**{**SMALL, **settings})


class TestCoRR(Conformance):
    def make(self):
        return corr()


@pytest.fixture(scope="module")
def fitted(small_split):
    return corr(shortlist=7).fit(small_split)


def begun(split, **settings):
    """A model before training, and its task."""
    model = corr(**settings)
    torch.manual_seed(0)
    model.module = model._build(split)
    task = _Cooperation(model, split)
    return model, task, task.plan(0, 0)[0]


def anchors(model, count=5, seed=0):
    torch.manual_seed(seed)
    query, vectors = model.module.query(torch.randn(count, 16), model.module.table())
    return query.detach(), vectors.detach(), torch.randint(0, model.module.n_items, (count,))


@pytest.mark.parametrize("sampler", ["own", "multi-index", "uniform"])
def test_chances_that_are_told_are_those_of_the_draw(sampler, small_split):
    model, _, _ = begun(small_split, sampler=sampler, temperature=2.0, codewords=4)
    query, vectors, right = anchors(model)
    if sampler == "multi-index":
        model.module.index(vectors, 0, 0)
    drawn, told = model.module.draw(query, vectors, right, 20_000)
    n = model.module.n_items
    share = torch.stack([torch.bincount(row, minlength=n) for row in drawn]) / 20_000
    chances = torch.full((5, n), torch.nan).scatter(1, drawn, told[:, 1:].exp())
    known = ~chances.isnan()
    torch.testing.assert_close(share[known], chances[known], rtol=0.2, atol=4e-3)
    torch.testing.assert_close(share.sum(1), torch.ones(5))
    assert chances.nansum(1).min() > 0.99
    own = chances.gather(1, right[:, None])[:, 0]
    there = ~own.isnan()
    torch.testing.assert_close(told[:, 0].exp()[there], own[there])
    if sampler == "own":
        torch.testing.assert_close(chances[known], (query @ vectors.T / 2).softmax(1)[known])


def test_each_learns_from_its_own_loss_alone(small_split):
    model, task, batch = begun(small_split, distil=0)

    def touched(**settings):
        model.module.settings = model.settings.model_copy(update=settings)
        model.module.zero_grad(set_to_none=True)
        model.module.noise.at(0, 0)
        task.loss(batch).backward()
        return {name: weight.grad.clone() for name, weight in model.module.named_parameters()
                if weight.grad is not None}  # fmt: skip

    without, taught = touched(distil=0.0), touched(distil=5.0)
    of_ranker = [name for name in without if name.startswith("ranker.")]
    of_retriever = [name for name in without if not name.startswith("ranker.")]
    assert of_ranker and "ids" in of_retriever
    # The lesson reaches the retriever and leaves the ranker as it is.
    assert all(torch.equal(without[name], taught[name]) for name in of_ranker)
    assert not torch.equal(without["ids"], taught["ids"])


def test_the_loss_is_the_formula(small_split):
    model, task, batch = begun(small_split, distil=0.7, temperature=3.0)
    module = model.module.eval()
    seen = {}
    draw = module.draw

    def noted(query, vectors, right, count):
        seen.update(query=query, vectors=vectors, right=right)
        seen["drawn"], seen["often"] = draw(query, vectors, right, count)
        return seen["drawn"], seen["often"]

    ranked = module.ranked

    def judged(history, items):
        seen["judged"] = ranked(history, items)
        return seen["judged"]

    module.draw, module.ranked = noted, judged
    found = float(task.loss(batch).detach())
    total = lesson = 0.0
    drawn, often, judged_ = seen["drawn"], seen["often"].double(), seen["judged"].detach().double()
    for row, right in enumerate(seen["right"].tolist()):
        others = [c for c in range(6) if drawn[row, c] != right]
        retrieved = (seen["vectors"] @ seen["query"][row]).detach().double()
        mine = torch.cat([retrieved[[right]], retrieved[drawn[row]]])
        for logits in (mine, judged_[row]):
            weighed = logits - often[row]
            kept = torch.stack([weighed[0], *(weighed[1 + c] for c in others)])
            total += float(torch.logsumexp(kept, 0) - weighed[0])
        p = (judged_[row] - often[row])[1:].softmax(0)
        q = (mine - often[row])[1:].softmax(0)
        lesson += float((p * (p / q).log()).sum())
    assert lesson > 0
    assert found == pytest.approx((total + 0.7 * lesson) / len(drawn), rel=1e-4)


def test_estimates_of_the_divergence_near_the_exact_one(fitted, small_split, monkeypatch):
    asked = Requests.of(small_split.test)
    # A flat draw: a peaked one needs many more to see what the ranker alone likes.
    flat = fitted.settings.model_copy(update={"temperature": 8.0})
    monkeypatch.setattr(fitted.module, "settings", flat)
    exact, found = fitted.divergence(asked, (5, 50, 2000))
    errors = [np.abs(found[size] - exact).mean() for size in (5, 50, 2000)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1 * exact.mean() + 0.01
    rows = Requests.of(small_split.test.take(np.arange(3)))
    states = fitted.states(rows)
    every = torch.arange(fitted.module.n_items).expand(3, -1)
    p = fitted.judged(rows, states, every).double().softmax(1)
    q = fitted.answer(states).double().softmax(1)
    np.testing.assert_allclose(exact[:3], (p * (p / q).log()).sum(1), rtol=1e-4)
    assert float(_kl(p.log(), p.log()).abs().max()) < 1e-12


def test_the_retriever_finds_and_the_ranker_orders(fitted, small_split):
    asked = Requests.of(small_split.test)
    found = fitted.recommend(asked, 7, mode="retrieve")
    answer = fitted.recommend(asked, 12)
    items = torch.from_numpy(found.items.astype(np.int64))
    logits = fitted.judged(asked, fitted.states(asked), items)
    order = logits.argsort(dim=1, descending=True).numpy()
    assert np.array_equal(answer.items[:, :7], np.take_along_axis(found.items, order, 1))
    rest = fitted.recommend(asked, 12, mode="retrieve").items[:, 7:]
    assert np.array_equal(answer.items[:, 7:], rest)


def test_lessons_bring_the_retriever_nearer_to_the_ranker(small_split):
    asked = Requests.of(small_split.test)
    train = {**QUICK, "epochs": 12, "valid_every": 12}

    def far(distil):
        model = corr(distil=distil, train=train).fit(small_split)
        return model.divergence(asked, ())[0].mean()

    assert far(3.0) < 0.8 * far(0.0)


def test_the_index_is_made_once_an_epoch_and_kept_with_the_weights(small_split):
    model, task, batch = begun(small_split, sampler="multi-index", codewords=3)
    task.loss(batch)
    module = model.module
    assert int(module.made) == 0 and len(module.cells) == module.n_items
    before = module.first.clone()
    with torch.no_grad():
        module.ids.add_(torch.randn_like(module.ids))
    task.loss(batch)
    assert torch.equal(module.first, before)
    task.loss(task.plan(0, 1)[0])
    assert int(module.made) == 1 and not torch.equal(module.first, before)
    assert {"first", "second", "cells", "made"} <= set(module.state_dict())


@pytest.mark.parametrize(
    "settings", [{"sampler": "multi-index", "codewords": 4}, {"sampler": "uniform"},
                 {"everywhere": True}]
)  # fmt: skip
def test_other_ways_train_save_and_load(settings, small_split, tmp_path):
    model = corr(**settings, folder=tmp_path / "fit").fit(small_split)
    model.save(tmp_path)
    asked = Requests.of(small_split.test)
    again = CoRR.load(tmp_path, small_split.dataset)
    torch.testing.assert_close(again.score(asked), model.score(asked))


def test_bad_settings_are_refused():
    for wrong in ({"sampler": "best"}, {"drawn": 0}, {"temperature": 0}, {"ranker": {"width": 0}}):
        with pytest.raises(ValueError):
            CoRR(**wrong)
