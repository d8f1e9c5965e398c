"""Strings that stand for names: every one is read back as the item it was written for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.errors import OnomaError
from onoma.indexing import ItemIndex, build
from onoma.indexing.rendering import read, render, vocabulary


@st.composite
def indices(draw):
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    name = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    names = draw(st.lists(name, min_size=1, max_size=20, unique=True))
    codes = np.array(names, dtype=np.int32)
    for row, cut in enumerate(draw(st.lists(st.integers(1, 4), max_size=5))):
        if row < len(codes):
            codes[row, cut:] = -1
    return ItemIndex(np.unique(codes, axis=0), tuple(sizes), "random")


@given(indices(), st.sampled_from(["tokens", "text"]))
@settings(max_examples=60, deadline=None)
def test_names_are_read_back(index, style):
    names = render(index, style)
    assert len(set(names)) == index.n_items
    assert read(index, names, style).tolist() == list(range(index.n_items))
    assert len(set(vocabulary(index))) == sum(index.sizes)


def test_titles_read_as_words_and_what_is_no_name_is_no_item(small_split):
    index = build("title", words=3, common=2).build(small_split)
    names = render(index, "text")
    title = small_split.dataset.titles([0])[0]
    row = next(i for i, t in enumerate(small_split.dataset.titles(range(40))) if "lipstick" in t)
    assert names[row].startswith("red lipstick number #"), (names[row], title)
    assert read(index, names, "text").tolist() == list(range(40))
    wrong = ["", "red", "no such word", names[0] + " #0", names[row].replace("red", "blue")]
    assert read(index, wrong, "text").tolist() == [-1] * 5
    whole = render(index, "tokens")
    assert read(index, [whole[0] + "x", whole[0][:-1], "<a_99999>"], "tokens").tolist() == [-1] * 3
    with pytest.raises(OnomaError, match="no style"):
        render(index, "emoji")


def test_levels_beyond_the_alphabet_have_letters_of_their_own():
    codes = np.zeros((1, 30), dtype=np.int32)
    assert len(set(vocabulary(ItemIndex(codes, (1,) * 30, "random")))) == 30
