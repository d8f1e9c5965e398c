"""Sequence models over ids: the shared suite, then what is particular to each."""

import math

import numpy as np
import pytest
import torch
from conformance import Conformance
from pydantic import ValidationError

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.neural.blocks import CausalBlock
from onoma.neural.cape import CAPEBlock, contextual
from onoma.neural.hstu import BUCKETS, buckets, shortened
from onoma.neural.latent import contrast, disagreement
from onoma.neural.noise import Noise
from onoma.neural.pairwise import pairwise
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.registry import recommender
from onoma.recommenders.sequential.bert4rec import BERT4Rec
from onoma.recommenders.sequential.cape import CAPE
from onoma.recommenders.sequential.cnn import CNN
from onoma.recommenders.sequential.gru import GRU4Rec
from onoma.recommenders.sequential.hstu import HSTU
from onoma.recommenders.sequential.rearec import ReaRec
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 24, "batch_tokens": 128, "lr": 5e-3, "valid_every": 12}
CLASSES = (HSTU, BERT4Rec, GRU4Rec, CNN, CAPE, ReaRec)


def make(cls, epochs=24, **settings):
    train = {**QUICK, "epochs": epochs}
    settings = {"width": 16, "length": 12, **settings}
    return cls(train=train, quiet=True, **settings)


class TestHSTU(Conformance):
    def make(self):
        return make(HSTU, 6, blocks=2, ranking=0.5, alpha=1.5)


class TestBERT4Rec(Conformance):
    def make(self):
        return make(BERT4Rec, 6)


class TestGRU4Rec(Conformance):
    def make(self):
        return make(GRU4Rec, 6, loss="bpr-max", negatives=16, popularity=0.5)


class TestCNN(Conformance):
    def make(self):
        return make(CNN, 6, loss="sampled", negatives=16, in_batch=True)


class TestCAPE(Conformance):
    def make(self):
        return make(CAPE, 6, steps=4)


class TestReaRec(Conformance):
    def make(self):
        return make(ReaRec, 6)


class TestReaRecERL(Conformance):
    def make(self):
        return make(ReaRec, 6, learning="erl")


@pytest.mark.parametrize("cls", CLASSES)
def test_learns_the_ring(cls, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    fitted = make(cls, 40 if cls is BERT4Rec else 24).fit(small_split)
    # Clozes and recurrence need more epochs than a test has.
    margin = 0.02 if cls in (BERT4Rec, GRU4Rec) else 0.05
    assert validation_ndcg(fitted, small_split.valid) > popular + margin


@pytest.mark.parametrize("cls", [c for c in CLASSES if c is not BERT4Rec])
def test_states_do_not_read_ahead(cls, small_split):
    module = make(cls)._build(small_split).eval()
    items = torch.tensor([[1, 2, 3, 4, 5, 6]])
    other = torch.tensor([[1, 2, 3, 9, 8, 7]])
    table = module.table()
    for end in (0, 2):
        ends = torch.tensor([end])
        assert torch.allclose(module.last(items, ends, table), module.last(other, ends, table))
    late = torch.tensor([3])
    assert not torch.allclose(module.last(items, late, table), module.last(other, late, table))


# HSTU


@pytest.fixture(scope="module")
def timed(small_split):
    return make(HSTU, 2, blocks=2, ranking=1.0).fit(small_split)


def test_candidates_in_one_pass_equal_one_by_one(timed, small_split):
    encoder, table = timed.module.encoder, timed.item_table()
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 40, 40]])
    times = torch.tensor([[10, 400, 9000, 9001], [7, 70000, -1, -1]])
    ends, wanted = torch.tensor([3, 1]), torch.tensor([[7, 1, 30], [6, 9, 9]])
    together = encoder.candidates(table[items], ends, table[wanted], times, chunk=2)
    for row in range(2):
        last = int(ends[row])
        for column in range(3):
            line = torch.cat([items[row, : last + 1], wanted[row, column : column + 1]])
            when = torch.cat([times[row, : last + 1], times[row, last : last + 1]])
            alone = encoder(table[line][None], when[None])[0, -1]
            torch.testing.assert_close(together[row, column], alone, rtol=1e-4, atol=1e-5)


def test_candidates_are_scored_for_requests_and_padding_is_not(timed, small_split):
    asked = Requests.of(small_split.test)
    rows = np.tile(np.array([3, -1, 8], dtype=np.int32), (len(asked), 1))
    scores = timed.score_candidates(Requests(asked.history, candidates=rows, times=asked.times))
    assert scores.shape == (len(asked), 3) and scores[:, 1].isneginf().all()
    assert scores[:, [0, 2]].isfinite().all()
    plain = make(HSTU, 1).fit(small_split)
    with pytest.raises(OnomaError, match="ranking"):
        plain.score_candidates(Requests(asked.history, candidates=rows))


def test_times_change_the_answer_and_must_be_aligned(timed):
    history = Ragged.from_rows([[1, 2, 3]])
    near, far = (
        timed.score(Requests(history, times=Ragged(history.offsets, np.array(times))))
        for times in ([1, 2, 3], [1, 2, 10**9])
    )
    assert not torch.allclose(near, far)
    with pytest.raises(ValueError, match="lengths"):
        Requests(history, times=Ragged.from_rows([[1, 2]]))


def test_buckets_grow_with_the_logarithm_and_unknown_times_have_their_own():
    later = torch.tensor([5, 5, 86405, 10**18, 5])
    found = buckets(later, torch.tensor([5, 4, 5, 0, -1]))
    day = math.floor(math.log(86400) / 0.301)
    assert found.tolist() == [0, 0, day, BUCKETS, BUCKETS + 1]


