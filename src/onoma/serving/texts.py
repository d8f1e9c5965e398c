"""What is looked up in the words and columns of a catalogue; kept until one of them changes."""

from __future__ import annotations

from functools import cached_property

import polars as pl

from onoma.encoding.bm25 import BM25
from onoma.encoding.text import item_texts
from onoma.explanation.attributes import SharedAttributes


class Texts:
    """The words of one state of a catalogue, each table made when it is first asked for.

    Withdrawing items changes none of it.

    Args:
        table: a row an item.
    """

    def __init__(self, table: pl.DataFrame) -> None:
        self.table = table

    @cached_property
    def bm25(self) -> BM25:
        """Search by words."""
        return BM25(item_texts(self.table))

    @cached_property
    def attributes(self) -> SharedAttributes:
        """What items have in common."""
        return SharedAttributes(self.table)
