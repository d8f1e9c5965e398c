"""AlphaRec: the shared suite, then what is its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.alpharec import AlphaRec
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 40, "lr": 4e-2, "valid_every": 10}
TEXT = {"name": "tfidf", "dim": 16}


def alpharec(**settings):
    settings = {"encoder": TEXT, "hidden": 16, **settings}
    return AlphaRec(width=8, batch=64, negatives=32, train=QUICK, quiet=True, **settings)


class TestAlphaRec(Conformance):
    def make(self):
        return alpharec()


class TestProbe(Conformance):
    def make(self):
        return alpharec(hidden=None, layers=0)


@pytest.fixture(scope="module")
def fitted(small_split):
    return alpharec().fit(small_split)


def test_nobody_has_a_vector_of_their_own(fitted, small_split):
    sizes = {len(p) for p in fitted.module.parameters()}
    assert small_split.dataset.n_users not in sizes and small_split.dataset.n_items not in sizes
    asked = Requests.of(small_split.test)
    known = fitted.score(asked)
    strangers = fitted.score(replace(asked, users=np.full(len(asked), -1, dtype=np.int32)))
    torch.testing.assert_close(known, strangers)


def test_without_a_walk_alike_texts_are_alike_to_it(small_split):
    probe = alpharec(hidden=None, layers=0).fit(small_split)
    asked = Requests(Ragged.from_rows([[0]]), mask_seen=False)
    map_ = probe.module.map.weight.detach()
    user = probe.module.content[0] @ map_.T
    items = torch.nn.functional.normalize(probe.module.content @ map_.T, dim=1)
    torch.testing.assert_close(probe.score(asked)[0], items @ user)


def test_users_are_the_mean_of_training_items_alone(fitted, small_split):
    module = alpharec()._build(small_split)
    row = int(np.argmax(small_split.train.lengths))
    codes = np.unique(small_split.train[row])
    torch.testing.assert_close(module.profiles[row], module.content[codes].mean(0))


def test_it_learns(fitted, small_split):
    fresh = alpharec()
    fresh.module = alpharec()._build(small_split)
    fresh.module.settle()
    assert validation_ndcg(fitted, small_split.valid) > 1.2 * validation_ndcg(
        fresh, small_split.valid
    )
