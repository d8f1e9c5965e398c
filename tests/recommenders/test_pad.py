"""PAD: the shared suite, then what is its own."""

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.pad import PAD, frequency_bins
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 4, "lr": 1e-2, "valid_every": 2, "batch_tokens": 256}


def pad(**settings):
    settings = {"encoder": {"name": "tfidf", "dim": 16}, "pretrain": 4, "align": 4, **settings}
    return PAD(width=16, hidden=16, train=QUICK, quiet=True, **settings)


class TestPAD(Conformance):
    def make(self):
        return pad()


@pytest.fixture(scope="module")
def fitted(small_split):
    return pad().fit(small_split)


def test_scores_are_the_experts_cosines_weighed_by_the_bin_of_the_item(fitted, small_split):
    asked = Requests.of(small_split.test)
    states = fitted.last_states(asked.history)
    table = fitted.item_table()[:-1]
    weight = fitted.module.weights()[:, fitted.module.bin].detach()
    want = torch.zeros(len(states), len(table))
    for expert in range(3):
        part = slice(16 * expert, 16 * (expert + 1))
        cosine = torch.nn.functional.cosine_similarity(
            states[:, None, part], table[None, :, part], dim=2
        )
        want += weight[expert] * cosine * fitted.settings.scale
    torch.testing.assert_close(fitted.score(asked), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weight.sum(0), torch.ones(len(table)))


def test_the_aligning_step_leaves_the_ids_alone(small_split):
    model = pad()
    torch.manual_seed(0)
    model.module = model._build(small_split)
    model.module.begin("align")
    module = model.module
    targets = torch.arange(30)
    module.discrepancy(targets).backward()
    assert module.ids.grad is None and module.copy.grad is None
    assert any(p.grad is not None for p in module.up.parameters())
    assert module.up[0].weight.grad.abs().sum() > 0
    padding = torch.cat([targets, torch.full((50,), -1)])
    torch.testing.assert_close(module.discrepancy(padding), module.discrepancy(targets))


def test_aligning_closes_the_gap(small_split):
    """With the discrepancy, projected text lies nearer to the ids than without it."""

    def gap(gamma):
        model = pad(gamma=gamma, align=12).fit(small_split)
        with torch.no_grad():
            return float(model.module.discrepancy(torch.arange(40)))

    assert gap(5.0) < 0.8 * gap(0.0)


def test_rare_items_begin_with_text_and_frequent_ones_with_ids(small_split):
    counts = np.array([0, 1, 1, 2, 5, 9, 30, 100, 0, 7])
    bins = frequency_bins(counts, 5)
    assert bins[counts == 0].tolist() == [0, 0] and bins.max() <= 4
    order = np.argsort(counts, kind="stable")
    assert (np.diff(bins[order]) >= 0).all() and bins[1] == bins[2] and bins[7] == 4
    ids, _, text = pad()._build(small_split).weights().detach().numpy()
    assert text[0] > ids[0] and ids[-1] > text[-1]


def test_three_steps_and_each_is_told(fitted, small_split):
    told = fitted.training
    assert set(told["steps_before"]) == {"pretrain", "align"}
    assert {row["phase"] for row in told["history"]} == {"pretrain", "align", "experts"}
    assert np.shape(list(told["experts"].values())) == (3, 11)
    assert validation_ndcg(fitted, small_split.valid) == pytest.approx(told["valid_ndcg@10"])
