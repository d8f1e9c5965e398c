"""Who a user is, in a few words: written by a language model, or by a rule where there is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from onoma.dataset import Split
from onoma.dataset.events import log_rows
from onoma.language.base import BadAnswer, Decoding, LanguageModel

_ABOUT = ("age", "gender", "occupation")


@dataclass(frozen=True)
class Facts:
    """What a profile may be written from; all of it from training interactions.

    Attributes:
        about: what the user table says, such as ``age 27, gender M, occupation executive``.
        liked: titles, best first; the latest ones where nothing is rated.
        liked_stars: their ratings; empty where nothing is rated.
        disliked: titles that the user rated below his own mean, worst first.
        disliked_stars: their ratings.
        kinds: categories, the most frequent among what was liked first.
    """

    about: str = ""
    liked: tuple[str, ...] = ()
    liked_stars: tuple[float, ...] = ()
    disliked: tuple[str, ...] = ()
    disliked_stars: tuple[float, ...] = ()
    kinds: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.liked or self.disliked)


class ProfileWriter(ABC):
    """Facts in, one short text a user out."""

    @abstractmethod
    def write(self, facts: Sequence[Facts]) -> list[str]:
        """N texts; empty for users of whom nothing is known."""


class TemplateWriter(ProfileWriter):
    """Says the facts in one fixed form; needs no language model."""

    def write(self, facts: Sequence[Facts]) -> list[str]:
        """N texts, as ``Likes Drama, Romance. Favourites: Heat; Fargo. Dislikes: Twister.`` is."""
        return [self._say(one) for one in facts]

    def _say(self, one: Facts) -> str:
        if not one:
            return ""
        parts = [
            f"Likes {', '.join(one.kinds)}." if one.kinds else "",
            f"Favourites: {'; '.join(one.liked)}." if one.liked else "",
            f"Dislikes: {'; '.join(one.disliked)}." if one.disliked else "",
            f"{one.about}." if one.about else "",
        ]
        return " ".join(part for part in parts if part)


class ModelWriter(ProfileWriter):
    """Asks a language model to describe the user.

    An answer that ended at the token limit is taken as far as it came; one that is of no use is
    replaced by the template's text and counted.

    Args:
        model: what is asked.
        decoding: how it writes.

    Attributes:
        failed: users whose text is the template's.
    """

    def __init__(self, model: LanguageModel, decoding: Decoding | None = None) -> None:
        self.model, self.decoding = model, decoding or Decoding(max_tokens=120)
        self.failed = 0

    def write(self, facts: Sequence[Facts]) -> list[str]:
        """N texts, asked for one by one."""
        plain = TemplateWriter().write(facts)
        asked = [row for row, one in enumerate(facts) if one]
        answers = self.model.each(self._ask, [facts[row] for row in asked])
        for row, answer in zip(asked, answers, strict=True):
            text = answer
            if isinstance(answer, BadAnswer):
                text = answer.text if answer.kind == "cut" else ""
            if isinstance(text, str) and text.strip():
                plain[row] = text.strip()
            else:
                self.failed += 1
        return plain

    def _ask(self, one: Facts) -> str:
        ranked = [
            f"{title}: {stars:g}" if stars is not None else title
            for titles, all_stars in (
                (one.liked, one.liked_stars), (one.disliked, one.disliked_stars)
            )
            for title, stars in zip(titles, all_stars or [None] * len(titles), strict=True)
        ]  # fmt: skip
        lines = [
            "Describe in two sentences what this person likes and does not like, in general "
            "words, without naming a title.",
            f"About: {one.about}" if one.about else "",
            f"Likes the kinds {', '.join(one.kinds)}" if one.kinds else "",
            "I rank items as follows: " + "; ".join(ranked),
        ]
        text = "\n".join(line for line in lines if line)
        return self.model.complete([{"role": "user", "content": text}], decoding=self.decoding).text


def facts(
    split: Split, *, liked: int = 6, disliked: int = 3, kinds: int = 4, shuffled: int | None = None
) -> list[Facts]:
    """What training says of every user.

    Args:
        split: of which ``train``, the catalogue, the user table and the ratings of training
            events are read.
        liked: titles at most.
        disliked: titles at most; none where nothing is rated.
        kinds: categories at most.
        shuffled: a seed by which titles and categories are dealt out among the items first; None
            leaves them. The control: users keep their items, but not what these are called.

    Returns:
        One for each user code.
    """
    dataset, train = split.dataset, split.train
    place = np.arange(len(train.values))
    log = pl.DataFrame({"user": train.rows(), "item": train.values, "place": place})
    rated = "rating" in dataset.interactions.columns
    stars = (
        dataset.interactions["rating"].gather(log_rows(split).train).cast(pl.Float64)
        if rated
        else pl.Series([None] * len(place), dtype=pl.Float64)
    )
    log = log.with_columns(stars.alias("stars"))
    mean = pl.col("stars").mean().over("user")
    log = log.with_columns((pl.col("stars") < mean).fill_null(value=False).alias("low"))
    items = _names(split, shuffled)
    log = log.join(items, on="item", how="left", maintain_order="left")
    likes = _first(log.filter(~pl.col("low")), liked, worst=False)
    dislikes = _first(log.filter(pl.col("low")), disliked, worst=True)
    of_kinds = _kinds(log.filter(~pl.col("low")), kinds)
    about = _about(dataset.users)
    none: tuple[tuple[str, ...], tuple[float, ...]] = ((), ())
    return [
        Facts(
            about[user],
            *likes.get(user, none),
            *dislikes.get(user, none),
            kinds=of_kinds.get(user, ()),
        )
        for user in range(dataset.n_users)
    ]


def _names(split: Split, shuffled: int | None) -> pl.DataFrame:
    """Columns ``item``, ``title`` and ``kinds`` of the catalogue."""
    items = split.dataset.items
    kinds = next((name for name in ("genres", "categories") if name in items.columns), None)
    told = pl.lit(None, dtype=pl.List(pl.String)) if kinds is None else pl.col(kinds)
    if kinds is not None and not isinstance(items.schema[kinds], pl.List):
        told = pl.concat_list(pl.col(kinds).cast(pl.String))
    frame = items.select("title", told.cast(pl.List(pl.String)).alias("kinds"))
    if shuffled is not None:
        order = np.random.default_rng([shuffled, 8_191]).permutation(frame.height)
        frame = frame[np.roll(order, 1)[np.argsort(order)]]
    return frame.with_columns(pl.int_range(pl.len()).cast(pl.Int32).alias("item"))


def _first(
    log: pl.DataFrame, count: int, *, worst: bool
) -> dict[int, tuple[tuple[str, ...], tuple[float, ...]]]:
    """Titles and ratings of each user: by rating, then the latest first."""
    log = log.filter(pl.col("title").is_not_null())
    log = log.sort("stars", "place", descending=[not worst, True], nulls_last=True)
    rows = (
        log.group_by("user", maintain_order=True)
        .head(count)
        .group_by("user", maintain_order=True)
        .agg("title", pl.col("stars").drop_nulls())
    )
    return {u: (tuple(t), tuple(s) if len(s) == len(t) else ()) for u, t, s in rows.iter_rows()}


def _kinds(log: pl.DataFrame, count: int) -> dict[int, tuple[str, ...]]:
    """The most frequent categories of each user; by name among equals."""
    long = log.select("user", "kinds").explode("kinds").drop_nulls()
    long = long.group_by("user", "kinds").agg(pl.len().alias("n"))
    long = long.sort("n", "kinds", descending=[True, False])
    rows = long.group_by("user", maintain_order=True).agg(pl.col("kinds").head(count))
    return {user: tuple(kinds) for user, kinds in rows.iter_rows()}


def _about(users: pl.DataFrame) -> list[str]:
    """What the user table says, one text a user."""
    known = [name for name in _ABOUT if name in users.columns]
    if not known:
        return [""] * users.height
    said = [pl.lit(f"{name} ") + pl.col(name).cast(pl.String) for name in known]
    joined = pl.concat_str(said, separator=", ", ignore_nulls=True).fill_null("")
    return users.select(joined.alias("said"))["said"].to_list()
