"""TIGER: the shared suite, the arithmetic of T5, the beam, and what is its own."""

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.neural.seq2seq import Encoded
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.tiger import Tiger, user_tokens
from onoma.recommenders.generative.tiger_t5 import as_t5
from onoma.recommenders.tuning import validation_ndcg

QUICK = {"epochs": 20, "batch_tokens": 256, "lr": 5e-3, "valid_every": 10}


def tiger(**settings):
    settings = {
        "encoder": {"name": "collaborative", "dim": 8},
        "index": {"method": "rqkmeans", "levels": 2, "size": 8},
        "train": QUICK,
        **settings,
    }
    return Tiger(
        width=16, layers=2, heads=2, head_width=8, inner=32, users=7, batch=32, quiet=True,
        **settings,
    )  # fmt: skip


class TestTiger(Conformance):
    tolerance = 0.03  # bf16 products round by the shape of the batch

    def make(self):
        return tiger(train={**QUICK, "epochs": 6, "valid_every": 6})


@pytest.fixture(scope="module")
def fitted(small_split):
    return tiger().fit(small_split)


def test_learns_the_ring(fitted, small_split):
    popular = validation_ndcg(MostPopular().fit(small_split), small_split.valid)
    assert validation_ndcg(fitted, small_split.valid) > popular + 0.05


@torch.no_grad()
def test_logits_equal_those_of_t5(fitted):
    pytest.importorskip("transformers")
    module, depth = fitted.module, fitted.index.depth
    rng = np.random.default_rng(0)
    lengths = torch.tensor([1, 20, 7, 3])
    items = torch.from_numpy(rng.integers(0, module.n_items, (4, 20)))
    items[torch.arange(20) >= lengths[:, None]] = module.n_items
    users, codes = torch.tensor([3, 0, 9, 3]), module.codes[torch.tensor([0, 5, 7, 1])]
    context = module.eval().read(items, lengths, users)
    ours = module.decoder(context, codes)

    start, offsets = module.decoder.offsets[-1], module.decoder.offsets
    tokens = torch.cat([start + 2 + module.token[users][:, None], module.rows[items].flatten(1)], 1)
    said = torch.cat([torch.full((4, 1), start), codes[:, :-1] + torch.tensor(offsets[:-2])], 1)
    mask = (torch.arange(tokens.shape[1]) < 1 + depth * lengths[:, None]).long()
    theirs = as_t5(fitted)(
        input_ids=tokens, attention_mask=mask, decoder_input_ids=said
    ).logits  # fmt: skip
    for level, logits in enumerate(ours):
        wanted = theirs[:, level, offsets[level] : offsets[level + 1]]
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_steps_say_what_the_training_pass_says(fitted):
    decoder, codes = fitted.module.decoder, fitted.module.codes
    context = Encoded(torch.randn(2, 5, 16), torch.tensor([5, 2]))
    names = torch.stack([codes[[0, 4, 4]], codes[[9, 3, 1]]])  # float[users, beams, depth]
    state = decoder.begin(context)
    parents, last = torch.zeros(2, 3, dtype=torch.int64), None
    turn = torch.tensor([[2, 0, 1], [1, 1, 0]])
    for level in range(names.shape[2]):
        logits, state = decoder.step(state, level, last)
        if level == 1:  # beams change places once
            names = names.gather(1, turn[:, :, None].expand_as(names))
            parents = turn
            logits = logits.gather(1, turn[:, :, None].expand_as(logits))
        for beam in range(3):
            row = decoder(context, names[:, beam])[level]
            got = logits[:, 0] if level == 0 else logits[:, beam]
            torch.testing.assert_close(got, row, rtol=1e-4, atol=1e-4)
        state = decoder.reorder(state, parents)
        last = names[:, :, level]


def test_a_wide_beam_finds_what_the_oracle_finds(fitted, small_split):
    requests, n_items = Requests.of(small_split.test), small_split.dataset.n_items
    oracle = fitted.score(requests)
    ranking = fitted.recommend(requests, n_items)
    known = torch.from_numpy(ranking.items) >= 0
    items = torch.from_numpy(ranking.items).long().clamp(min=0)
    torch.testing.assert_close(
        torch.from_numpy(ranking.scores)[known], oracle.gather(1, items)[known],
        rtol=0.03, atol=0.03,
    )  # fmt: skip


def test_users_matter_and_hash_alike_everywhere(fitted):
    asked = Requests(Ragged.from_rows([[1, 2], [1, 2]]), users=np.array([0, 1], np.int32))
    assert (user_tokens(["anna", "日本語"], 2000) == [1072, 4]).all()
    token = fitted.module.token
    other = int((token != token[0]).int().argmax())
    asked.users[1] = other
    scores = fitted.score(asked)
    assert not torch.equal(scores[0], scores[1])


def test_hot_samples_are_more_diverse_and_repeat(small_split):
    model = tiger(train={**QUICK, "epochs": 4}).fit(small_split)
    asked = Requests.of(small_split.test)
    best, kinds = model.recommend(asked, 5).items, {}
    for temperature in (0.5, 5.0):
        model.settings = model.settings.model_copy(update={"temperature": temperature})
        drawn = model.recommend(asked, 5, mode="sample").items
        assert (drawn == model.recommend(asked, 5, mode="sample").items).all()
        kinds[temperature] = len(np.unique(drawn))
    assert len(np.unique(best)) < kinds[5.0] and kinds[0.5] < kinds[5.0]


def test_unseen_items_get_their_share(small_split):
    cold = np.flatnonzero(small_split.train_counts == 0)
    asked = Requests.of(small_split.test)
    items = tiger(unseen=0.2).fit(small_split).recommend(asked, 10).items
    held = np.isin(items, cold).sum(axis=1)
    assert held.max() <= 2 and held.sum() > 0


def test_a_new_item_is_known_at_once(small_split):
    words = {"name": "tfidf", "dim": 8, "min_df": 1}
    model = tiger(unseen=0.5, encoder=words).fit(small_split)
    catalogue = small_split.dataset.items
    more = model.extend(catalogue, catalogue.head(1).with_columns(item_id=pl.lit("new")))
    asked = Requests(Ragged.from_rows([[i] for i in range(30)]))
    assert (more.recommend(asked, 10).items == len(catalogue)).any()
    assert model.module.n_items == len(catalogue)
    assert more.recommend(Requests(Ragged.from_rows([[len(catalogue)]])), 3).items.shape == (1, 3)
