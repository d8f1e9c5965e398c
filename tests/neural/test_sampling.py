"""Names are drawn as often as they are probable, none twice."""

import numpy as np
import torch

from onoma.dataset import Ragged
from onoma.indexing.trie import Trie
from onoma.neural.depth import DepthDecoder
from onoma.neural.sampling import sample_names

CODES = np.array([[0, 0], [0, 1], [0, 3], [1, 0], [2, -1], [2, 2]], dtype=np.int32)
SIZES = (3, 4)


def probabilities(model, context, temperature):
    """float[n_items] of the first name drawn, code by code among the allowed."""
    names = torch.from_numpy(CODES).long()
    logits = model(context.expand(len(names), -1), names)
    out = torch.ones(len(names))
    for item, name in enumerate(CODES):
        for level in range(2):
            row = torch.cat([logits[level][item] / temperature, torch.zeros(1)])
            alike = {int(c[level]) for c in CODES if (c[:level] == name[:level]).all()}
            among = row[[c if c >= 0 else SIZES[level] for c in sorted(alike)]].softmax(0)
            out[item] *= among[sorted(alike).index(int(name[level]))]
    return out


def test_frequencies_are_probabilities_and_nothing_repeats():
    torch.manual_seed(0)
    model, trie = DepthDecoder(SIZES, 8, 1).eval(), Trie.build(CODES, SIZES)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    context = torch.randn(1, 8)
    for temperature in (1.0, 3.0):
        want = probabilities(model, context, temperature)
        assert want.sum().item() - 1 < 1e-5
        items, scores = sample_names(
            model, context.expand(6000, -1), trie, 6, torch.arange(6000), temperature
        )
        assert (items.sort(1).values == torch.arange(6)).all()
        assert (scores.diff(dim=1) <= 0).all()
        first = torch.bincount(items[:, 0], minlength=6) / 6000
        assert (first - want).abs().max() < 0.025
        # The second is the next of a draw without replacement.
        second = torch.bincount(items[:, 1], minlength=6) / 6000
        pairs = want[:, None] * want[None, :] / (1 - want[:, None])
        pairs.fill_diagonal_(0)
        assert (second - pairs.sum(0)).abs().max() < 0.025


def test_what_is_passed_over_might_as_well_have_no_name():
    torch.manual_seed(0)
    model, context, keys = DepthDecoder(SIZES, 8, 1).eval(), torch.randn(4, 8), torch.arange(4)
    gone = [[0], [4, 1], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    items, scores = sample_names(
        model, context, Trie.build(CODES, SIZES), 6, keys, 1.0, without=Ragged.from_rows(gone)
    )
    for row, left in enumerate(np.setdiff1d(np.arange(6), some) for some in gone):
        at = slice(row, row + 1)
        found, drawn = sample_names(
            model, context[at], Trie.build(CODES[left], SIZES), 6, keys[at], 1.0
        )
        assert items[row].tolist() == np.append(left, -1)[found[0].numpy()].tolist()
        torch.testing.assert_close(scores[row], drawn[0])
