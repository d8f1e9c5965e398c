"""Items found while a title is being typed."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Titles:
    """The titles of a catalogue, ready to be searched by the beginnings of their words.

    Args:
        titles: by item code, None where there is none.
        counts: float[n_items], how often each was chosen; the first among equals.
    """

    def __init__(self, titles: Sequence[str | None], counts: NDArray[np.floating]) -> None:
        self._counts = counts
        self._plain = pl.Series([f" {_plain(title or '')} " for title in titles], dtype=pl.String)

    def find(self, text: str, k: int, gone: NDArray[np.bool_] | None = None) -> list[int]:
        """Item codes: the title that is all of the text, those that begin with it, the others.

        Args:
            text: every word of it must begin a word of a title.
            k: items at most.
            gone: bool[n_items] of items that must not be found.
        """
        words = _plain(text).split()
        if not words:
            return []
        mask = np.ones(len(self._plain), dtype=bool)
        for word in sorted(words, key=len, reverse=True):
            mask &= self._plain.str.contains(f" {word}", literal=True).to_numpy()
        if gone is not None:
            mask &= ~gone
        codes = np.flatnonzero(mask)
        held = self._plain[codes]
        asked = " ".join(words)
        whole = _sorted(held) == " ".join(sorted(words))
        begins = held.str.starts_with(f" {asked}")
        order = np.lexsort(
            (codes, -self._counts[codes], ~begins.to_numpy(), ~np.asarray(whole, dtype=bool))
        )
        return codes[order][:k].tolist()


def _plain(text: str) -> str:
    """Words in lower case without accents, a space between them."""
    spread = unicodedata.normalize("NFKD", text.lower())
    kept = (letter for letter in spread if not unicodedata.combining(letter))
    return " ".join("".join(c if c.isalnum() else " " for c in kept).split())


def _sorted(texts: pl.Series) -> NDArray[np.object_]:
    words = texts.str.strip_chars().str.split(" ").list.sort().list.join(" ")
    return words.to_numpy().astype(object)
