"""Contributions: against hand-made recommenders whose answers can be worked out."""

import numpy as np
import pytest
import torch

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.explanation import ATTRIBUTIONS, build, explain
from onoma.explanation.base import dice
from onoma.explanation.fidelity import deletion
from onoma.explanation.leave_one_out import LeaveOneOut
from onoma.explanation.path import GradientInput, PathGradients, along
from onoma.explanation.shapley import Shapley
from onoma.explanation.similarity import Cosine, Jaccard
from onoma.explanation.spinrec import SPINRec
from onoma.explanation.surrogate import Surrogate
from onoma.explanation.told import told
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.baselines.ease import EASE
from onoma.recommenders.inputs import Entry
from onoma.recommenders.sequential.sasrec import SASRec

HISTORY = Ragged.from_rows([[0, 1, 2, 3], [4, 5], [1, 2, 5]])
TARGETS = np.array([6, 7, 7])


class Sets(Recommender):
    """Logits (profile @ weights) ** power of sets: linear, or with pairs of items at play."""

    name = "sets"

    def __init__(self, n_items: int = 8, power: int = 1, seed: int = 0) -> None:
        weights = np.random.default_rng(seed).normal(size=(n_items, n_items)).astype(np.float32)
        self.weights, self.power, self.n_items = torch.from_numpy(weights), power, n_items

    def fit(self, split):
        return self

    def profiles(self, history):
        out = torch.zeros(len(history), self.n_items)
        out[torch.from_numpy(history.rows()), torch.from_numpy(history.values.astype(np.int64))] = 1
        return out

    def score(self, requests):
        return self.score_entry(self.profiles(requests.history)[:, :, None], np.zeros(0))

    def enter(self, history):
        slots = history.values.astype(np.int64)
        lengths = np.full(len(history), self.n_items)
        return Entry(self.profiles(history)[:, :, None], slots, lengths)

    def stand_in(self, others, entry):
        return self.profiles(others)[:, :, None]

    def score_entry(self, vectors, lengths):
        return (vectors[:, :, 0] @ self.weights) ** self.power

    def save(self, folder): ...

    @classmethod
    def load(cls, folder, dataset):
        return cls()


def by_row(values):
    return np.bincount(HISTORY.rows(), values, minlength=len(HISTORY))


@pytest.fixture(scope="module")
def ease(small_split):
    return EASE(penalty=5.0, decay=1.0).fit(small_split)


def test_leave_one_out_is_the_drop_of_a_sum(ease):
    dropped = LeaveOneOut().attribute(ease, HISTORY, TARGETS)
    np.testing.assert_allclose(dropped, ease.parts(HISTORY, TARGETS), atol=1e-5)


def test_leave_one_out_asks_for_the_history_without_each_item():
    model = Sets(power=2)
    found = LeaveOneOut().attribute(model, HISTORY, TARGETS)
    whole = told(model, HISTORY, TARGETS)
    without = told(model, Ragged.from_rows([[0, 1, 3]]), TARGETS[:1])
    assert found[2] == pytest.approx(whole[0] - without[0], abs=1e-5)


@pytest.mark.parametrize("power", [1, 2])
def test_path_contributions_add_up_to_the_difference_of_its_ends(power):
    model = Sets(power=power)
    found = PathGradients(400, "log-probability").attribute(model, HISTORY, TARGETS)
    change = told(model, HISTORY, TARGETS) - told(model, Ragged.empty(3), TARGETS)
    np.testing.assert_allclose(by_row(found), change, atol=0.05)


def test_path_contributions_add_up_in_a_transformer(small_split):
    once = {"epochs": 1, "batch_tokens": 256, "valid_every": 1}
    model = SASRec(width=16, length=5, train=once, quiet=True).fit(small_split)
    history = Ragged.from_rows([[1, 2, 3], [7, 8, 9, 10, 11, 12, 13]])
    targets = np.array([5, 6])
    found = PathGradients(steps=500).attribute(model, history, targets)
    assert not found[3:5].any() and found[5:].all()  # two items before the window
    entry = model.enter(history)
    ends = [
        model.score_entry(v, entry.lengths)[range(2), targets].detach()
        for v in (torch.zeros_like(entry.vectors), entry.vectors)
    ]
    sums = np.bincount(history.rows(), found)
    np.testing.assert_allclose(sums, ends[1] - ends[0], atol=0.02)


def test_one_step_is_gradient_times_input():
    model = Sets(power=2)
    entry = model.enter(HISTORY)
    x = entry.vectors.clone().requires_grad_(True)
    picked = model.score_entry(x, entry.lengths)[range(3), TARGETS]
    (gradient,) = torch.autograd.grad(picked.sum(), x)
    want = gradient[:, :, 0].numpy()[HISTORY.rows(), HISTORY.values]
    np.testing.assert_allclose(GradientInput().attribute(model, HISTORY, TARGETS), want, atol=1e-5)


def test_repeats_share_what_their_slot_brings():
    twice = Ragged.from_rows([[2, 3, 2]])
    once = PathGradients().attribute(Sets(), Ragged.from_rows([[2, 3]]), TARGETS[:1])
    found = PathGradients().attribute(Sets(), twice, TARGETS[:1])
    np.testing.assert_allclose(found, [once[0] / 2, once[1], once[0] / 2], atol=1e-6)


def test_spinrec_gives_nothing_to_items_the_baseline_has():
    # The only history to draw from holds items 1 and 2.
    model, pool = Sets(power=2), Ragged.from_rows([[], [1, 2]])
    found = SPINRec(pool, draws=1).attribute(model, HISTORY, TARGETS)
    shared = np.isin(HISTORY.values, [1, 2])
    assert not found[shared].any() and found[~shared].all()


