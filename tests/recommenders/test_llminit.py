"""LLMInit: the shared suite, then what is its own."""

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma import encoding
from onoma.errors import OnomaError
from onoma.recommenders.bridged.llminit import LLMInit, chosen

QUICK = {"epochs": 10, "lr": 1e-2, "valid_every": 5}
TEXT = {"name": "tfidf", "dim": 24}


def llminit(**settings):
    settings = {"encoder": TEXT, "width": 8, **settings}
    return LLMInit(batch=64, negatives=32, train=QUICK, quiet=True, **settings)


class TestLLMInit(Conformance):
    def make(self):
        return llminit()


def test_each_rule_keeps_the_directions_it_says():
    rng = np.random.default_rng(0)
    content = rng.standard_normal((50, 12)).astype(np.float32) * np.arange(1, 13)
    counts = np.arange(50)
    content[40:, 3] *= 100  # only the popular ones spread along the fourth direction
    content[:40, 2] *= 1000
    assert chosen("uni", 4, content, counts, rng).tolist() == [0, 3, 6, 9]
    drawn = chosen("rand", 12, content, counts, rng)
    assert drawn.tolist() == list(range(12))  # without replacement
    assert 3 in chosen("var", 1, content, counts, rng)
    assert 2 not in chosen("var", 4, content, counts, rng)


def test_tables_begin_as_text_and_as_means_of_training_items(small_split):
    model = llminit(rule="uni", size=None)
    module = model._build(small_split)
    table = encoding.build(TEXT).encode(small_split)[:, ::3][:, :8]
    told = table.any(axis=1)
    items = module.items.detach().numpy()
    np.testing.assert_array_equal(items[told], table[told])
    assert not told.all() and items[~told].any(axis=1).all()  # fresh where there is no text
    row = int(np.argmax(small_split.train.lengths))
    codes = np.unique(small_split.train[row])
    torch.testing.assert_close(module.users[row], torch.from_numpy(table[codes].mean(0)))
    for rule in ("var", "uni", "rand", "pca", "projection"):
        items = llminit(rule=rule)._build(small_split).items.detach()
        size = float(items.square().mean().sqrt())
        assert size == pytest.approx(0.1, rel=1e-4 if told.all() else 0.05)


def test_a_run_tells_the_spectrum_before_and_after(small_split):
    told = llminit().fit(small_split).training["spectrum"]
    assert told["width"] == told["first"]["width"] == 8
    assert 1 <= told["effective_rank"] <= 8 and told["first"] != {**told, "first": None}


def test_a_table_wider_than_the_text_is_refused(small_split):
    with pytest.raises(OnomaError, match="cannot begin a table of 99"):
        llminit(width=99).fit(small_split)
