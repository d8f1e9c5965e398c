"""Mult-VAE: the shared suite, then what is its own."""

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.recommenders.autoencoders.multvae import MultVAE, MultVAEModule
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 60, "lr": 1e-2, "valid_every": 20}


def multvae(**settings):
    return MultVAE(hidden=32, latent=8, batch=16, train=QUICK, quiet=True, **settings)


class TestMultVAE(Conformance):
    def make(self):
        return multvae()


@pytest.fixture(scope="module")
def fitted(small_split):
    return multvae().fit(small_split)


def test_learns_who_goes_with_whom(fitted, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(fitted, small_split.valid) > popular + 0.05


def test_order_and_repeats_are_not_read(fitted):
    rows = [[3, 4, 9], [9, 3, 4], [9, 3, 4, 3, 3]]
    scores = fitted.score(Requests(Ragged.from_rows(rows)))
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_the_divergence_is_that_of_the_normals():
    torch.manual_seed(0)
    module = MultVAEModule(12, multvae().settings).eval()
    profile = torch.from_numpy(np.eye(12, dtype=np.float32)[:3])
    hidden = torch.tanh(module.encode(profile))
    mean, log_variance = module.latent(hidden).chunk(2, dim=1)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    want = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(module(profile)[1], want)
