"""What users like, in words: interests mined from a history, and tags made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.cooccurrence import interactions
from onoma.encoding.text import item_texts, words_of
from onoma.errors import OnomaError
from onoma.recommenders.storage import read_model, save_model

_ROOT = 0.5  # share of the items above which a category says nothing
_COMMON = 0.05  # and a word
_BARE = 1e-4  # what a category alone weighs beside one with a word
_FEW = 3  # items that a word must be in
_LONG = 3  # letters of a word at least


@dataclass(frozen=True)
class Facets:
    """What items are: their categories and the words that tell them apart.

    Attributes:
        kinds: c names of categories.
        words: w words, in lower case.
        of_kind: float32[n_items, c], 1 where the item has the category.
        of_word: float32[n_items, w], 1 where its text has the word.
        both: int64[c, w], items that have both.
        near: float32[c, c], the share of a category's training users who have the other, times the
            logarithm of how much oftener than chance that is; 0 where it is not oftener.
    """

    kinds: tuple[str, ...]
    words: tuple[str, ...]
    of_kind: sp.csr_array
    of_word: sp.csr_array
    both: NDArray[np.int64]
    near: NDArray[np.float32]

    @classmethod
    def of(cls, split: Split, most: int = 4000, common: float = _COMMON) -> Facets:
        """Of a catalogue; ``near`` reads ``split.train``.

        Args:
            split: the data.
            most: words kept, the most frequent of those that are not too frequent.
            common: share of the items above which a word is.
        """
        items = split.dataset.items
        n = items.height
        column = next((name for name in ("categories", "genres") if name in items.columns), None)
        kinds = pl.DataFrame(schema={"row": pl.UInt32, "term": pl.String})
        if column is not None:
            told = items.select(pl.col(column)).with_row_index("row")
            if isinstance(told.schema[column], pl.List):
                told = told.explode(column)
            kinds = told.select("row", pl.col(column).cast(pl.String).alias("term")).drop_nulls()
        words = words_of(item_texts(items, ("title", "keywords", "description")))
        plain = pl.col("term").str.contains(r"^\p{L}+$") & (pl.col("term").str.len_chars() >= _LONG)
        names, of_kind = _table(kinds, n, 1, _ROOT, n)
        terms, of_word = _table(words.filter(plain), n, _FEW, common, most)
        both = np.asarray((of_kind.T @ of_word).todense(), dtype=np.int64)
        held = interactions(split.train, n) @ of_kind
        held.data[:] = 1
        joint = np.asarray((held.T @ held).todense(), dtype=np.float32)
        single = np.maximum(np.diag(joint), 1)
        oftener = joint * max(held.shape[0], 1) / (single[:, None] * single)
        near = joint / single[:, None] * np.log(np.maximum(oftener, 1))
        np.fill_diagonal(near, 0)
        near[joint < _FEW] = 0  # chance meetings
        return cls(names, terms, of_kind, of_word, both, near.astype(np.float32))

    def save(self, folder: str | Path) -> None:
        """Write all of it."""
        arrays = {"of_kind": self.of_kind, "of_word": self.of_word, "near": self.near}
        names = {"kinds": list(self.kinds), "words": list(self.words)}
        save_model(folder, "facets", names, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Facets:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: a file is missing, damaged or of another catalogue.
        """
        names, arrays = read_model(folder, "facets")
        of_kind, of_word = arrays["of_kind"], arrays["of_word"]
        if of_kind.shape[0] != dataset.n_items:
            raise OnomaError(
                f"facets of {of_kind.shape[0]} items, the catalogue has {dataset.n_items}",
                where=str(folder),
                fix="Use the data the model was fitted on",
            )
        both = np.asarray((of_kind.T @ of_word).todense(), dtype=np.int64)
        kinds, words = tuple(names["kinds"]), tuple(names["words"])
        return cls(kinds, words, of_kind, of_word, both, arrays["near"])