def test_spinrec_keeps_the_map_whose_deletion_falls_fastest():
    model = Sets(n_items=30, power=2)
    model.weights *= 0.2
    rng = np.random.default_rng(0)
    history = Ragged.from_rows([rng.permutation(29)[:10] for _ in range(8)])
    targets = model.recommend(Requests(history), 1).items[:, 0]
    pool = Ragged.from_rows([rng.permutation(29)[:6] for _ in range(12)])
    areas = {
        draws: deletion(
            model,
            history,
            SPINRec(pool, draws, kept=1, seed=3).attribute(model, history, targets),
            targets,
        )
        for draws in (1, 2, 6)
    }
    assert (areas[6] <= areas[2]).all() and (areas[2] <= areas[1]).all()
    assert areas[6].sum() < areas[1].sum()


def test_spinrec_averages_the_three_most_faithful_maps_at_unit_length():
    model = Sets(n_items=30, power=2)
    model.weights *= 0.2
    rng = np.random.default_rng(1)
    history = Ragged.from_rows([rng.permutation(29)[:n] for n in (10, 7, 4)])
    targets = model.recommend(Requests(history), 1).items[:, 0]
    pool = Ragged.from_rows([rng.permutation(29)[:6] for _ in range(12)])
    entry = model.enter(history)
    places = [rng.integers(len(pool), size=5) for rng in dice(3, history, targets)]
    maps, areas = [], []
    for drawn in map(pool.take, np.stack(places, axis=1)):
        start = model.stand_in(drawn, entry)
        maps.append(along(model, history, entry, start, targets, 10, "logit"))
        areas.append(deletion(model, history, maps[-1], targets))
    found = SPINRec(pool, 5, seed=3).attribute(model, history, targets)
    for row in range(3):
        part = slice(history.offsets[row], history.offsets[row + 1])
        best = sorted(range(5), key=lambda place, row=row: areas[place][row])[:3]
        units = [maps[place][part] / np.linalg.norm(maps[place][part]) for place in best]
        np.testing.assert_allclose(found[part], np.mean(units, axis=0), atol=1e-6)


@pytest.mark.parametrize("method", [Surrogate(samples=2000, ridge=1e-3), Shapley(orders=400)])
def test_sampled_methods_find_the_parts_of_a_sum(method, ease):
    found = method.attribute(ease, HISTORY, TARGETS)
    np.testing.assert_allclose(found, ease.parts(HISTORY, TARGETS), atol=0.02)


def test_shapley_values_add_up_whatever_the_orders():
    model = Sets(power=2)
    found = Shapley(orders=3, blocks=2).attribute(model, HISTORY, TARGETS)
    change = told(model, HISTORY, TARGETS) - told(model, Ragged.empty(3), TARGETS)
    np.testing.assert_allclose(by_row(found), change, atol=1e-4)


def test_likeness_counts_shared_users():
    train = Ragged.from_rows([[0, 1, 0], [0, 2], [1], [0, 1, 2]])
    history, target = Ragged.from_rows([[1, 2]]), np.array([0])
    found = Cosine(train, 3).attribute(Sets(), history, target)
    np.testing.assert_allclose(found, [2 / 3, 2 / np.sqrt(6)], rtol=1e-6)
    np.testing.assert_allclose(
        Jaccard(train, 3).attribute(Sets(), history, target), [2 / 4, 2 / 3], rtol=1e-6
    )


@pytest.mark.parametrize("name", [name for name in ATTRIBUTIONS if name != "exact"])
def test_every_method_is_repeatable_and_answers_empty_histories(name, small_split):
    model = Sets(n_items=small_split.dataset.n_items)
    history = Ragged.from_rows([[], [3, 4, 5], []])
    targets = np.array([1, 2, 2])
    found = [build(name, small_split, 7).attribute(model, history, targets) for _ in range(2)]
    assert found[0].shape == (3,) and np.isfinite(found[0]).all()
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", [name for name in ATTRIBUTIONS if name != "exact"])
def test_an_explanation_does_not_depend_on_what_else_is_explained(name, small_split):
    model, method = Sets(n_items=small_split.dataset.n_items), build(name, small_split, 7)
    history, targets = Ragged.from_rows([[3, 4, 5], [6], [3, 4, 5]]), np.array([1, 2, 9])
    together = method.attribute(model, history, targets)
    for row in range(3):
        own = slice(history.offsets[row], history.offsets[row + 1])
        alone = method.attribute(model, history.slice(row, row + 1), targets[row : row + 1])
        np.testing.assert_allclose(alone, together[own], rtol=1e-4, atol=1e-6)
    if name == "random":
        assert not np.isin(together[:3], together[4:]).any()


def test_a_method_that_cannot_read_the_recommender_is_refused(ease, small_split):
    for name, model in (("spinrec", ease), ("exact", Sets())):
        with pytest.raises(OnomaError, match=f"{name} needs a recommender"):
            explain(model, [1, 2], [3], build(name, small_split))
    with pytest.raises(OnomaError, match="no method of explanation is called 'nope'"):
        build("nope", small_split)


def test_told_is_a_log_probability_of_logits_only(ease):
    model = Sets()
    want = torch.log_softmax(model.score(Requests(HISTORY)), dim=1)[range(3), TARGETS]
    np.testing.assert_allclose(told(model, HISTORY, TARGETS), want, atol=1e-6)
    plain = ease.score(Requests(HISTORY))[range(3), TARGETS]
    np.testing.assert_array_equal(told(ease, HISTORY, TARGETS), plain)
