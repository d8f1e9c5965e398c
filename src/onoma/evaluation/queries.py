"""What the users of evaluation cases would say of themselves: their own earlier reviews."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from onoma.dataset import Cases, Split
from onoma.dataset.split import ordered
from onoma.errors import OnomaError


def ask_in_words(split: Split) -> Split:
    """The same split, its cases asked in words; users who wrote nothing are left out.

    Raises:
        OnomaError: the log has no reviews, or no test user wrote one that may be used.
    """
    valid, test = (reviews(cases, split) for cases in (split.valid, split.test))
    if not len(test):
        raise OnomaError(
            "no test user wrote a review besides that of the target",
            where=split.dataset.name,
            fix="Leave out evaluate.query",
        )
    return replace(split, valid=valid, test=test)


def reviews(cases: Cases, split: Split) -> Cases:
    """Cases whose users wrote something before, with their reviews as the query.

    A query is made of the titles and texts of the reviews of a case's history, each text once.
    What its user wrote of a target at any time is left out, and so is every review of the same
    words: people paste one text under several items.

    Raises:
        OnomaError: the log has no column ``review_text``.
    """
    log = split.dataset.interactions
    if "review_text" not in log.columns:
        raise OnomaError(
            "the interactions have no reviews (column review_text)",
            where=split.dataset.name,
            fix="Leave out evaluate.query, or use data with reviews",
        )
    title = pl.col("review_title") if "review_title" in log.columns else pl.lit(None, pl.String)
    texts = log.select(title.alias("title"), pl.col("review_text").alias("text"))
    texts = texts.with_columns(pl.all().fill_null("").str.strip_chars()).with_row_index("row")
    met = pl.int_range(pl.len()).over("user", "item").alias("time")
    events = ordered(split.dataset, split.ties, split.seed).select("row", "user", "item")
    events = events.join(texts, on="row", maintain_order="left").with_columns(met)

    def named(rows: np.ndarray, items: np.ndarray) -> pl.DataFrame:
        user = cases.users[rows].astype(np.int32)
        return pl.DataFrame({"case": rows, "user": user, "item": items.astype(np.int32)})

    targets = named(cases.targets.rows(), cases.targets.values)
    before = named(cases.history.rows(), cases.history.values)
    # The n-th time that a user meets an item in a history is the n-th time in the log.
    before = before.with_columns(pl.int_range(pl.len()).over("case", "item").alias("time"))
    said = before.join(events, on=["user", "item", "time"], how="inner", maintain_order="left")
    own = targets.join(events, on=["user", "item"], how="inner")
    said = said.filter(pl.col("text") != "").join(targets, on=["case", "item"], how="anti")
    said = said.join(own.select("case", "text").unique(), on=["case", "text"], how="anti")
    said = said.unique(["case", "text"], keep="first", maintain_order=True)
    both = pl.concat_str("title", "text", separator=". ")
    whole = pl.when(pl.col("title") == "").then(pl.col("text")).otherwise(both)
    asked = said.group_by("case", maintain_order=True).agg(whole.str.join("\n").alias("query"))
    asked = asked.sort("case")
    kept = cases.take(asked["case"].to_numpy())
    return replace(kept, query=tuple(asked["query"].to_list()))
