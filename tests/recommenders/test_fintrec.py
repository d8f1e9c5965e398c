"""FinTRec: the shared suite, then what each tower sees, values, rules and updates."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance
from torch import nn

from onoma.dataset import Dataset, Ragged, split
from onoma.errors import OnomaError
from onoma.neural.clock import Clock
from onoma.neural.lowrank import adapt
from onoma.neural.noise import Noise
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking.events import Asked, Events, Tower, TowerSettings
from onoma.recommenders.ranking.facts import ratings, rested
from onoma.recommenders.ranking.fintrec import FinTRec, _Both

QUICK = {"epochs": 2, "lr": 1e-2, "batch_tokens": 512, "valid_every": 1, "patience": 9}
SMALL = {"width": 8, "length": 12, "blocks": 1, "foundation": 4, "train": QUICK, "quiet": True}
HOUR, DAY = 3600, 86_400


class TestFinTRec(Conformance):
    def make(self):
        return FinTRec(**SMALL)


def tower(causal, **settings):
    torch.manual_seed(0)
    about = TowerSettings(**{"width": 8, "length": 10, "dropout": 0.0, **settings})
    made = Tower([9, 4], [9, 5], 1, 3, causal, about, Noise())
    for parameter in made.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return made.eval()


def events(lengths=(6, 4, 1, 0), seed=0):
    rng = np.random.default_rng(seed)
    known = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    n, width = known.shape
    fields = torch.from_numpy(rng.integers(1, 4, (n, width, 2))) * known[:, :, None]
    times = torch.from_numpy(np.cumsum(rng.integers(60, 9 * DAY, (n, width)), axis=1))
    return Events(fields, times.masked_fill(~known, -1), known)


def changed(read, row, column):
    """The same events but for one."""
    fields = read.fields.clone()
    fields[row, column] = fields[row, column] % 3 + 1
    return Events(fields, read.times, read.known)


def test_states_see_what_was_before_and_nothing_behind():
    made, read = tower(True), events()
    before, after = made.states(read), made.states(changed(read, 0, 3))
    torch.testing.assert_close(before[0, :4], after[0, :4])
    assert not torch.isclose(before[0, 4:], after[0, 4:]).all(1).any()
    assert before.shape == (4, 7, 8)


def test_the_whole_is_read_both_ways_and_padding_not_at_all():
    made, read = tower(False), events()
    now = torch.full((4,), 90 * DAY)
    state = made.states(read, now)
    assert state.shape == (4, 8)
    assert not torch.allclose(state[0], made.states(changed(read, 0, 0), now)[0])
    garbage = Events(
        read.fields.masked_fill(~read.known[:, :, None], 3),
        read.times.masked_fill(~read.known, 5),
        read.known,
    )
    torch.testing.assert_close(made.states(garbage, now), state)
    for row in range(4):  # nor does it matter how wide the batch is
        alone = read[row : row + 1]
        width = max(1, int(alone.known.sum()))
        one = Events(alone.fields[:, :width], alone.times[:, :width], alone.known[:, :width])
        torch.testing.assert_close(made.states(one, now[:1])[0], state[row])


@pytest.mark.parametrize("encoding", ["buckets", "waves"])
def test_times_are_heard_as_far_as_they_are_told(encoding):
    read, now = events(), torch.full((4,), 90 * DAY)
    late = 20 * DAY + 9 * HOUR
    later = Events(read.fields, read.times + late * read.known, read.known)

    def same(told, other, when=now):
        made = tower(False, time=told, encoding=encoding)
        return torch.allclose(made.states(read, now), made.states(other, when), atol=1e-6)

    assert same((), later) and same(("gap",), later)  # all gaps are what they were
    assert not same(("calendar",), later) and not same(("age",), later)
    assert same(("age",), later, now + late)
    half = Events(read.fields, read.times // 2, read.known)
    assert not same(("gap",), half)


def test_unknown_times_add_nothing():
    for functional in (False, True):
        clock = Clock(8, ("calendar", "gap", "age"), functional)
        nothing = torch.full((2, 5), -1)
        assert not clock(nothing, torch.full((2,), -1)).any()
        part = torch.tensor([[100, -1, 300 * DAY]])
        found = clock(part)
        assert found[0, 0].any() and not found[0, 1].any()


def test_a_request_hears_state_candidate_context_profile_and_moment():
    made, read = tower(True), events()
    states = made.states(read)[:, -1]
    base = Asked(torch.ones(4, 2, dtype=torch.int64), torch.zeros(4, 3),
                 torch.full((4,), 40 * DAY), torch.full((4,), 39 * DAY))  # fmt: skip
    first = made.logits(states, base)
    other = base.fields.clone()
    others = [
        Asked(other.index_fill(1, torch.tensor([0]), 2), base.dense, base.now, base.before),
        Asked(other.index_fill(1, torch.tensor([1]), 2), base.dense, base.now, base.before),
        Asked(base.fields, base.dense + 1, base.now, base.before),
        Asked(base.fields, base.dense, base.now + 9 * HOUR, base.before),
    ]
    for asked in others:
        assert not torch.isclose(made.logits(states, asked), first).any()
    assert not torch.isclose(made.logits(states + 1, base), first).any()


def test_updates_begin_as_nothing_and_train_alone():
    made, read = tower(False, width=16), events()
    before = made.states(read).detach()
    frozen = {name: value.clone() for name, value in made.named_parameters()}
    trained, whole = adapt(made, 2, free=("fields.0",))
    assert whole == sum(value.numel() for value in frozen.values())
    told = {name for name, value in made.named_parameters() if value.requires_grad}
    small = ("fields.0", "head.6.weight")  # the last line is no larger than its update would be
    assert all("parametrizations" in name or name.startswith(small) for name in told)
    assert trained < 0.35 * whole
    torch.testing.assert_close(made.states(read), before)
    rates = torch.optim.SGD([v for v in made.parameters() if v.requires_grad], 0.5)
    for _ in range(3):
        rates.zero_grad()
        made.states(read).square().sum().backward()
        rates.step()
    after = made.states(read).detach()
    assert not torch.allclose(after, before)
    now = {
        name.replace("parametrizations.weight.original", "weight"): value
        for name, value in made.named_parameters()
    }
    for name, value in frozen.items():
        assert torch.equal(now[name], value) or name.startswith(small)
    with pytest.raises(ValueError, match="at least 1"):
        adapt(made, 0)
    with pytest.raises(ValueError, match="no parameter"):
        adapt(made, 1, free=("nothing",))


def rated(n_users=50, seed=0):
    """Users of two groups; each likes what is of its own parity, whatever it takes."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(n_users), 12)
    items = np.concatenate([rng.permutation(24)[:12] for _ in range(n_users)])
    liked = items % 2 == users % 2
    log = pl.DataFrame({
        "user_id": users, "item_id": items, "timestamp": np.arange(len(users)) * HOUR,
        "rating": np.where(liked, 5.0, 1.0),
    })  # fmt: skip
    catalogue = pl.DataFrame({"item_id": np.arange(24), "price": np.where(np.arange(24), 1.0, 9.0),
                              "categories": [[f"kind {i % 2}"] for i in range(24)]})  # fmt: skip
    people = pl.DataFrame({"user_id": np.arange(n_users), "group": np.arange(n_users) % 2})
    return split(Dataset.construct(log, catalogue, people, name="rated"))