def _table(
    terms: pl.DataFrame, n: int, low: int, share: float, most: int
) -> tuple[tuple[str, ...], sp.csr_array]:
    """Sorted terms, and float32[n, terms] of which row has which."""
    terms = terms.unique()
    counts = terms.group_by("term").agg(pl.len().alias("df"))
    counts = counts.filter((pl.col("df") >= low) & (pl.col("df") <= max(share * n, low)))
    counts = counts.sort("df", "term", descending=[True, False]).head(most)
    counts = counts.sort("term").with_row_index("column")
    found = terms.join(counts, on="term").sort("row", "column")
    cells = (found["row"].to_numpy().astype(np.int64), found["column"].to_numpy().astype(np.int64))
    ones = np.ones(len(found), dtype=np.float32)
    table = sp.coo_array((ones, cells), shape=(n, counts.height)).tocsr()
    return tuple(counts["term"].to_list()), sp.csr_array(table)


@dataclass(frozen=True)
class Tags:
    """What was mined of n histories.

    Attributes:
        interests: int64[n, i] categories, the strongest first, -1 behind them.
        kinds: int64[n, t] the core of each tag, a category; -1 behind them.
        words: int64[n, t] the modifier of each tag; -1 behind them.
        sources: int64[n, t] the interest that each tag comes from.
        weights: float32[n, t], 0 behind them; rows add up to 1 where there is a tag.
    """

    interests: NDArray[np.int64]
    kinds: NDArray[np.int64]
    words: NDArray[np.int64]
    sources: NDArray[np.int64]
    weights: NDArray[np.float32]

    def told(self, row: int, facets: Facets) -> list[dict[str, str]]:
        """Tags of one row as people read them: ``tag``, ``interest`` and ``why``."""
        out = []
        for kind, word, source in zip(
            self.kinds[row], self.words[row], self.sources[row], strict=True
        ):
            if kind < 0:
                break
            core, liked = facets.kinds[kind], facets.kinds[source]
            modifier = f"{facets.words[word]} " if word >= 0 else ""
            why = (
                f"has had {core}"
                if kind == source
                else f"people who have {liked} often have {core}"
            )
            out.append({"tag": f"{modifier}{core}", "interest": liked, "why": why})
        return out


class Miner(ABC):
    """Histories in, interests and tags out.

    Attributes:
        facets: what items are.
        answers: how many were asked, held to their form, and turned down.
    """

    facets: Facets
    answers: Counter[str]

    @abstractmethod
    def mine(self, history: Ragged) -> Tags:
        """The interests and tags of n rows of item codes, oldest first."""


