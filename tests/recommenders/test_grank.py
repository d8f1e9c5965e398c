"""GRank: the shared suite, then who reads whom, what is ranked, and what trains it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import Conformance
from torch.nn import functional as F

from onoma.dataset import Ragged
from onoma.explanation.explain import default_method
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval.grank import GRank, GRankModule, GRankSettings, _Proposed

QUICK = {"epochs": 2, "lr": 5e-3, "valid_every": 1, "patience": 9, "batch_tokens": 128}
SMALL = {"width": 16, "length": 6, "long": 9, "anchors": 24, "against": 8, "quiet": True,
         "train": QUICK}  # fmt: skip


def grank(**settings):
    return GRank(**{**SMALL, **settings})


class TestGRank(Conformance):
    def make(self):
        return grank()


@pytest.fixture(scope="module")
def fitted(small_split):
    return grank(shortlist=7).fit(small_split)


def module(**settings):
    torch.manual_seed(0)
    made = GRankModule(30, GRankSettings(**{"width": 16, "length": 8, **settings}))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def test_the_user_is_the_same_bits_with_and_without_candidates(small_split):
    vectors, rows, ends = torch.randn(3, 8, 16), torch.tensor([0, 2, 2]), torch.tensor([7, 3, 0])
    made = module()
    alone, _ = made.read(vectors)
    beside, kept = made.read(vectors)
    made.enlisted(kept, rows, ends, torch.randn(3, 5, 16))
    assert torch.equal(alone, beside)
    # And no gradient of a user's vector reaches a candidate.
    candidates = torch.randn(3, 5, 16, requires_grad=True)
    made.enlisted(kept, rows, ends, candidates)
    assert torch.autograd.grad(beside.sum(), candidates, allow_unused=True) == (None,)


def test_tokens_beside_equal_one_long_masked_sequence():
    made, end = module(), 5
    vectors, candidates = torch.randn(1, 8, 16), torch.randn(1, 4, 16)
    users, kept = made.read(vectors)
    found = made.enlisted(kept, torch.tensor([0]), torch.tensor([end]), candidates)
    tokens = torch.cat([made.portraits(vectors)[:, end : end + 1], made.enlist(candidates)], dim=1)
    history = vectors[:, : end + 1] + made.encoder.positions[: end + 1]
    x = torch.cat([history, tokens + made.encoder.positions[end + 1]], dim=1)
    size = x.shape[1]
    mask = torch.eye(size, dtype=torch.bool)
    mask[: end + 1, : end + 1] |= torch.ones(end + 1, end + 1).tril().bool()
    mask[end + 1 :, : end + 1] = True
    for block in made.encoder.blocks:
        x = block(x, mask[None, None])
    x = made.encoder.norm(x)
    torch.testing.assert_close(users[0, end], x[0, end + 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0], made.judge(x[0, end + 2 :])[:, 0], rtol=1e-4, atol=1e-5)


def test_portraits_hold_the_last_the_recent_and_all():
    made, vectors = module(), torch.randn(2, 8, 16)
    found = made.portraits(vectors)
    for end in range(8):
        told = [vectors[:, end], vectors[:, max(0, end - 4) : end + 1].mean(1),
                vectors[:, : end + 1].mean(1)]  # fmt: skip
        want = made.describe(torch.cat(told, dim=1))
        torch.testing.assert_close(found[:, end], want, rtol=1e-4, atol=1e-5)


def test_no_user_reads_what_comes_later():
    made, vectors = module(), torch.randn(1, 8, 16)
    changed = vectors.clone()
    changed[:, 5:] += 1
    before, after = made.states_of(vectors), made.states_of(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5], after[:, 5])


def test_last_equals_the_states_at_that_place():
    made, items = module(), torch.randint(0, 30, (4, 8))
    table, ends = made.table(), torch.tensor([0, 3, 7, 5])
    want = made.states(items, table)[torch.arange(4), ends]
    torch.testing.assert_close(made.last(items, ends, table), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("corrects", [True, False])
def test_ranker_equals_a_loop_and_candidates_do_not_see_each_other(corrects):
    made, users = module(long=6, corrects=corrects), torch.randn(3, 16)
    history = torch.tensor([[4, 5, 30, 30], [1, 2, 3, 4], [30, 30, 30, 30]])
    candidates = torch.randint(0, 30, (3, 5))
    table, ranker = made.table(), made.ranker
    found = made.ranked(users, history, candidates, table)
    for row in range(3):
        read = ranker.norm(table[history[row][history[row] < 30]])
        for column in range(5):
            asking = ranker.norm(table[candidates[row, column]])
            mixed = torch.zeros(16)
            if len(read):
                keys, values = ranker.tell(read).chunk(2, dim=1)
                scores = keys @ ranker.ask(asking) / 4 + ranker.by_place[: len(read)].flip(0)
                mixed = scores.softmax(0) @ values
            told = [asking, mixed, asking * mixed, users[row], asking * users[row]]
            logit = ranker.head(torch.cat(told))[0]
            if corrects:
                query, items = made.query(users[row][None], table)
                logit = logit + query[0] @ items[candidates[row, column]]
            torch.testing.assert_close(found[row, column], logit, rtol=1e-4, atol=1e-4)


def test_the_generator_proposes_and_the_ranker_orders(fitted, small_split):
    asked = Requests.of(small_split.test)
    proposed = fitted.recommend(asked, 7, mode="generate")
    answer = fitted.recommend(asked, 12)
    assert np.array_equal(np.sort(answer.items[:, :7]), np.sort(proposed.items))
    logits = fitted.judged(
        asked, fitted.states(asked), torch.from_numpy(proposed.items.astype(int))
    )
    order = logits.argsort(dim=1, descending=True).numpy()
    assert np.array_equal(answer.items[:, :7], np.take_along_axis(proposed.items, order, 1))
    rest = fitted.recommend(asked, 12, mode="generate").items[:, 7:]
    assert np.array_equal(answer.items[:, 7:], rest)
    assert not np.array_equal(answer.items[:, :7], proposed.items)


def test_what_may_not_be_answered_takes_no_place_in_the_shortlist(fitted, small_split):
    asked = Requests.of(small_split.test)
    gone = fitted.recommend(asked, 3, mode="generate").items
    without = replace(asked, exclude=Ragged.from_rows(list(gone)))
    left = fitted.recommend(without, 7, mode="generate").items
    assert np.array_equal(np.sort(fitted.recommend(without, 7).items), np.sort(left))


def test_candidates_are_proposed_among_themselves(fitted, small_split):
    asked = Requests.of(small_split.test)
    worst = fitted.recommend(asked, 25, mode="generate").items[:, -6:].copy()
    among = replace(asked, candidates=worst)
    logits = fitted.judged(asked, fitted.states(asked), torch.from_numpy(worst.astype(int)))
    order = logits.argsort(dim=1, descending=True).numpy()
    found = fitted.recommend(among, 6).items
    assert np.array_equal(found, np.take_along_axis(worst, order, 1))


def test_the_ranker_reads_further_back_than_the_generator(fitted):
    recent = list(range(6))
    old = [Requests(Ragged.from_rows([[first, *recent]]), mask_seen=False) for first in (20, 21)]
    same = [fitted.recommend(one, 9, mode="generate").scores for one in old]
    assert np.array_equal(*same)
    assert not torch.equal(fitted.score(old[0]), fitted.score(old[1]))


def test_the_long_history_ends_before_the_target(small_split):
    model = grank()
    torch.manual_seed(0)
    model.module = model._build(small_split)
    task, train = _Proposed(model, small_split), small_split.train
    for batch in task.plan(0, 0)[:5]:
        items, following = task.batches.tensors(batch, model.module.n_items)
        rows, ends = (following < model.module.n_items).nonzero().unbind(1)
        found = task.history(batch, rows, ends, 9)
        for anchor in range(len(rows)):
            user = task.batches.owners[batch[rows[anchor]]]
            whole = train[user].tolist()
            read = [code for code in found[anchor].tolist() if code < model.module.n_items]
            target = int(following[rows[anchor], ends[anchor]])
            assert read[-1] == int(items[rows[anchor], ends[anchor]])
            cuts = [at for at in range(1, len(whole))
                    if whole[max(0, at - 9) : at] == read and whole[at] == target]  # fmt: skip
            assert cuts


def test_every_loss_trains_its_own_part(small_split):
    def touched(**settings):
        model = grank(**settings)
        torch.manual_seed(0)
        model.module = model._build(small_split)
        task = _Proposed(model, small_split)
        task.loss(task.plan(0, 0)[0]).backward()
        named = model.module.named_parameters()
        return {name.split(".")[0] for name, weight in named if weight.grad is not None}

    base = {"ids", "encoder", "describe"}
    assert touched(auxiliary=0, ranking=0) == base
    assert touched(ranking=0) == base | {"enlist", "judge"}
    assert touched(auxiliary=0) == base | {"ranker"}
    assert touched() == base | {"enlist", "judge", "ranker"}


def test_frequent_negatives_lose_what_their_frequency_brings(small_split):
    model = grank(auxiliary=0, corrects=False)
    torch.manual_seed(0)
    model.module = model._build(small_split)
    task = _Proposed(model, small_split)
    shares = task.log_share.exp()[torch.from_numpy(small_split.train_counts > 0)]
    assert shares.sum().item() == pytest.approx(1, abs=1e-5)
    # A ranker that says nothing: the loss of the ranker alone is then log of an estimate of the
    # catalogue's size, whatever was drawn, on average.
    torch.nn.init.zeros_(model.module.ranker.head[-1].weight)
    torch.nn.init.zeros_(model.module.ranker.head[-1].bias)
    plain = grank(auxiliary=0, ranking=0, corrects=False)
    plain.module = model.module
    batch = task.plan(0, 0)[0]

    def loss(step):
        model.module.eval()
        model.module.noise.at(0, step)
        whole = float(task.loss(batch).detach())
        model.module.settings = plain.settings
        without = float(task.loss(batch).detach())
        model.module.settings = model.settings
        return whole - without

    sizes = np.exp([loss(step) for step in range(40)])
    assert sizes.mean() == pytest.approx((small_split.train_counts > 0).sum(), rel=0.35)


def test_a_tower_without_blocks_reads_the_portrait_alone(small_split):
    model = grank(blocks=0).fit(small_split)
    assert not model.module.encoder.blocks
    asked = Requests.of(small_split.test)
    history = asked.history.last(6).take(np.flatnonzero(asked.history.lengths >= 3))
    with torch.no_grad():
        table = model.item_table()
        row = torch.from_numpy(history[0].astype(np.int64))
        query = model.module.portraits(F.embedding(row, table)[None])[0, -1]
        state = model.module.encoder.norm(query + model.module.encoder.positions[len(row)])
    torch.testing.assert_close(model.last_states(history)[0], state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("left_out", [("ranking",), ("auxiliary",), ("ranking", "auxiliary")])
def test_ablations_save_and_load(left_out, small_split, tmp_path):
    model = grank(**dict.fromkeys(left_out, 0)).fit(small_split)
    model.save(tmp_path)
    asked = Requests.of(small_split.test)
    again = GRank.load(tmp_path, small_split.dataset)
    torch.testing.assert_close(again.score(asked), model.score(asked))
    if "ranking" in left_out:
        assert np.array_equal(model.recommend(asked, 5).items,
                              model.recommend(asked, 5, mode="generate").items)  # fmt: skip


def test_it_is_explained_by_leaving_out(fitted):
    assert default_method(fitted) == "leave-one-out"


def test_bad_settings_are_refused():
    for wrong in ({"shortlist": 0}, {"auxiliary": -1}, {"blocks": -1}):
        with pytest.raises(ValueError):
            GRank(**wrong)
