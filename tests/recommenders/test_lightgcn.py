"""LightGCN: the shared suite, then what is its own."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.encoding.cooccurrence import interactions
from onoma.neural.graph import Bipartite
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.collaborative.lightgcn import LightGCN
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 40, "lr": 2e-2, "valid_every": 10}


def lightgcn(**settings):
    return LightGCN(width=16, batch=64, negatives=32, train=QUICK, quiet=True, **settings)


class TestLightGCN(Conformance):
    def make(self):
        return lightgcn()


class TestFactorisation(Conformance):
    def make(self):
        return lightgcn(layers=0, loss="bpr")


@pytest.fixture(scope="module")
def fitted(small_split):
    return lightgcn().fit(small_split)


def test_learns_who_goes_with_whom(fitted, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(fitted, small_split.valid) > popular + 0.05


def test_a_walk_is_the_normalised_matrix_to_a_power_and_has_its_gradient(small_split):
    held = interactions(small_split.train, small_split.dataset.n_items).toarray()
    torch.manual_seed(0)
    users, items = torch.randn(held.shape[0], 3), torch.randn(held.shape[1], 3)
    both = torch.cat([users, items]).requires_grad_()
    n = len(users)
    full = np.block([[np.zeros((n, n)), held], [held.T, np.zeros((held.shape[1],) * 2)]])
    root = 1 / np.sqrt(np.maximum(full.sum(1), 1))
    full = torch.from_numpy(root[:, None] * full * root).float()
    of_users, of_items = Bipartite(sp.csr_array(held)).layers(both[:n], both[n:], 2)
    got = torch.cat([of_users[2], of_items[2]])
    want = full @ full @ both
    torch.testing.assert_close(got, want)
    weight = torch.randn_like(got)
    (mine,) = torch.autograd.grad((got * weight).sum(), both)
    torch.testing.assert_close(mine, full @ full @ weight)


def test_a_request_with_the_training_history_is_the_trained_user(fitted, small_split):
    users = np.flatnonzero(small_split.train.lengths > 0).astype(np.int32)
    fitted.module.graph = lightgcn()._build(small_split).graph
    trained, items, _ = fitted.module()
    got = fitted.user_vectors(small_split.train.take(users), users)
    torch.testing.assert_close(got, trained[users].detach())
    scores = fitted.score(Requests(small_split.train.take(users), users))
    cosines = trained[users] @ torch.nn.functional.normalize(items, dim=1).T
    torch.testing.assert_close(scores, cosines.detach())


def test_a_known_user_moves_with_the_mean_of_a_longer_history(fitted, small_split):
    users = np.flatnonzero(small_split.train.lengths > 1).astype(np.int32)[:5]
    trained = [small_split.train[user] for user in users]
    longer = Ragged.from_rows([[*row, 7] for row in trained])
    held = interactions(longer, small_split.dataset.n_items)
    start = fitted.module.start(held, torch.from_numpy(users.astype(np.int64)))
    means = [fitted.module.items[np.unique(row)].mean(0) for row in ([*t, 7] for t in trained)]
    before = torch.stack([fitted.module.items[np.unique(row)].mean(0) for row in trained])
    ratio = fitted.module.ratio
    want = fitted.module.users[users] + ratio * (torch.stack(means) - before)
    torch.testing.assert_close(start, want)
    assert float(ratio) > 0.5


def test_order_and_repeats_are_not_read(fitted):
    rows = [[3, 4, 9], [9, 3, 4], [9, 3, 4, 3, 3]]
    scores = fitted.score(Requests(Ragged.from_rows(rows)))
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])
