"""Labelled texts whose truth is in the data: what reviewers' stars and catalogues' shelves say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Dataset
from onoma.dataset.load import load
from onoma.errors import OnomaError
from onoma.language.templates import line

LONGEST = 200  # characters of a text
SHORTEST = 15
SHELVES = 4


@dataclass(frozen=True)
class Task:
    """Texts with their true labels, in three parts that share none.

    Attributes:
        name: ``polarity of DATA`` or ``category of DATA``.
        asked: what is to be decided, a sentence.
        labels: names.
        texts: n texts, on one line each.
        truth: int64[n], rows of ``labels``.
        pool: int64[p], rows that examples come from.
        dev: int64[d], rows that decide.
        test: int64[t], rows that are reported.
    """

    name: str
    asked: str
    labels: tuple[str, ...]
    texts: list[str]
    truth: NDArray[np.int64]
    pool: NDArray[np.int64]
    dev: NDArray[np.int64]
    test: NDArray[np.int64]


def task(spec: str, pool: int, dev: int, test: int, seed: int) -> Task:
    """A task of a data set, with as many texts of each label.

    Args:
        spec: ``polarity:DATA`` (reviews of five stars and of at most three) or ``category:DATA``
            (titles of the four largest shelves below the top one).
        pool: texts for examples.
        dev: texts that decide.
        test: texts that are reported.
        seed: of the draw.

    Raises:
        OnomaError: an unknown kind, or too few texts.
    """
    kind, colon, path = spec.partition(":")
    kinds = {"polarity": _polarity, "category": _category}
    if not colon or kind not in kinds:
        raise OnomaError(
            f"{spec!r} is no task", where="--data", fix="Write polarity:DATA or category:DATA"
        )
    dataset = load(path)
    asked, labels, found = kinds[kind](dataset)
    if len(labels) < 2:
        raise OnomaError(
            f"{len(labels)} labels with texts", where=spec, fix="Use a catalogue with titles"
        )
    texts = [line(text, LONGEST) for text in found["text"]]
    truth = found["label"].to_numpy().astype(np.int64)
    draw = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    sizes = [size // len(labels) for size in (pool, dev, test)]
    for label, name in enumerate(labels):
        rows = draw.permutation(np.flatnonzero(truth == label))
        if len(rows) < sum(sizes):
            raise OnomaError(
                f"{len(rows)} texts of {name!r}, {sum(sizes)} are needed",
                where=spec,
                fix="Ask for fewer texts",
            )
        starts = np.cumsum([0, *sizes])
        for part, low, high in zip(parts, starts, starts[1:], strict=False):
            part.extend(rows[low:high].tolist())
    return Task(
        f"{kind} of {dataset.name}", asked, labels, texts, truth,
        *(np.sort(np.array(part, dtype=np.int64)) for part in parts),
    )  # fmt: skip


def _polarity(dataset: Dataset) -> tuple[str, tuple[str, ...], pl.DataFrame]:
    log = dataset.interactions
    if not {"rating", "review_text"} <= set(log.columns):
        raise OnomaError("no rated reviews", where=dataset.name, fix="Use data with review texts")
    found = log.select(text=pl.col("review_text").str.strip_chars(), stars="rating").filter(
        pl.col("text").str.len_chars() >= SHORTEST
    )
    found = found.unique("text", keep="first", maintain_order=True)
    found = found.filter((pl.col("stars") == 5) | (pl.col("stars") <= 3))
    found = found.with_columns(label=(pl.col("stars") <= 3).cast(pl.Int64))
    return "Is the writer of this review satisfied or disappointed?", (
        "satisfied", "disappointed"
    ), found  # fmt: skip


def _category(dataset: Dataset) -> tuple[str, tuple[str, ...], pl.DataFrame]:
    items = dataset.items
    if items.schema.get("categories") != pl.List(pl.String):
        raise OnomaError("no categories", where=dataset.name, fix="Use a catalogue with shelves")
    shelf = pl.coalesce(
        *(pl.col("categories").list.get(level, null_on_oob=True) for level in (1, 0))
    )
    found = items.select(text=pl.col("title").str.strip_chars(), shelf=shelf).filter(
        (pl.col("text").str.len_chars() >= SHORTEST) & pl.col("shelf").is_not_null()
    )
    found = found.unique("text", keep="first", maintain_order=True)
    largest = found["shelf"].value_counts().sort("count", "shelf", descending=[True, False])
    labels = tuple(largest["shelf"].to_list()[:SHELVES])
    found = found.filter(pl.col("shelf").is_in(labels)).with_columns(
        label=pl.col("shelf").replace_strict(
            list(labels), range(len(labels)), return_dtype=pl.Int64
        )
    )
    return "On which shelf of the shop is this product?", labels, found
