"""Method ``title``: the words of an item's title, one after the other."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.errors import MissingColumn, OnomaError
from onoma.indexing import columns
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.paths import centres, free_names, nearest_leaf, with_counters

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_WORD = re.compile(r"\w+")


class TitleNames(IndexMethod):
    """A code a word, then a counter (title indexing of Hua et al. 2023).

    A level's vocabulary is the words that stand at that place of a title, the most frequent
    first; words that few titles have are skipped, since a word that names one item says no more
    than a counter. Titles that are equal in the words that count share a path and are counted.

    Args:
        words: most words of a name.
        common: words of fewer titles are skipped.
        column: of the catalogue; texts or numbers.
    """

    name = "title"
    needs_vectors = False

    def __init__(self, words: int = 6, common: int = 5, column: str = "title") -> None:
        if words < 1 or common < 1:
            raise OnomaError(f"words is {words} and common {common}; both must be at least 1")
        self.words, self.common, self.column = words, common, column

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Read the titles of the catalogue; vectors, if any, place new items later.

        Raises:
            MissingColumn: the catalogue has no such column, or no word or number in it.
        """
        titles = columns.read(split, self.column, columns.is_words).cast(pl.String).to_list()
        said = [_WORD.findall((title or "").lower()) for title in titles]
        if not any(said):
            raise MissingColumn(
                f"the column {self.column!r} has no word", where=split.dataset.name,
                fix="Name by another column or method",
            )  # fmt: skip
        held = Counter(word for title in said for word in set(title))
        said = [[word for word in title if held[word] >= self.common] for title in said]
        paths, vocabulary = _paths([title[: self.words] for title in said])
        tensors: dict[str, NDArray[np.generic]] = {}
        if vectors is not None:
            leaves, middle = centres(paths, vectors)
            tensors = {"leaves": leaves, "centres": middle}
        names, sizes = with_counters(paths, [len(words) for words in vocabulary], None, seed)
        meta = {
            "words": self.words, "common": self.common, "column": self.column, "seed": seed,
            "vocabulary": vocabulary, "leaves": len(np.unique(paths, axis=0)),
            "disambiguated": True, "counter": True,
        }  # fmt: skip
        return ItemIndex(names, sizes, self.name, tensors, meta)

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The words whose items' mean vector is nearest; see :meth:`ItemIndex.assign`.

        Raises:
            OnomaError: the index was built without vectors.
        """
        if "centres" not in index.tensors:
            raise OnomaError("built without vectors: new items cannot be placed")
        paths = nearest_leaf(index.tensors["leaves"], index.tensors["centres"], vectors)
        return free_names(index, paths)


def _paths(titles: list[list[str]]) -> tuple[NDArray[np.int32], list[list[str]]]:
    """int32[n, depth] word codes, -1 behind the end, and the words of each level."""
    depth = max(1, max(map(len, titles), default=1))
    paths = np.full((len(titles), depth), -1, dtype=np.int32)
    vocabulary = []
    for level in range(depth):
        words = [(row, title[level]) for row, title in enumerate(titles) if level < len(title)]
        count = Counter(word for _, word in words)
        order = sorted(count, key=lambda word: (-count[word], word))
        code = {word: number for number, word in enumerate(order)}
        for row, word in words:
            paths[row, level] = code[word]
        vocabulary.append(order)
    return paths, vocabulary
