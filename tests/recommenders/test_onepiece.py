"""OnePiece: the shared suite for both stages, then who sees whom, the tasks and the anchors."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Cases, Dataset, Ragged, split
from onoma.errors import OnomaError
from onoma.neural.noise import Noise
from onoma.neural.reasoning import BlockReasoner
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking.commitment import (
    anchors,
    asked_about,
    levels,
    task_figures,
)
from onoma.recommenders.ranking.onepiece import OnePiece
from onoma.recommenders.ranking.reasoned import OnePieceSettings

QUICK = {"epochs": 3, "lr": 1e-2, "valid_every": 1, "patience": 9}
SMALL = {
    "width": 8, "blocks": 1, "length": 8, "anchors": 2, "following": 2, "against": 3, "batch": 64,
    "train": QUICK, "quiet": True,
}  # fmt: skip


class TestRanking(Conformance):
    def make(self):
        return OnePiece(**SMALL)


class TestRetrieval(Conformance):
    def make(self):
        return OnePiece(**{**SMALL, "stage": "retrieval", "steps": 1})


@pytest.fixture(scope="module")
def rated():
    """Users with tastes: what they rate depends on the category, and so does what they take."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(80):
        own = user % 3
        for step in range(int(rng.integers(12, 24))):
            kind = own if rng.random() < 0.7 else int(rng.integers(3))
            rating = rng.choice([4.0, 5.0]) if kind == own else rng.choice([1.0, 3.0, 4.0])
            rows.append((f"u{user}", f"i{3 * int(rng.integers(15)) + kind}", 100 * step + user,
                         float(rating)))  # fmt: skip
    log = pl.DataFrame(rows, ["user_id", "item_id", "timestamp", "rating"], orient="row")
    log = log.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(45)], "categories": [[f"c{i % 3}"] for i in range(45)]}
    )
    return split(Dataset.construct(log, items, name="rated"), "ratio", valid=0.15, test=0.2)


def fresh(rated, **settings):
    """An untrained model with lively weights."""
    model = OnePiece(**{**SMALL, **settings})
    torch.manual_seed(0)
    model.module = model._build(rated).eval()
    for parameter in model.module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def reasoner(steps=2):
    torch.manual_seed(0)
    made = BlockReasoner(8, 2, 2, steps, 0.0, Noise())
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def whole(made, context, mask, groups):
    """Every step's states by running the whole sequence anew, one group, with a written mask."""
    length, m = context.shape[1], groups.shape[1]
    blocks, states = [groups], []
    for step in range(len(made.marks) + 1):
        x = torch.cat([context, *blocks], dim=1)
        block = torch.cat(
            [torch.zeros(length), torch.arange(1, len(blocks) + 1).repeat_interleave(m)]
        )
        seen = block[:, None] >= block[None, :]
        there = torch.cat(
            [mask, torch.ones(len(mask), x.shape[1] - length, dtype=torch.bool)], dim=1
        )
        for layer in made.blocks:
            x = layer(x, seen[None, None] & there[:, None, None, :])
        states.append(made.norm(x)[:, -m:])
        if step < len(made.marks):
            blocks.append(states[-1] + made.marks[step])
    return states


def test_cached_steps_equal_the_whole_sequence_run_anew():
    made = reasoner()
    context, groups = torch.randn(3, 6, 8), torch.randn(3, 2, 4, 8)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
    there = torch.ones(3, 2, 4, dtype=torch.bool)
    _, kept = made.read(context, mask)
    found = made.candidates(groups, kept, mask, there)
    for group in range(2):
        wanted = whole(made, context, mask, groups[:, group])
        for got, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(got[:, group], want, rtol=1e-4, atol=1e-5)


def test_seeds_begin_as_what_the_context_made_of_them():
    made = reasoner()
    context = torch.randn(2, 5, 8)
    mask = torch.ones(2, 5, dtype=torch.bool)
    states, kept = made.read(context, mask)
    found = made.seeds(states[:, :3], kept, mask)
    assert torch.equal(found[0][:, 0], states[:, :3]) and len(found) == 3
    # The first step is a block of 3 tokens behind the context.
    there = torch.ones(2, 1, 3, dtype=torch.bool)
    one = made.candidates((states[:, :3] + made.marks[0])[:, None], kept, mask, there)
    torch.testing.assert_close(found[1], one[0])


