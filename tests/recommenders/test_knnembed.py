"""kNN-Embed: the shared suite, then what is its own."""

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.encoding.base import unit_rows
from onoma.encoding.cooccurrence import interactions
from onoma.errors import OnomaError
from onoma.evaluation.alike import alike
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval.knnembed import Interests, KNNEmbed, spherical

OF = {"name": "lightgcn", "width": 16, "layers": 0, "batch": 64, "negatives": 32,
      "train": {"epochs": 20, "lr": 2e-2, "valid_every": 10}}  # fmt: skip
SET = {"clusters": 5, "neighbours": 6, "smoothing": 0.5}


def embed(**settings):
    return KNNEmbed(**{"of": OF, "quiet": True, **SET, **settings})


class TestKNNEmbed(Conformance):
    def make(self):
        return embed()


@pytest.fixture(scope="module")
def fitted(small_split):
    return embed().fit(small_split)


def test_interests_are_shares_and_means_of_clusters():
    items = unit_rows(np.array([[1, 0], [1, 1], [0, 1], [1, -1]]))
    held = interactions(Ragged.from_rows([[0, 1, 2], [], [3]]), 4)
    found = Interests.among(held, np.array([1, 1, 0, 1]), items)
    assert found.of.toarray().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert found.cluster.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.share, [1 / 3, 2 / 3, 1])
    mean = unit_rows((items[0] + items[1])[None])[0]
    np.testing.assert_allclose(found.vectors, [[0, 1], mean, items[3]], atol=1e-6)


def test_smoothing_is_the_convex_combination_with_the_neighbours(fitted, small_split):
    users = np.flatnonzero(small_split.train.lengths > 1).astype(np.int32)[:7]
    history, wide = small_split.train.take(users), fitted._wide
    weights, centres = fitted.mixture(history, users, 0.3)
    items, cluster = fitted._items, fitted._cluster
    for row, user in enumerate(users):
        near = fitted._users @ fitted._users[user]
        near[[user, *np.flatnonzero(small_split.train.lengths == 0)]] = -2
        told = np.zeros(wide), np.zeros((wide, items.shape[1]))
        group = [(0.3, user), *((0.7 / 6, other) for other in np.argsort(-near)[:6])]
        for share, who in group:
            had = np.unique(small_split.train[who])
            for c in np.unique(cluster[had]):
                inside = had[cluster[had] == c]
                told[0][c] += share * len(inside) / len(had)
                told[1][c] += share * unit_rows(items[inside].sum(0)[None])[0]
        np.testing.assert_allclose(weights[row], told[0], atol=1e-6)
        np.testing.assert_allclose(centres[row], unit_rows(told[1]), atol=1e-5)
        assert told[0].sum() == pytest.approx(1)


def test_answers_are_shared_out_by_the_weights_and_fill_up(fitted, small_split):
    asked = Requests.of(small_split.test)
    weights, _ = fitted.mixture(asked.history, asked.users, SET["smoothing"])
    for k in (5, 10):
        answer = fitted.recommend(asked, k).items
        assert (answer >= 0).all()
        for row in range(len(answer)):
            free = np.bincount(
                np.delete(fitted._cluster, np.unique(asked.history[row])), minlength=fitted._wide
            )
            seats = np.bincount(fitted._cluster[answer[row]], minlength=fitted._wide)
            quota = weights[row].numpy() * k
            # Seats that a full cluster cannot fill go to others; without one, rounding is fair.
            if (free >= np.ceil(quota) + 1).all():
                assert (np.abs(seats - quota) < 1.5).all()
            assert (seats <= free).all()


def test_neighbours_bring_clusters_that_the_user_never_touched(fitted, small_split):
    history, users = small_split.test.history, small_split.test.users
    own, _ = fitted.mixture(history, users, 1.0)
    both, centres = fitted.mixture(history, users, 0.3)
    new = (own == 0) & (both > 0)
    assert new.any(1).float().mean() > 0.5
    torch.testing.assert_close(centres[new].norm(dim=1), torch.ones(int(new.sum())))
    touched = torch.zeros_like(own, dtype=torch.bool)
    touched[torch.from_numpy(history.rows()), torch.from_numpy(fitted._cluster[history.values])] = (
        True
    )
    assert torch.equal(own > 0, touched)


def test_modes_without_a_mixture_are_one_product(fitted, small_split):
    asked = Requests.of(small_split.test)
    under = fitted.inner.recommend(asked, 10)
    assert np.array_equal(fitted.recommend(asked, 10, mode="single").items, under.items)
    scores = fitted._scores(asked, "mean")
    mean = fitted._items[np.unique(asked.history[0])].mean(0)
    np.testing.assert_allclose(scores[0], fitted._items @ unit_rows(mean[None])[0], atol=1e-5)


def test_likeness_of_lists_is_the_mean_cosine_of_pairs(fitted, small_split):
    cases = small_split.test.take(np.arange(1))
    lists = fitted.recommend(Requests.of(cases), 4, mode="mean").items[0]
    cosines = (fitted._items[lists] @ fitted._items[lists].T)[np.triu_indices(4, 1)]
    found = alike(fitted, cases, k=4)
    assert set(found) == set(fitted.modes)
    assert found["mean"] == pytest.approx(cosines.mean(), abs=1e-5)


def test_nobody_is_his_own_neighbour(fitted, small_split):
    users = np.flatnonzero(small_split.train.lengths > 0).astype(np.int32)
    near = fitted._nearest(small_split.train.take(users), users).toarray()
    assert not near[np.arange(len(users)), users].any()
    np.testing.assert_allclose(near.sum(1), 1, rtol=1e-6)
    assert ((near > 0).sum(1) == 6).all()


def test_clusters_go_by_angle():
    angles = np.repeat([0.0, 2.0, 4.0], 20) + np.random.default_rng(0).normal(0, 0.1, 60)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = spherical(points, 3, 0)
    assert all(len(set(found[start : start + 20])) == 1 for start in (0, 20, 40))
    assert len(set(found)) == 3


def test_what_is_open_is_chosen_on_validation(small_split):
    model = embed(neighbours=None, smoothing=None, clusters=None).fit(small_split)
    tried = model.training["mixture"]["tried"]
    assert {row["clusters"] for row in tried} == {3, 6, 12}
    best = max(row["ndcg@10"] for row in tried)
    assert model.training["mixture"]["valid_ndcg@10"] == best
    assert model._smoothing == model.training["mixture"]["chosen"]["smoothing"]


def test_it_stands_on_one_space_of_users_and_items(small_split):
    with pytest.raises(OnomaError, match="no vectors of users and items"):
        KNNEmbed(of={"name": "popular"})
    with pytest.raises(ValueError, match="smoothing"):
        KNNEmbed(smoothing=1.5)


def test_strangers_are_answered_from_their_history(fitted):
    alone = fitted.score(Requests(Ragged.from_rows([[3, 4], [4, 3]])))
    torch.testing.assert_close(alone[0], alone[1])
