"""OneRec: the shared suite, and lists said item by item."""

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.neural.seq2seq import Encoded
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.onerec import OneRec
from onoma.recommenders.tuning import validation_ndcg


def onerec(epochs=20, **settings):
    settings = {"lifelong": 30, "length": 4, "session": 3, **settings}
    return OneRec(
        encoder={"name": "collaborative", "dim": 8},
        index={"method": "balanced", "levels": 2, "size": 8},
        width=16, layers=2, heads=2, head_width=8, inner=32, users=7, queries=3, batch=32,
        train={"epochs": epochs, "batch_tokens": 256, "lr": 5e-3, "valid_every": min(epochs, 10)},
        quiet=True, **settings,
    )  # fmt: skip


class TestOneRec(Conformance):
    tolerance = 0.03  # bf16 products round by the shape of the batch

    def make(self):
        return onerec(epochs=6)


@pytest.fixture(scope="module")
def fitted(small_split):
    return onerec().fit(small_split)


def test_learns_the_ring(fitted, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(fitted, small_split.valid) > popular + 0.05


@torch.no_grad()
def test_what_was_heard_is_what_the_training_pass_reads(fitted):
    decoder, codes = fitted.module.decoder, fitted.module.codes
    context = Encoded(torch.randn(2, 5, 16), torch.tensor([5, 2]))
    session = codes[torch.tensor([[0, 4, 7], [9, 3, 1]])]
    want = decoder(context, session)
    state = decoder.begin(context)
    for place in range(3):
        walk = state
        for level in range(session.shape[2]):
            before = session[:, place, level - 1 : level] if level else None
            logits, walk = decoder.step(walk, level, before)
            torch.testing.assert_close(logits[:, 0], want[level][:, place], rtol=1e-4, atol=1e-4)
            walk = decoder.reorder(walk, torch.zeros(2, 1, dtype=torch.int64))
        state = decoder.hear(state, session[:, place])


def test_a_session_knows_what_it_said(fitted):
    asked = Requests(Ragged.from_rows([[1, 2], [8], [20, 21, 22]]))
    alone = fitted.recommend(asked, 6, mode="generate")
    said = fitted.recommend(asked, 6, mode="session")
    assert (said.items[:, 0] == alone.items[:, 0]).all()
    assert not (said.items == alone.items).all()
    shorter = fitted.recommend(asked, 3, mode="session")
    assert (shorter.items == said.items[:, :3]).all()


def test_the_long_pathway_is_read(fitted):
    recent = [1, 2, 3, 4]
    asked = Requests(Ragged.from_rows([recent, [20, 21, *recent]]), mask_seen=False)
    scores = fitted.score(asked)
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)
    assert np.isfinite(scores.numpy()).all()
