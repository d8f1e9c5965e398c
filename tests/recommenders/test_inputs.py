"""What explanations ask of recommenders: parts that add up, entries that score the same."""

import numpy as np
import pytest
import torch

from onoma.dataset import Ragged
from onoma.recommenders.autoencoders.multvae import MultVAE
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.ease import EASE
from onoma.recommenders.baselines.graph import GraphWalk
from onoma.recommenders.baselines.itemknn import ItemKNN
from onoma.recommenders.baselines.markov import Markov
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.generative.flagship import Flagship
from onoma.recommenders.generative.packed import Packed
from onoma.recommenders.inputs import Additive, Aside, Differentiable
from onoma.recommenders.sequential.sasrec import SASRec

ROWS = [[1, 4, 9, 4], [], [7], [2, 3, 5, 8, 11, 20, 30]]
ONCE = {"epochs": 1, "batch_tokens": 256, "valid_every": 1}
ADDITIVE = {
    "ease": lambda: EASE(penalty=5.0, decay=0.7),
    "itemknn": lambda: ItemKNN(40, 3.0, 0.5),
    "markov": Markov,
    "popular": MostPopular,
    "graph": lambda: GraphWalk({"name": "tfidf", "dim": 8, "min_df": 1}, hops=2, last=2, walk=0.5),
}
NAMED = {
    "width": 16,
    "heads": 2,
    "depth_width": 16,
    "length": 5,
    "train": ONCE,
    "quiet": True,
    "encoder": {"name": "tfidf", "dim": 8, "min_df": 1},
    "index": {"method": "rqkmeans", "levels": 2, "size": 4},
}
DIFFERENTIABLE = {
    "flagship": lambda: Flagship(**NAMED),
    "multvae": lambda: MultVAE(hidden=8, latent=4, train=ONCE, quiet=True),
    "packed": lambda: Packed(**NAMED),
    "sasrec": lambda: SASRec(width=16, length=5, train=ONCE, quiet=True),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_parts_add_up_to_what_the_history_changes(name, small_split):
    model = ADDITIVE[name]().fit(small_split)
    assert isinstance(model, Additive) and not isinstance(model, Differentiable)
    history, n_items = Ragged.from_rows(ROWS), small_split.dataset.n_items
    scores = model.score(Requests(history)).numpy()
    rest = []
    for target in range(n_items):
        targets = np.full(len(ROWS), target)
        parts = model.parts(history, targets)
        assert parts.shape == (len(history.values),)
        whole = np.bincount(history.rows(), parts, minlength=len(ROWS))
        rest.append((scores[:, target] - whole)[history.lengths > 0])
    rest = np.array(rest)
    # What is left belongs to the target alone; the graph puts items no walk reaches 4 lower.
    rest = np.where((name == "graph") & (rest < -2), rest + 4, rest)
    np.testing.assert_allclose(rest, np.tile(rest[:, :1], rest.shape[1]), atol=1e-5)


def aside(model, history):
    """float32[n, n_items], the part of the scores that no vector enters."""
    out = torch.zeros(len(history), model.module.n_items)
    if isinstance(model, Aside):
        for target in range(out.shape[1]):
            parts = model.aside(history, np.full(len(history), target))
            brought = np.bincount(history.rows(), parts, minlength=len(history))
            out[:, target] = torch.from_numpy(brought)
    return out


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_what_enters_scores_as_the_history_does(name, small_split):
    model = DIFFERENTIABLE[name]().fit(small_split)
    assert isinstance(model, Differentiable) and not isinstance(model, Additive)
    history = Ragged.from_rows(ROWS)
    entry = model.enter(history)
    scores = model.score_entry(entry.vectors, entry.lengths)
    whole = model.score(Requests(history)) - aside(model, history)
    torch.testing.assert_close(scores, whole, rtol=1e-4, atol=1e-4)
    moved = entry.vectors.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.score_entry(moved, entry.lengths)[0, 0], moved)
    assert gradient[0].any() and not gradient[1:].any()
    same = model.stand_in(history, entry)
    filled = torch.from_numpy(history.lengths > 0)
    torch.testing.assert_close(
        model.score_entry(same, entry.lengths)[filled], scores[filled], rtol=1e-4, atol=1e-4
    )


def test_items_before_the_window_have_no_slot(small_split):
    entry = DIFFERENTIABLE["sasrec"]().fit(small_split).enter(Ragged.from_rows(ROWS))
    assert entry.slots.tolist() == [0, 1, 2, 3, 0, -1, -1, 0, 1, 2, 3, 4]


def test_another_history_ends_where_this_one_ends(small_split):
    model = DIFFERENTIABLE["sasrec"]().fit(small_split)
    entry = model.enter(Ragged.from_rows([[1, 2], [1, 2, 3, 4]]))
    found = model.stand_in(Ragged.from_rows([[5, 6, 7], [8]]), entry)
    table = model.item_table()
    torch.testing.assert_close(found[0, :2], table[[6, 7]])
    torch.testing.assert_close(found[1, 3], table[8])
    assert not found[0, 2:].any() and not found[1, :3].any()
