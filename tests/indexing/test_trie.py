import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.errors import OnomaError
from onoma.indexing.trie import Trie


@st.composite
def catalogues(draw):
    """Unique names of up to four codes, some shorter, dense and sparse levels alike."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    names = []
    for _ in range(draw(st.integers(1, 40))):
        length = draw(st.integers(1, len(sizes)))
        name = [draw(st.integers(0, size - 1)) for size in sizes[:length]]
        names.append(tuple(name + [-1] * (len(sizes) - length)))
    names = sorted(set(names))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return np.array(names, dtype=np.int32)[rng.permutation(len(names))], tuple(sizes)


@settings(max_examples=60, deadline=None)
@given(catalogues())
def test_accepts_exactly_the_names_of_the_catalogue(catalogue):
    codes, sizes = catalogue
    trie = Trie.build(codes, sizes)
    assert trie.find(codes).tolist() == list(range(len(codes)))
    # Spell everything the trie allows: what comes out is the catalogue, once each.
    spelled = [((), 0)]
    for level in range(trie.depth):
        after = []
        for name, node in spelled:
            mask = trie.allowed(level, torch.tensor([node]))[0]
            for code in mask.nonzero()[:, 0].tolist():
                below = trie.advance(level, torch.tensor([node]), torch.tensor([code]))
                after.append(((*name, code if code < sizes[level] else -1), int(below)))
        spelled = after
    assert sorted(name for name, _ in spelled) == sorted(map(tuple, codes.tolist()))
    assert all(codes[trie.items[node]].tolist() == list(name) for name, node in spelled)


@settings(max_examples=40, deadline=None)
@given(catalogues(), st.integers(0, 99))
def test_refuses_every_other_name(catalogue, seed):
    codes, sizes = catalogue
    rng = np.random.default_rng(seed)
    other = np.stack([rng.integers(-1, size, 200) for size in sizes], axis=1).astype(np.int32)
    known = {tuple(name): item for item, name in enumerate(codes.tolist())}
    expected = [known.get(tuple(name), -1) for name in other.tolist()]
    assert Trie.build(codes, sizes).find(other).tolist() == expected


def test_dead_beams_stay_dead():
    trie = Trie.build(np.array([[0, 1], [2, 0]]), (3, 2))
    nodes = trie.advance(0, torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert not trie.allowed(1, nodes)[0].any()
    assert trie.items[trie.advance(1, nodes, torch.tensor([0, 0]))].tolist() == [-1, 1]


def test_long_vocabularies_sort_without_one_key():
    sizes = (2**31 - 1,) * 3
    codes = np.array([[5, 5, 2], [5, 4, 9], [0, 2**31 - 2, 1]], dtype=np.int64)
    assert Trie.build(codes, sizes).find(codes).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ([[0, 0], [1, 1], [0, 0]], "items 0 and 2 have the same name"),
        ([[0, 5]], "item 0, level 1: code 5 is outside the vocabulary of 2"),
        ([[-1, 0]], "item 0: a name is empty or goes on"),
        ([[0, 0, 0]], "names of shape"),
    ],
)
def test_bad_names_are_told(codes, told):
    with pytest.raises(OnomaError, match=told):
        Trie.build(np.array(codes), (2, 2))
