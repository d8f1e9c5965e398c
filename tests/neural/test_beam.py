import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Ragged
from onoma.indexing.trie import Trie
from onoma.neural.beam import beam_search, exhaustive, largest
from onoma.neural.depth import DepthDecoder


def catalogue(n, sizes, seed, short=False):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, n) for size in sizes], axis=1)
    if short:
        length = rng.integers(1, len(sizes) + 1, n)
        codes[np.arange(len(sizes)) >= length[:, None]] = -1
    return rng.permutation(np.unique(codes, axis=0)).astype(np.int32)


def speller(sizes, seed=0, **settings):
    torch.manual_seed(seed)
    model = DepthDecoder(sizes, 16, 2, **settings).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def true_logp(model, context, codes):
    """float[n, n_items] by the training pass, one name at a time."""
    names = torch.from_numpy(codes).long()
    out = []
    for row in context:
        logits = model(row.expand(len(names), -1), names)
        total = torch.zeros(len(names))
        for level, guess in enumerate(logits):
            code = names[:, level]
            said = guess.log_softmax(-1).gather(1, code.clamp(min=0)[:, None])[:, 0]
            total += said.masked_fill(code < 0, 0)
        out.append(total)
    return torch.stack(out)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 60), st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.integers(0, 999), st.booleans(),
)  # fmt: skip
def test_wide_beam_is_the_exhaustive_ranking(n, sizes, seed, short):
    codes = catalogue(n, sizes, seed, short)
    trie, model = Trie.build(codes, sizes), speller(sizes, seed)
    context = torch.randn(3, 16)
    with torch.inference_mode():
        oracle = exhaustive(model, context, trie)
        items, logp = beam_search(model, context, trie, len(codes) + 2)
        assert torch.allclose(oracle, true_logp(model, context, codes), atol=1e-4)
    assert (items[:, len(codes) :] == -1).all() and (logp[:, len(codes) :] == -torch.inf).all()
    items, logp = items[:, : len(codes)], logp[:, : len(codes)]
    assert torch.equal(items.sort(1).values, torch.arange(len(codes)).expand(3, -1))
    assert torch.allclose(logp, oracle.gather(1, items), atol=1e-4)
    assert (logp.diff(dim=1) <= 0).all()


def plain_beam(model, row, codes, beam):
    """The same search as a loop over dictionaries."""
    names = {tuple(name): item for item, name in enumerate(codes.tolist())}
    kept = {(): 0.0}
    for level in range(codes.shape[1]):
        grown = {}
        for prefix, score in kept.items():
            padded = torch.tensor([[*prefix, *[0] * (codes.shape[1] - level)]])
            guess = model(row[None], padded)[level][0].log_softmax(-1)
            allowed = {name[level] for name in names if name[:level] == prefix}
            grown |= {(*prefix, c): score + (float(guess[c]) if c >= 0 else 0) for c in allowed}
        kept = dict(sorted(grown.items(), key=lambda pair: -pair[1])[:beam])
    return [names[name] for name in kept], list(kept.values())


@pytest.mark.parametrize("sizes", [(200, 200, 200, 9), (8, 300, 4), (6, 6, 90)])
@pytest.mark.parametrize("short", [False, True])
def test_narrow_beam_equals_a_plain_loop(sizes, short):
    codes = catalogue(1000, sizes, 1, short)
    trie, model = Trie.build(codes, sizes), speller(sizes)
    context = torch.randn(20, 16)
    items, logp = beam_search(model, context, trie, 15, batch=7)
    with torch.no_grad():
        for user in range(3):
            found, scores = plain_beam(model, context[user], codes, 15)
            assert items[user].tolist() == found
            assert logp[user].tolist() == pytest.approx(scores, abs=1e-4)
        oracle = exhaustive(model, context, trie)
    assert torch.allclose(logp, oracle.gather(1, items), atol=1e-4)
    again = beam_search(model, context, trie, 15, batch=7)
    assert torch.equal(again[0], items) and torch.equal(again[1], logp)
    assert torch.allclose(beam_search(model, context, trie, 15)[1], logp, atol=1e-4)


@pytest.mark.parametrize("sizes", [(40, 60, 9), (8, 300, 4), (6, 6, 90)])
@pytest.mark.parametrize("short", [False, True])
def test_what_is_passed_over_might_as_well_have_no_name(sizes, short):
    codes = catalogue(1000, sizes, 1, short)
    trie, model = Trie.build(codes, sizes), speller(sizes)
    context, rng = torch.randn(6, 16), np.random.default_rng(0)
    gone = [rng.choice(len(codes), size) for size in (0, 40, len(codes), 4 * len(codes))]
    gone = [*gone, np.arange(len(codes)), np.arange(3, len(codes))]
    items, logp = beam_search(model, context, trie, 15, without=Ragged.from_rows(gone), batch=4)
    for row, left in enumerate(np.setdiff1d(np.arange(len(codes)), some) for some in gone):
        few = Trie.build(codes[left], sizes)
        found, scores = beam_search(model, context[row : row + 1], few, 15)
        want = np.append(left, -1)[found[0].numpy()]
        assert items[row].tolist() == want.tolist()
        assert torch.allclose(logp[row], scores[0], atol=1e-4)


class Flat:
    """Every code equally likely."""

    def __init__(self, sizes):
        self.sizes = sizes

    def begin(self, context):
        return len(context)

    def step(self, state, level, codes):
        b = 1 if codes is None else codes.shape[1]
        return torch.zeros(1).expand(state, b, self.sizes[level]), state

    def reorder(self, state, parents):
        return state


def test_equals_rank_by_item():
    sizes = (5, 5)
    codes = catalogue(25, sizes, 0)
    items, logp = beam_search(Flat(sizes), torch.zeros(2, 1), Trie.build(codes, sizes), 25)
    assert items[0].tolist() == list(range(len(codes))) + [-1] * (25 - len(codes))
    assert logp[0, 0] == pytest.approx(-2 * np.log(5))


def test_no_users_and_no_beam():
    trie, model = Trie.build(catalogue(9, (4, 4), 0), (4, 4)), speller((4, 4))
    assert beam_search(model, torch.zeros(0, 16), trie, 3)[0].shape == (0, 3)
    assert exhaustive(model, torch.zeros(0, 16), trie).shape == (0, trie.n_items)
    with pytest.raises(ValueError, match="beam is 0"):
        beam_search(model, torch.zeros(1, 16), trie, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5000), st.integers(0, 99), st.booleans())
def test_largest_is_topk(k, width, seed, infinite):
    values = torch.randn(4, max(width, k), generator=torch.Generator().manual_seed(seed))
    if infinite:
        values[values < 1.5] = -torch.inf
    scores, at = largest(values, k)
    assert torch.equal(scores, values.topk(k).values)
    assert torch.equal(values.gather(1, at), scores)


def test_shared_and_tied_code_embeddings():
    sizes = (7, 5)
    tables = torch.nn.ModuleList(torch.nn.Embedding(size, 16) for size in sizes)
    model = DepthDecoder(sizes, 16, 1, tables=tables, tie=True)
    assert model.heads[0].weight is tables[0].weight
    loss = model.loss(torch.randn(4, 16), torch.tensor([[0, 1], [6, 4], [3, -1], [2, 0]]))
    loss.backward()
    assert tables[0].weight.grad is not None and loss.isfinite()