def test_stochastic_length_keeps_short_histories_whole():
    assert shortened(30, 1024, 1.0) == (30, 0.0)
    assert shortened(1024, 1024, 1.0) == (32, 1 - 1024 / 1024**2)
    assert shortened(1024, 1024, 2.0) == (1024, 0.0)


# CAPE


def by_hand(q, raw, mask, places):
    out = np.zeros_like(raw)
    for at in np.ndindex(*raw.shape):
        b, h, i, j = at
        position = sum(
            1 - 1 / (1 + math.exp(-raw[b, h, i, k])) for k in range(j, raw.shape[3]) if mask[i, k]
        )
        position = min(position, places.shape[1] - 1)
        low, high = math.floor(position), math.ceil(position)
        z = q[b, h, i] @ places
        out[at] = (position - low) * z[high] + (1 - position + low) * z[low]
    return out


def test_contextual_positions_equal_loops():
    rng = torch.Generator().manual_seed(0)
    q = torch.randn(2, 2, 5, 3, generator=rng).double()
    raw = torch.randn(2, 2, 5, 5, generator=rng).double()
    places = torch.randn(3, 3, generator=rng).double()
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    found = contextual(q, raw, mask, places)
    expected = by_hand(q.numpy(), raw.numpy(), mask.numpy(), places.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


# ReaRec


def test_no_steps_are_the_plain_encoder(small_split):
    module = make(ReaRec, steps=0)._build(small_split).eval()
    items = torch.tensor([[1, 2, 3, 4]])
    table = module.table()
    expected = module.encoder(table[items])[:, 2]
    assert torch.allclose(module.last(items, torch.tensor([2]), table), expected, atol=1e-6)


@pytest.mark.parametrize("learning", ["erl", "prl"])
def test_thinking_at_one_place_equals_thinking_at_all(small_split, learning):
    module = make(ReaRec, steps=3, blocks=2, learning=learning)._build(small_split).eval()
    table = module.table()
    items = torch.tensor([[1, 2, 3, 4], [9, 8, 40, 40]])
    ends = torch.tensor([3, 1])
    everywhere = module.states_of(table[items])[torch.arange(2), ends]
    assert torch.allclose(module.last(items, ends, table), everywhere, atol=1e-5)


def test_equal_steps_agree_and_matching_noise_contrasts_least():
    logits = torch.randn(4, 1, 9, generator=torch.Generator().manual_seed(0))
    assert disagreement(logits.expand(4, 3, 9)).abs() < 1e-6
    assert disagreement(torch.cat([logits, -logits], 1)) > 0.1
    states = torch.eye(4)
    assert contrast(states, states) < contrast(states, states.flip(0))


# BERT4Rec


def test_a_mask_reads_both_sides_and_no_padding(small_split):
    module = make(BERT4Rec)._build(small_split).eval()
    table = module.table()
    items = torch.tensor([[1, 2, 3, 40, 40]])
    hidden = torch.tensor([[False, True, False, False, False]])
    lengths = torch.tensor([3])

    def state(row):
        return module.filled(table[torch.tensor([row])], hidden, lengths)[0, 1]

    before = module.filled(table[items], hidden, lengths)[0, 1]
    assert torch.allclose(before, state([1, 2, 3, 7, 8]), atol=1e-6)
    assert torch.allclose(before, state([1, 30, 3, 40, 40]), atol=1e-6)
    assert not torch.allclose(before, state([1, 2, 30, 40, 40]), atol=1e-4)


# Losses


@pytest.mark.parametrize("kind", ["bpr", "bpr-max", "top1", "top1-max"])
def test_pairwise_losses_equal_their_definitions(kind):
    rng = torch.Generator().manual_seed(0)
    states, table = (torch.randn(n, 4, generator=rng) for n in (3, 6))
    targets, negatives = torch.tensor([1, -1, 4]), torch.tensor([0, 1, 5])
    total = 0.0
    for row in (0, 2):
        others = [int(n) for n in negatives if n != targets[row]]
        own = states[row] @ table[targets[row]]
        scores = torch.stack([states[row] @ table[n] for n in others])
        weight = torch.softmax(scores, 0) if kind.endswith("max") else 1 / len(others)
        if kind == "bpr":
            total += -(torch.sigmoid(own - scores).log() * weight).sum()
        elif kind == "bpr-max":
            total += -(torch.sigmoid(own - scores) * weight).sum().log()
            total += (scores**2 * weight).sum()
        else:
            total += ((torch.sigmoid(scores - own) + torch.sigmoid(scores**2)) * weight).sum()
    found = pairwise(kind, states, table, targets, negatives)
    torch.testing.assert_close(found, total / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [CausalBlock, CAPEBlock])
def test_a_glance_from_one_place_is_attention_from_all(kind):
    torch.manual_seed(5)
    block = kind(16, 4, 2, 0.0, Noise()).eval()
    for name, parameter in block.named_parameters():
        if name.endswith("bias") or name == "places":  # zero before training
            torch.nn.init.normal_(parameter)
    x, ends = torch.randn(3, 6, 16), torch.tensor([5, 0, 3])
    expected = block(x)[torch.arange(3), ends]
    assert torch.allclose(block.last(x, ends), expected, atol=1e-5)


@pytest.mark.parametrize("name", [
    "sasrec", "bert4rec", "hstu", "cape", "rearec", "grank", "corr", "lite-llm4rec", "packed",
    "flagship", "onepiece", "fintrec", "llmcf",
])  # fmt: skip
def test_heads_divide_the_width_before_data_is_read(name):
    with pytest.raises(ValidationError, match="3 heads do not divide a width of 32"):
        recommender(name).create({"width": 32, "heads": 3})


@pytest.mark.parametrize("cls", [GRU4Rec, CNN])
def test_what_has_no_heads_takes_any_width(cls):
    assert cls(width=25).settings.width == 25