def test_candidates_see_their_group_and_no_other(rated):
    model = fresh(rated)
    asked = model.asked(Requests.of(rated.test).slice(0, 2))
    table = model.module.table()
    items = torch.arange(10).view(1, 2, 5).expand(2, -1, -1).contiguous()
    both = model.module.judged(model.module.states(asked, items, table))
    alone = model.module.judged(model.module.states(asked, items[:, :1], table))
    torch.testing.assert_close(both[:, :1], alone, rtol=1e-4, atol=1e-5)
    other = items.clone()
    other[:, 0, 4] = 30
    changed = model.module.judged(model.module.states(asked, other, table))
    assert (changed[:, 0, :4] - both[:, 0, :4]).abs().min() > 1e-5
    torch.testing.assert_close(changed[:, 1], both[:, 1], rtol=1e-4, atol=1e-5)
    # No order inside a group, and an absent candidate is as good as none.
    turned = model.module.judged(model.module.states(asked, items.flip(2), table))
    torch.testing.assert_close(turned.flip(2), both, rtol=1e-4, atol=1e-5)
    short = items[:, :1, :3]
    gone = torch.nn.functional.pad(short, (0, 2), value=model.module.n_items)
    left = model.module.judged(model.module.states(asked, gone, table))[:, :, :3]
    only = model.module.judged(model.module.states(asked, short, table))
    torch.testing.assert_close(left, only, rtol=1e-4, atol=1e-5)


def test_answers_are_scored_in_groups_of_the_trained_size(rated):
    model = fresh(rated)
    requests = Requests.of(rated.test).slice(0, 3)
    items = torch.tensor([[9, 4, 7, 1, 30, 2, 8]]).expand(3, -1).contiguous()
    found = model.task_scores(requests, items)
    asked, table = model.asked(requests), model.module.table()
    for group in ([1, 2, 4, 7, 8], [9, 30]):
        codes = torch.tensor(group).expand(3, 1, -1)
        wanted = model.module.judged(model.module.states(asked, codes, table))[:, 0]
        at = torch.tensor([items[0].tolist().index(code) for code in group])
        torch.testing.assert_close(found[:, at], wanted, rtol=1e-4, atol=1e-5)
    repeated = torch.tensor([[9, 4, 9, -1]]).expand(3, -1).contiguous()
    found = model.task_scores(requests, repeated)
    assert found[:, 2:].isneginf().all() and found[:, :2].isfinite().all()
    torch.testing.assert_close(found[:, :2], model.task_scores(requests, repeated[:, :2]))


def test_weaker_tasks_are_learnt_by_earlier_steps(rated):
    assert [OnePieceSettings(steps=2).step_of(task) for task in range(3)] == [0, 1, 2]
    assert [OnePieceSettings(steps=3).step_of(task) for task in range(3)] == [1, 2, 3]
    assert [OnePieceSettings(steps=1).step_of(task) for task in range(3)] == [0, 0, 1]
    assert [OnePieceSettings(steps=2, progressive=False).step_of(t) for t in range(3)] == [2] * 3
    model = fresh(rated)
    asked = model.asked(Requests.of(rated.test).slice(0, 4))
    items = torch.arange(5).expand(4, 1, -1).contiguous()
    for task, moved in ((0, [False, False]), (1, [True, False]), (2, [True, True])):
        model.module.zero_grad()
        states = model.module.states(asked, items, model.module.table())
        model.module.judged(states)[..., task].sum().backward()
        grad = model.module.reasoner.marks.grad
        told = [False, False] if grad is None else (grad.abs().sum(1) > 0).tolist()
        assert told == moved


def test_levels_of_ratings_events_and_neither(rated, small_split):
    rows = rated.dataset.interactions
    assert len(levels(rated, (4.0, 5.0)).train) == len(rated.train.values)
    found = levels(rated, (4.0, 5.0))
    counts = np.bincount(np.concatenate([found.train, found.valid, found.test]), minlength=3)
    rating = rows["rating"].to_numpy()
    whole = [int((rating < 4).sum()), int((rating == 4).sum()), int((rating == 5).sum())]
    assert abs(counts - whole).sum() <= len(rating) - counts.sum()
    assert (levels(small_split, (4.0, 5.0)).train == 2).all()
    log = pl.DataFrame({
        "user_id": list("aaaa"), "item_id": list("wxyz"), "timestamp": [1, 2, 3, 4],
        "event": ["view", "purchase", "cart", "view"],
    })  # fmt: skip
    shop = split(Dataset.construct(log, name="shop"))
    chain = levels(shop, ("cart", "purchase"))
    assert [*chain.train, *chain.valid, *chain.test] == [0, 2, 1, 0]
    with pytest.raises(OnomaError, match="no interaction"):
        levels(shop, ("rent",))
    with pytest.raises(OnomaError, match="mixes"):
        levels(rated, ("cart", 5.0))
    with pytest.raises(OnomaError, match="rise"):
        levels(rated, (5.0, 4.0))