@pytest.fixture(scope="module")
def liker():
    parts = rated(100)
    told = {**SMALL, "width": 16, "places": 4, "train": {**QUICK, "epochs": 20}}
    model = FinTRec(**told).fit(parts)
    return model, parts


def test_conversions_are_told_by_who_it_is(liker):
    model, parts = liker
    found = model.figures(parts)
    assert found["test, liked"]["auc"] > 0.9 and set(found) == {
        "valid", "test", "valid, liked", "test, liked"
    }  # fmt: skip
    assert model.module.people.shape == (101, 2) and not model.module.people[-1].any()


def test_what_is_worth_more_is_ranked_higher_and_clicks_do_not_care(liker):
    model, parts = liker
    asked = Requests.of(parts.test)
    dear = int(parts.dataset.item_codes(["0"])[0])
    values = model.module.values.clone()
    low, clicks = model.score(asked), model.recommend(asked, 5, mode="clicks")
    model.module.values[dear] = 1000.0
    high = model.score(asked)
    torch.testing.assert_close(
        high[:, dear] - low[:, dear],
        torch.full((len(asked),), float(np.log(1000))),
        rtol=1e-4,
        atol=1e-4,
    )
    again = model.recommend(asked, 5, mode="clicks")
    assert np.array_equal(clicks.items, again.items)
    model.module.values.copy_(values)


