"""Names as text: one new token a code for a model that learns them, or words that it knows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.indexing.index import ItemIndex
from onoma.indexing.paths import apart, together

_NUMBERED = ("independent", "random", "sequential")  # their codes are the digits of a number
_COUNT = r"0|[1-9][0-9]{0,8}"


def tokens(index: ItemIndex) -> list[str]:
    """Every new token that names by this index may need, level by level.

    A code is ``<a_17>``: the letter is its level, so that no two levels share a token.

    Returns:
        As many as the vocabularies are large together.
    """
    return [f"<{_letter(n)}_{code}>" for n, size in enumerate(index.sizes) for code in range(size)]


def as_tokens(index: ItemIndex) -> list[str]:
    """The name of every item as new tokens, such as ``<a_17><b_203><c_4><d_0>``.

    Hua et al., How to Index Item IDs, SIGIR-AP 2023, write their collaborative and semantic names
    so; :func:`tokens` is what the model's vocabulary must grow by, :func:`from_tokens` the way
    back.
    """
    marks = [(f"<{_letter(level)}_", ">") for level in range(index.depth)]
    return _written(index.codes, marks)


def from_tokens(index: ItemIndex, texts: Sequence[str]) -> NDArray[np.int64]:
    """int64[m], the item that each text of new tokens names; -1 where it names none."""
    marks = [(f"<{_letter(level)}_", ">") for level in range(index.depth)]
    return _items(index, _read(texts, marks))


def as_text(index: ItemIndex) -> list[str]:
    """The name of every item as plain text, for the subwords that a model already has.

    Titles are their words, and ``#2`` behind them where two other items have the same; random,
    sequential and independent names are a number, ``item_1732``; all others are their codes,
    ``item_17-203-4-0``. :func:`from_text` is the way back.
    """
    if index.method == "title":
        return _words(index)
    if _numbered(index):
        numbers = pl.Series(index.codes.astype(np.int64) @ _powers(index))
        return ("item_" + numbers.cast(pl.String)).to_list()
    return _written(index.codes, _hyphens(index.depth))


def from_text(index: ItemIndex, texts: Sequence[str]) -> NDArray[np.int64]:
    """int64[m], the item that each plain text names; -1 where it names none."""
    if index.method == "title":
        return _items(index, _spelled(index, texts))
    if not _numbered(index):
        return _items(index, _read(texts, _hyphens(index.depth)))
    digits = pl.Series(texts, dtype=pl.String).str.extract(r"^item_(0|[1-9][0-9]{0,18})$")
    numbers = digits.cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
    sizes = np.array(index.sizes, dtype=np.int64)
    codes = numbers[:, None] // _powers(index) % sizes
    codes[(numbers < 0) | (numbers >= sizes.prod())] = -1
    return _items(index, codes)


def _letter(level: int) -> str:
    """``a`` to ``z``, then ``aa``, ``ab`` and so on."""
    word = ""
    while level >= 0:
        word = chr(ord("a") + level % 26) + word
        level = level // 26 - 1
    return word


def _hyphens(depth: int) -> list[tuple[str, str]]:
    return [("item_", "")] + [("-", "")] * (depth - 1)


def _numbered(index: ItemIndex) -> bool:
    space = np.prod([float(size) for size in index.sizes])
    return index.method in _NUMBERED and len(set(index.sizes)) == 1 and bool(space < 2**62)


def _powers(index: ItemIndex) -> NDArray[np.int64]:
    return np.int64(index.sizes[0]) ** np.arange(index.depth - 1, -1, -1, dtype=np.int64)


def _written(codes: NDArray[np.int32], marks: Sequence[tuple[str, str]]) -> list[str]:
    """Each code between the marks of its level, nothing behind the end of a name."""
    frame = pl.DataFrame(codes, schema=[str(level) for level in range(codes.shape[1])])
    parts = [
        pl.when(pl.col(name) >= 0)
        .then(pl.lit(before) + pl.col(name).cast(pl.String) + pl.lit(after))
        .otherwise(pl.lit(""))
        for name, (before, after) in zip(frame.columns, marks, strict=True)
    ]
    return frame.select(pl.concat_str(parts).alias("name"))["name"].to_list()


def _read(texts: Sequence[str], marks: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
    """int64[m, depth] codes of what :func:`_written` wrote; -1 alone where it did not."""
    pattern = ""
    for before, after in reversed(marks):
        pattern = f"(?:{before}({_COUNT}){after}{pattern})?"
    groups = pl.Series(texts, dtype=pl.String).str.extract_groups(f"^{pattern}$")
    return groups.struct.unnest().cast(pl.Int64).fill_null(-1).to_numpy().reshape(-1, len(marks))


def _items(index: ItemIndex, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    # The trie takes a code as large as its vocabulary for the end of a name.
    outside = (codes >= np.array(index.sizes)).any(axis=1, keepdims=True)
    return index.trie.find(np.where(outside, -1, codes))


def _words(index: ItemIndex) -> list[str]:
    paths, counters = apart(index)
    vocabulary: list[list[str]] = index.meta["vocabulary"]
    words = [
        pl.Series(str(level), [*said, None])[np.where(column < 0, len(said), column)]
        for level, (said, column) in enumerate(zip(vocabulary, paths.T, strict=True))
    ]
    # A title without words is its counter; elsewhere the first counter goes without saying.
    told = pl.Series((counters > 0) | (paths < 0).all(axis=1))
    count = pl.DataFrame({"told": told, "count": counters}).select(
        pl.when("told").then("#" + pl.col("count").cast(pl.String)).alias("count")
    )
    line = pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)
    return pl.DataFrame([*words, count["count"]]).select(line.alias("name"))["name"].to_list()


def _spelled(index: ItemIndex, texts: Sequence[str]) -> NDArray[np.int64]:
    vocabulary = index.meta["vocabulary"]
    known = [{word: code for code, word in enumerate(level)} for level in vocabulary]
    paths = np.full((len(texts), len(known)), -1, dtype=np.int32)
    counters = np.zeros(len(texts), dtype=np.int64)
    bad = np.zeros(len(texts), dtype=bool)
    for row, text in enumerate(texts):
        words = text.split(" ")
        if re.fullmatch(f"#({_COUNT})", words[-1]):
            counters[row] = int(words.pop()[1:])
        codes = [level.get(word, -1) for level, word in zip(known, words, strict=False)]
        bad[row] = len(words) > len(known) or -1 in codes or counters[row] >= index.sizes[-1]
        paths[row, : len(codes)] = codes
    paths[bad], counters[bad] = -1, 0
    names = together(paths, counters, index.sizes).astype(np.int64)
    names[bad] = -1
    return names