def test_anchors_count_what_was_before_and_nothing_else(rated):
    level = levels(rated, (4.0, 5.0)).train
    kinds = np.array([int(name[0][1]) + 1 for name in rated.dataset.items["categories"]])
    starts, lists = anchors(rated, level, kinds, 3, 4)
    n, values, times = rated.dataset.n_items, rated.train.values, rated.train_times
    assert (np.diff(starts) > 0).all() and (lists[0] == n).all()
    for period in (1, len(starts) // 2, len(starts) - 1):
        for task in range(3):
            kept = (times < starts[period]) & (level >= task)
            counts = np.bincount(values[kept], minlength=n)
            for kind in (1, 2, 3):
                codes = [c for c in np.lexsort((np.arange(n), -counts)) if kinds[c] == kind]
                wanted = [c for c in codes if counts[c]][:4]
                got = [c for c in lists[period, kind, task] if c < n]
                assert got == wanted
    # What happens later changes no list that is already in force.
    late = times >= np.median(times)
    other = replace(rated, train=Ragged(rated.train.offsets, np.where(late, 0, values)))
    again = anchors(other, level, kinds, 3, 4)[1]
    early = starts <= np.median(times)
    assert np.array_equal(again[early], lists[early]) and not np.array_equal(again, lists)
    timeless = replace(rated, train_times=np.full_like(times, -1))
    assert (anchors(timeless, level, kinds, 3, 4)[1] == n).all()


def test_a_question_reads_the_lists_of_its_time_and_category(rated):
    model = fresh(rated)
    module = model.module
    one = int(rated.train.values[0])
    start = int(module.starts[5])
    times = Ragged.from_rows([[start - 1], [start], [-1]])
    asked = model.asked(Requests(Ragged.from_rows([[one]] * 3), times=times))
    found, kind = module.shelf(asked), int(module.kinds[one, 0])
    for row, period in ((0, 4), (1, 5), (2, -1)):
        assert torch.equal(found[row], module.lists[period, kind])
    # The most frequent of the newest, and among equals the newest.
    by = {k: np.flatnonzero(module.kinds[:-1, 0].numpy() == k) for k in (1, 2, 3)}
    rows = [[*by[1][:3], *by[2][:2]], [by[1][0], by[2][0]], [by[2][0], by[1][0]]]
    asked = model.asked(Requests(Ragged.from_rows(rows)))
    for row, kind in enumerate((1, 2, 1)):
        assert torch.equal(module.shelf(asked)[row], module.lists[-1, kind])
    assert not torch.equal(module.lists[-1, 1], module.lists[-1, 2])


def test_figures_of_scores_that_are_known():
    cases = Cases(np.array([0, 1], np.int32), Ragged.from_rows([[1], [2]]),
                  Ragged.from_rows([[3, 4], [5]]))  # fmt: skip
    items = asked_about(cases, 40, 2.0)
    assert items[0, :2].tolist() == [3, 4] and items[1, 0] == 5
    assert np.array_equal(items, asked_about(cases, 40, 2.0))
    for row, taken in ((0, {1, 3, 4}), (1, {2, 5})):
        drawn = items[row][(2 if row == 0 else 1) :]
        assert not taken & set(drawn.tolist()) and (drawn[1:] >= -1).all()
    assert (items[0] >= 0).sum() == 6 and (items[1] >= 0).sum() == 3
    level = np.array([0, 2, 1])
    scores = np.zeros((*items.shape, 3))
    scores[0, 1], scores[0, 0], scores[1, 0] = 3, 1, 2
    told = task_figures(cases, level, items, scores)
    assert told["auc"] == [1, 1, 1] and told["gauc"] == [1, 1, 1] and told["pairs"] == 9
    assert told["taken_auc"] == [0.5, 1, 1]
    worst = task_figures(cases, level, items, -scores)
    assert worst["auc"] == [0, 0, 0] and worst["gauc"] == [0, 0, 0]


@pytest.mark.parametrize("stage", ["ranking", "retrieval"])
def test_taste_is_told_from_chance(stage, rated):
    train = {**QUICK, "epochs": 12}
    model = OnePiece(**{**SMALL, "stage": stage, "width": 16, "train": train}).fit(rated)
    told = model.feedback_figures(rated, "test")
    assert told["auc"][2] > 0.65 and told["taken_auc"][2] > 0.55
    assert len(told["cosines"]) == 2 and told["work"] > 0
    assert model.training["valid_auc"] == pytest.approx(
        model.feedback_figures(rated, "valid")["auc"][-1]
    )
    first, other = (model.recommend(Requests.of(rated.test), 5, mode=mode).items
                    for mode in ("last", "combined"))  # fmt: skip
    assert not np.array_equal(first, other)


def test_without_anchors_and_with_one_seed(rated, tmp_path):
    train = {**QUICK, "epochs": 1}
    model = OnePiece(**{**SMALL, "anchors": 0, "seeds": 1, "steps": 0, "train": train}).fit(rated)
    model.save(tmp_path)
    again = OnePiece.load(tmp_path, rated.dataset)
    requests = Requests.of(rated.test)
    torch.testing.assert_close(again.score(requests), model.score(requests))
    blind = replace(requests, times=None)  # nothing else reads times
    torch.testing.assert_close(model.score(blind), model.score(requests))


def test_bad_settings_are_refused():
    for wrong in ({"stage": "both"}, {"seeds": 5}, {"steps": -1}, {"following": 0}):
        with pytest.raises(ValueError):
            OnePiece(**wrong)