def test_value_is_a_column_and_must_be_positive():
    parts = rated(12)
    model = FinTRec(**{**SMALL, "value": "price", "train": {**QUICK, "epochs": 1}}).fit(parts)
    assert model.module.values[int(parts.dataset.item_codes(["0"])[0])] == 9
    with pytest.raises(OnomaError, match="no column 'cost'"):
        FinTRec(**{**SMALL, "value": "cost"}).fit(parts)


def test_what_came_often_of_late_rests():
    history = Ragged.from_rows([[3, 3, 1, 3, 1], [2], []])
    times = Ragged(history.offsets, np.array([0, 90, 92, 95, 96, 7]) * DAY)
    asked = Requests(history, times=times, mask_seen=False)
    found = rested(asked, 2, within=7)
    assert [row.tolist() for row in (found[0], found[1], found[2])] == [[1, 3], [], []]
    assert rested(asked, 3, within=7)[0].tolist() == []
    assert rested(asked, 3, within=100)[0].tolist() == [3]
    assert rested(Requests(history), 3, within=7)[0].tolist() == [3]


def test_an_item_that_rests_is_not_answered(liker):
    model, parts = liker
    capped = FinTRec(**{**SMALL, "width": 16, "cap": 2})
    capped.module = model.module
    asked = Requests(Ragged.from_rows([[4, 4, 5]]), mask_seen=False)
    items = capped.recommend(asked, 24).items
    assert 4 not in items and 5 in items and 4 in model.recommend(asked, 24).items


def test_targets_that_nobody_rated_are_no_dislikes():
    parts = rated(60)
    model = FinTRec(**SMALL).fit(parts)
    silent = pl.int_range(pl.len()) % 5 == 0
    log = parts.dataset.interactions.with_columns(
        rating=pl.when(silent).then(None).otherwise(pl.col("rating"))
    )
    told = split(replace(parts.dataset, interactions=log))
    for part, row in (("valid", 1), ("test", 2)):
        given = ~np.isnan(ratings(told)[row])
        cases = getattr(parts, part).take(np.flatnonzero(given))
        assert 0 < len(cases) < len(given)
        found = model.figures_of(part, told)[f"{part}, liked"]
        assert found["pairs"] == len(cases)
        assert found == pytest.approx(model._conversions(cases, ratings(parts)[row][given] > 3))


def test_whole_activity_is_the_same_in_training_and_in_answering():
    log = pl.DataFrame({
        "user_id": ["a"] * 6 + ["b"] * 6, "item_id": list("xxxxyz") + list("yzwxyz"),
        "timestamp": [*range(6), *range(6)],
    })  # fmt: skip
    parts = split(Dataset.construct(log, name="again"))
    model = FinTRec(**{**SMALL, "foundation": 2})
    model.module = model._build(parts)
    want = _Both(model, parts).activity[parts.train.offsets[1:] - 1]
    dense = model._read(Requests(parts.train))[1]
    torch.testing.assert_close(dense[:, -2:], want)


def test_bad_settings_are_refused():
    for wrong in ({"heads": 3}, {"time": ["week"]}, {"encoding": "sines"}, {"cap": 0}):
        with pytest.raises(ValueError):
            FinTRec(**{**SMALL, **wrong})
