"""Modes that spell: lists are as long as what is allowed, and candidates are spelled too."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from onoma.dataset import Ragged
from onoma.indexing import ItemIndex
from onoma.recommenders.base import Requests
from onoma.recommenders.generative.flagship import Flagship, FlagshipModule
from onoma.recommenders.generative.onerec import OneRec, OneRecModule
from onoma.recommenders.generative.packed import Packed, PackedModule
from onoma.recommenders.generative.tiger import Tiger, TigerModule

N = 600
HISTORY = [3, 4, 5]
MODES = [
    ("tiger", "generate"), ("tiger", "sample"), ("onerec", "generate"), ("onerec", "session"),
    ("packed", "generate"), ("flagship", "generate"), ("flagship", "generate_then_rank"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models():
    """Untrained, with random weights."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.unique(rng.integers(0, 12, (3000, 3)), axis=0))[:N]
    index = ItemIndex(codes.astype(np.int32), (12, 12, 12), "random")
    small = {"quiet": True, "width": 16, "heads": 2}
    read = {**small, "layers": 1, "head_width": 8, "inner": 16}
    torch.manual_seed(0)
    out = {"tiger": Tiger(**read), "onerec": OneRec(**read, queries=3)}
    for name, kind in (("tiger", TigerModule), ("onerec", OneRecModule)):
        out[name].module = kind(index, np.zeros(9, np.int64), out[name].settings)
    out |= {
        "packed": Packed(**small, depth_width=16),
        "flagship": Flagship(**small, depth_width=16),
    }
    out["packed"].module = PackedModule(index, out["packed"].settings)
    texts = rng.normal(size=(N, 8)).astype(np.float32)
    out["flagship"].module = FlagshipModule(texts, index, out["flagship"].settings)
    for model in out.values():
        model.index = index
        model.module.eval()
        for weight in model.module.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return out


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_lists_are_full_while_anything_is_allowed(models, name, mode):
    """A filter may leave two items of the catalogue, or forbid the hundreds that are liked best."""
    model = models[name]
    history = Ragged.from_rows([HISTORY])
    best = model.recommend(Requests(history), N, mode="generate").items[0]
    liked = best[best >= 0][:400]
    few = np.setdiff1d(np.arange(N), [7, 400])
    exclude = Ragged.from_rows([liked, few, []])
    asked = Requests(Ragged.from_rows([HISTORY] * 3), exclude=exclude)
    ranking = model.recommend(asked, 10, mode=mode)
    assert (ranking.items[0] >= 0).all() and not np.isin(ranking.items[0], liked).any()
    assert set(ranking.items[1]) == {7, 400, -1} and (ranking.items[1, 2:] == -1).all()
    assert np.isfinite(ranking.scores[ranking.items >= 0]).all()
    for row in range(3):
        alone = model.recommend(asked.slice(row, row + 1), 10, mode=mode)
        assert (alone.items[0] == ranking.items[row]).all()


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_a_mode_ranks_candidates_its_own_way(models, name, mode):
    model = models[name]
    asked = Requests(Ragged.from_rows([HISTORY, [8, 9]]))
    every = replace(asked, candidates=np.tile(np.arange(N, dtype=np.int32), (2, 1)))
    free, among = (model.recommend(x, 5, mode=mode) for x in (asked, every))
    if mode == "generate_then_rank":  # all items are proposed
        free = model.recommend(asked, 5, mode="rank")
    assert (free.items == among.items).mean() > 0.8
    np.testing.assert_allclose(free.scores[:, 0], among.scores[:, 0], rtol=0.03, atol=0.03)
    some = replace(asked, candidates=np.array([[11, 3, 90, -1], [2, 2, 500, 41]], dtype=np.int32))
    ranking = model.recommend(some, 4, mode=mode)
    assert set(ranking.items[0]) == {11, 90, -1} and set(ranking.items[1]) == {2, 500, 41, -1}
