"""The events of a split with what people wrote about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.dataset.events import LogRows, log_rows
from onoma.encoding.text import item_texts
from onoma.recommenders.text import preferences

Part = Literal["train", "valid", "test"]
_SENTENCE = r"[^.!?\n]+[.!?]*"
_SHORT, _LONG = 4, 25  # words of a sentence that can explain
_RARE, _COMMON = 3, 0.1  # a feature is said in so many sentences, and in at most that share


@dataclass(frozen=True)
class Corpus:
    """Events in the order of a part's values; texts are empty where nothing was written.

    Attributes:
        users: int32[n] user codes.
        items: int32[n] item codes.
        before: n rows of item codes, what the user had before, oldest first.
        stars: float32[n], NaN where unknown.
        headlines: n titles of reviews.
        reviews: n texts of reviews.
        sentences: n sentences of the reviews that say something of a feature.
        features: n words, the feature of each sentence.
        preferences: n texts, what the user said before that they look for or avoid.
        titles: of the items, by code; the id where there is none.
        descriptions: of the items, by code.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    before: Ragged
    stars: NDArray[np.float32]
    headlines: list[str]
    reviews: list[str]
    sentences: list[str]
    features: list[str]
    preferences: list[str]
    titles: list[str]
    descriptions: list[str]

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(cls, split: Split, part: Part, length: int) -> Corpus:
        """The events of a part; histories hold the last ``length`` items.

        Reads columns ``rating``, ``review_title`` and ``review_text`` of the log where it has
        them. What counts as a feature is learnt from training sentences alone.
        """
        rows = log_rows(split)
        log = split.dataset.interactions
        here = log[getattr(rows, part)]
        users, items, before = _events(split, part, length)
        known = _features(_sentences(_column(log[rows.train], "review_text")))
        said = _sentences(_column(here, "review_text"))
        sentences, features = _explained(said, known, len(items))
        rating = here["rating"] if "rating" in here.columns else pl.Series([None] * len(items))
        return cls(
            users,
            items,
            before,
            rating.cast(pl.Float32).fill_null(float("nan")).to_numpy(),
            _column(here, "review_title"),
            _column(here, "review_text"),
            sentences,
            features,
            _preferences(split, rows, part, known),
            split.dataset.titles(np.arange(split.dataset.n_items)),
            item_texts(split.dataset.items, ("description", "features", "brand", "categories")),
        )


def _events(
    split: Split, part: Part, length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], Ragged]:
    if part == "train":
        train = split.train
        owner = train.rows()
        place = np.arange(len(owner)) - train.offsets[owner]
        sizes = np.minimum(place, length)
        offsets = np.zeros(len(owner) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        first = np.arange(len(owner)) - sizes
        at = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], sizes)
        before = Ragged(offsets, train.values[at])
        return owner.astype(np.int32), train.values.astype(np.int32), before
    cases = split.valid if part == "valid" else split.test
    owner = cases.targets.rows()
    return (
        cases.users[owner].astype(np.int32),
        cases.targets.values.astype(np.int32),
        cases.history.take(owner).last(length),
    )


def _preferences(split: Split, rows: LogRows, part: Part, known: pl.DataFrame) -> list[str]:
    """What the last events before each one of a part say of its user."""
    log, words = split.dataset.interactions, preferences.aspects(split.dataset.items)
    parts: tuple[Part, ...] = ("train", "valid", "test")
    told: dict[int, list[str]] = {}
    out: list[str] = []
    for each in parts[: parts.index(part) + 1]:
        here = log[getattr(rows, each)]
        _, features = _explained(_sentences(_column(here, "review_text")), known, here.height)
        stars = here["rating"] if "rating" in here.columns else pl.Series([None] * here.height)
        given = stars.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        said = preferences.events(here["item"].to_numpy(), given, features, words)
        for user, text in zip(here["user"].to_list(), said, strict=True):
            before = told.setdefault(user, [])
            if each == part:
                out.append(preferences.joined(before))
            before.append(text)
    return out


def _column(log: pl.DataFrame, name: str) -> list[str]:
    if name not in log.columns:
        return [""] * log.height
    text = pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    return log.select(text.fill_null(""))[name].to_list()


def _sentences(reviews: list[str]) -> pl.DataFrame:
    """Columns ``row``, ``sentence`` and ``word`` (lower case, once a sentence)."""
    frame = pl.DataFrame({"review": pl.Series(reviews, dtype=pl.String)}).with_row_index("row")
    frame = frame.with_columns(pl.col("review").str.extract_all(_SENTENCE).alias("sentence"))
    frame = frame.explode("sentence").drop_nulls("sentence")
    frame = frame.with_columns(pl.col("sentence").str.strip_chars())
    words = pl.col("sentence").str.to_lowercase().str.extract_all(r"[\p{L}][\p{L}'-]{3,}")
    count = pl.col("sentence").str.split(" ").list.len()
    frame = frame.filter(count.is_between(_SHORT, _LONG)).with_columns(words.alias("word"))
    frame = frame.with_row_index("number").explode("word").drop_nulls("word")
    return frame.select("row", "number", "sentence", "word").unique(
        ["number", "word"], maintain_order=True
    )


def _features(said: pl.DataFrame) -> pl.DataFrame:
    """Columns ``word`` and ``count``: words that are neither rare nor everywhere."""
    total = max(said["number"].n_unique(), 1)
    counts = said.group_by("word").agg(pl.len().alias("count"))
    return counts.filter(pl.col("count").is_between(_RARE, max(_RARE, _COMMON * total)))


def _explained(said: pl.DataFrame, known: pl.DataFrame, n: int) -> tuple[list[str], list[str]]:
    """The sentence with the most common feature of each review, and that feature."""
    best = (
        said.join(known, on="word", how="inner")
        .sort(["row", "count", "number", "word"], descending=[False, True, False, False])
        .group_by("row", maintain_order=True)
        .first()
    )
    sentences, features = [""] * n, [""] * n
    for row, sentence, word in best.select("row", "sentence", "word").iter_rows():
        sentences[row], features[row] = sentence, word
    return sentences, features
