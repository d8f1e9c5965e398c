"""Names as text lead back to their items, and nothing else does."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Dataset, Split, split
from onoma.indexing import ItemIndex, build
from onoma.indexing.rendering import as_text, as_tokens, from_text, from_tokens, tokens

METHODS = ["random", "independent", "sequential", "semantic", "collaborative", "title", "hybrid"]


@pytest.mark.parametrize("method", METHODS)
def test_every_way_of_naming_reads_back(method: str, small_split: Split) -> None:
    index = build(method).build(small_split)
    items = np.arange(index.n_items)
    said, words = as_tokens(index), as_text(index)
    assert len(set(said)) == len(set(words)) == len(items)
    assert np.array_equal(from_tokens(index, said), items)
    assert np.array_equal(from_text(index, words), items)
    vocabulary = set(tokens(index))
    assert len(vocabulary) == sum(index.sizes)
    assert all(set(re.findall(r"<[a-z]+_\d+>", name)) <= vocabulary for name in said)


@st.composite
def catalogues(draw: st.DrawFn) -> ItemIndex:
    """Different names of any depth, some shorter than others."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=30))
    name = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    rows = draw(
        st.lists(st.tuples(name, st.integers(1, len(sizes))), min_size=1, max_size=20).map(
            lambda drawn: sorted({codes[:end] + (-1,) * (len(codes) - end) for codes, end in drawn})
        )
    )
    return ItemIndex(np.array(rows, dtype=np.int32), tuple(sizes), "any")


@settings(max_examples=60, deadline=None)
@given(catalogues())
def test_names_of_any_depth_and_length_read_back(index: ItemIndex) -> None:
    items = np.arange(index.n_items)
    assert len(set(tokens(index))) == sum(index.sizes)
    assert np.array_equal(from_tokens(index, as_tokens(index)), items)
    assert np.array_equal(from_text(index, as_text(index)), items)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.text(max_size=30), min_size=3, max_size=12))
def test_titles_of_any_text_read_back(titles: list[str | None]) -> None:
    titles = [*titles, "soap"]  # some word there must be
    ids = [f"i{n}" for n in range(len(titles))]
    items = pl.DataFrame({"item_id": ids, "title": pl.Series(titles, dtype=pl.String)})
    log = pl.DataFrame({"user_id": ["u"] * len(ids), "item_id": ids})
    parts = split(Dataset.construct(log, items, name="shop"))
    index = build("title", words=3, common=1).build(parts)
    assert np.array_equal(from_text(index, as_text(index)), np.arange(len(ids)))


def test_how_names_look() -> None:
    codes = np.array([[17, 203, -1], [17, 0, 4]], dtype=np.int32)
    index = ItemIndex(codes, (32, 256, 8), "semantic")
    assert as_tokens(index) == ["<a_17><b_203>", "<a_17><b_0><c_4>"]
    assert as_text(index) == ["item_17-203", "item_17-0-4"]
    number = ItemIndex(np.array([[1, 7], [0, 5]], dtype=np.int32), (10, 10), "sequential")
    assert as_text(number) == ["item_17", "item_5"]

    titles = ["Red soap", "red SOAP", "red", None, "soap #1", "#0"]
    ids = [f"i{n}" for n in range(len(titles))]
    items = pl.DataFrame({"item_id": ids, "title": titles})
    log = pl.DataFrame({"user_id": ["u"] * len(ids), "item_id": ids})
    shop = split(Dataset.construct(log, items, name="shop"))
    texts = as_text(build("title", words=3, common=1).build(shop))
    at = shop.dataset.item_codes(ids)
    assert {texts[at[0]], texts[at[1]]} == {"red soap", "red soap #1"}
    assert [texts[row] for row in at[2:]] == ["red", "#0", "soap 1", "0"]


def test_other_texts_name_nothing(small_split: Split) -> None:
    codes = np.array([[1, 2], [3, -1]], dtype=np.int32)
    index = ItemIndex(codes, (4, 8), "semantic")
    wrong = ["", "<a_1>", "<a_3><b_8>", "<b_1><a_2>", "<a_1><b_2>.", "<a_01><b_2>", "<a_4>", "x",
             "<a_99999999999999999999>"]  # fmt: skip
    assert (from_tokens(index, wrong) == -1).all()
    assert from_tokens(index, ["<a_3>"]).tolist() == [1]
    wrong = ["", "item_", "item_1", "item_1-02", "item_3-8", "item_1-2-0", "item_4", " item_3"]
    assert (from_text(index, wrong) == -1).all()
    numbers = build("sequential", size=8).build(small_split)
    assert (from_text(numbers, ["item_4000", "item_-1", "item_99999999999999999999"]) == -1).all()
    title = build("title", common=1).build(small_split)
    wrong = ["", "nosuchword", "red lipstick #999", "#999", "soap green", "red  lipstick", "#-1"]
    assert (from_text(title, wrong) == -1).all()
