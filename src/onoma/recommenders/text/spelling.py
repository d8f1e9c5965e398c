"""The names of a catalogue in the tokens of a text model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onoma.indexing import ItemIndex, Trie
from onoma.indexing.rendering import as_text
from onoma.recommenders.text.vocabulary import Vocabulary

Form = Literal["auto", "tokens", "text"]
_AS_TEXT = ("random", "sequential", "title")  # as Hua et al., SIGIR-AP 2023, write them


@dataclass(frozen=True)
class Spelling:
    """Every item's name as a row of token ids.

    Attributes:
        tokens: int32[n_items, longest + 1], each name and the end of text, -1 behind it; the end
            makes one name no prefix of another.
        size: of the vocabulary, new tokens included.
        new: tokens that names added to it.
    """

    tokens: NDArray[np.int32]
    size: int
    new: int

    @classmethod
    def of(cls, index: ItemIndex, vocabulary: Vocabulary, form: Form = "auto") -> Spelling:
        """Spell the names of an index.

        Args:
            index: the names.
            vocabulary: new tokens follow its base.
            form: ``tokens``: a new token a code; ``text``: the subwords of the name as text;
                ``auto``: as published, text for random, sequential and title names, else tokens.
        """
        if form == "auto":
            form = "text" if index.method in _AS_TEXT else "tokens"
        if form == "tokens":
            offsets = vocabulary.base + np.cumsum([0, *index.sizes[:-1]])
            names = np.where(index.codes < 0, -1, index.codes + offsets)
            new = sum(index.sizes)
        else:
            rows = vocabulary.encode_all(as_text(index))
            names = np.full((len(rows), max(map(len, rows), default=1)), -1)
            for item, row in enumerate(rows):
                names[item, : len(row)] = row
            new = 0
        tokens = np.full((len(names), names.shape[1] + 1), -1, dtype=np.int32)
        tokens[:, :-1] = names
        tokens[np.arange(len(names)), (names >= 0).sum(axis=1)] = vocabulary.end
        return cls(tokens, vocabulary.base + new, new)

    @cached_property
    def trie(self) -> Trie:
        """The names as a trie over the whole vocabulary at every place.

        Raises:
            OnomaError: two names are cut in the same tokens.
        """
        return Trie.build(self.tokens, [self.size] * self.tokens.shape[1])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n_items], tokens of each name without the end."""
        return (self.tokens >= 0).sum(axis=1) - 1

    def begins(self, items: NDArray[np.integer], gap: int) -> NDArray[np.int64]:
        """int64[m], the token of :meth:`said` with which each name begins, ``gap`` between two."""
        sizes = self.lengths[items] + gap
        begins: NDArray[np.int64] = np.cumsum(sizes) - sizes
        return begins

    def said(
        self, items: NDArray[np.integer], separator: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The names of some items one after the other, and the word of each token.

        Args:
            items: int[m] item codes.
            separator: int32[s] tokens between two names.

        Returns:
            Both int32[l]; a name is one word, and so is what separates two.
        """
        m, width, gap = len(items), self.tokens.shape[1] - 1, len(separator)
        table = np.full((m, width + gap), -1, dtype=np.int32)
        names = self.tokens[items]
        last = np.arange(width) < self.lengths[items][:, None]
        table[:, :width] = np.where(last, names[:, :-1], -1)
        table[: max(m - 1, 0), width:] = separator
        words = np.empty((m, width + gap), dtype=np.int32)
        words[:, :width] = 2 * np.arange(m)[:, None]
        words[:, width:] = 2 * np.arange(m)[:, None] + 1
        kept = table >= 0
        return table[kept], words[kept]