class RuleMiner(Miner):
    """Recent categories times the words of what was had, expanded to categories near by.

    Needs no language model. A tag is a word and a category; pairs that no item of the catalogue
    has, or more than a twentieth of them, are turned down. Where few pairs are left, categories
    follow by themselves.

    Args:
        facets: of the catalogue.
        interests: categories of a history, at most.
        siblings: further categories of each interest, the nearest that the history has not.
        tags: at most.
        words: of a history that may stand in a tag.
        explore: share of the weight that tags of such further categories have together.
        half_life: places after which an item of the history counts half.
    """

    def __init__(
        self,
        facets: Facets,
        interests: int = 16,
        siblings: int = 8,
        tags: int = 120,
        words: int = 12,
        explore: float = 1.0,
        half_life: float = 10.0,
    ) -> None:
        self.facets, self.answers = facets, Counter()
        self.interests, self.siblings, self.tags = interests, siblings, tags
        self.words, self.explore, self.half_life = words, explore, half_life
        n = facets.of_kind.shape[0]
        self._kind_weight, self._word_weight = (
            np.log((1 + n) / (1 + np.asarray(table.sum(axis=0)))).astype(np.float32)
            for table in (facets.of_kind, facets.of_word)
        )
        self.broad = _COMMON * n

    def mine(self, history: Ragged) -> Tags:
        """Row by row the same, whatever the batch."""
        parts = [
            self._mined(history.slice(start, min(start + 512, len(history))))
            for start in range(0, len(history), 512)
        ]
        if not parts:
            return self._mined(history)
        names = ("interests", "kinds", "words", "sources", "weights")
        return Tags(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def _mined(self, history: Ragged) -> Tags:
        facets = self.facets
        n = len(history)
        back = np.repeat(history.offsets[1:], history.lengths) - 1 - np.arange(len(history.values))
        fresh = np.power(0.5, back / self.half_life).astype(np.float32)
        held = sp.coo_array(
            (fresh, (history.rows(), history.values)), shape=(n, facets.of_kind.shape[0])
        ).tocsr()
        kinds = np.asarray((held @ facets.of_kind).todense()) * self._kind_weight
        words = np.asarray((held @ facets.of_word).todense()) * self._word_weight
        liked, strength = _first(kinds, self.interests)
        chosen, weight = _first(words, self.words)
        cores, sources, cored = self._cores(kinds, liked, strength)
        score = cored[:, :, None] * weight[:, None, :]
        count = np.zeros(score.shape, dtype=np.int64)
        if score.size:
            count = facets.both[np.maximum(cores, 0)[:, :, None], np.maximum(chosen, 0)[:, None, :]]
        asked = score > 0
        self.answers["asked"] += int(asked.sum())
        self.answers["rejected: of no item"] += int((asked & (count == 0)).sum())
        self.answers["rejected: too broad"] += int((asked & (count > self.broad)).sum())
        score = np.where((count > 0) & (count <= self.broad), score, 0)
        # Behind all of these, categories by themselves.
        chosen = np.concatenate([chosen, np.full((n, 1), -1, dtype=np.int64)], axis=1)
        score = np.concatenate([score, cored[:, :, None] * np.float32(_BARE)], axis=2)
        flat = score.reshape(n, -1)
        place, value = _first(flat, self.tags)
        wide = score.shape[2]
        core, word = np.maximum(place, 0) // wide, np.maximum(place, 0) % wide
        known = place >= 0
        self.answers["tags"] += int((known & (word < wide - 1)).sum())

        def at(table: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
            if not table.shape[1]:
                return np.full(index.shape, -1, dtype=np.int64)
            return np.where(known, np.take_along_axis(table, index, axis=1), -1)

        kept, source = at(cores, core), at(sources, core)
        return Tags(liked, kept, at(chosen, word), source, self._shared(value, kept != source))

    def _shared(self, value: NDArray[np.float32], far: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Weights that add up to 1, those of further categories to ``explore`` where both are."""
        sides = []
        for side, share in ((~far, 1 - self.explore), (far, self.explore)):
            part = np.where(side, value, 0)
            total = part.sum(axis=1, keepdims=True)
            sides.append(np.divide(part * share, total, out=np.zeros_like(part), where=total > 0))
        both = sides[0] + sides[1]
        total = both.sum(axis=1, keepdims=True)
        out: NDArray[np.float32] = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
        return out

    def _cores(
        self, kinds: NDArray[np.float32], liked: NDArray[np.int64], strength: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Interests and the categories near them: category, its interest, its weight."""
        if not self.siblings or not liked.shape[1]:
            return liked, liked, strength
        near = self.facets.near[np.maximum(liked, 0)] * (liked >= 0)[:, :, None]
        near = near * (kinds == 0)[:, None, :]  # only what the history has not
        count = min(self.siblings, near.shape[2])
        order = np.argsort(-near, axis=2, kind="stable")[:, :, :count]
        found = np.take_along_axis(near, order, axis=2) > 0
        n = len(kinds)
        siblings = np.where(found, order, -1).reshape(n, -1)
        sources = np.repeat(liked, count, axis=1)
        weight = np.where(siblings >= 0, np.repeat(strength, count, axis=1), 0)
        return (
            np.concatenate([liked, siblings], axis=1),
            np.concatenate([liked, sources], axis=1),
            np.concatenate([strength, weight.astype(np.float32)], axis=1),
        )


def _first(
    scores: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """int64[n, count] of the largest positive scores of each row, and the scores; -1 and 0 behind.

    The lower column among equals.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int64)
    value = np.take_along_axis(scores, order, axis=1).astype(np.float32)
    return np.where(value > 0, order, -1), np.where(value > 0, value, 0)
