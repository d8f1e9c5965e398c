"""MovieLens as GroupLens publishes it: 100K, 1M, 10M, 20M, 25M, 32M, latest.

Harper & Konstan 2015, The MovieLens Datasets: History and Context, ACM TiiS 5(4).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from onoma.dataset.dataset import Dataset
from onoma.dataset.rejects import Rejects
from onoma.dataset.tables import read_table
from onoma.errors import OnomaError

_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
_LOG = ["user_id", "item_id", "rating", "timestamp"]
_COLONS = ("::", "\t")


def is_movielens(folder: Path) -> bool:
    """Whether a folder holds one of the published forms."""
    return any((folder / name).is_file() for name in ("u.data", "ratings.dat")) or all(
        (folder / name).is_file() for name in ("ratings.csv", "movies.csv")
    )


def read_movielens(path: str | Path, *, rejects: Rejects | None = None) -> Dataset:
    """Read an unpacked MovieLens folder; titles keep their year, genres become ``categories``.

    Raises:
        OnomaError: not such a folder, or bad rows.
    """
    folder = Path(path)
    rejects = Rejects() if rejects is None else rejects
    users = None
    if (folder / "u.data").is_file():
        log = read_table(
            folder / "u.data", form="tsv", columns=_LOG, delimiter="\t", rejects=rejects
        )
        items, users = _items_100k(folder, rejects), _users_100k(folder, rejects)
    elif (folder / "ratings.dat").is_file():
        log = read_table(
            folder / "ratings.dat",
            form="tsv",
            columns=_LOG,
            replace=_COLONS,
            delimiter="\t",
            rejects=rejects,
        )
        items, users = _items_dat(folder, rejects), _users_dat(folder, rejects)
    elif (folder / "ratings.csv").is_file():
        log = read_table(folder / "ratings.csv", rejects=rejects)
        movies = folder / "movies.csv"
        items = read_table(movies, "items", rejects=rejects) if movies.is_file() else None
    else:
        raise OnomaError(
            "no u.data, ratings.dat or ratings.csv",
            where=str(folder),
            fix="Unpack the archive and name the folder inside it",
        )
    return Dataset.construct(
        log,
        None if items is None else with_genres(items),
        users,
        name=folder.resolve().name,
        notes={"form": "movielens"},
    )


def with_genres(items: pl.DataFrame) -> pl.DataFrame:
    """``categories`` as a list without the words for none; ``year`` from the end of the title."""
    if items.schema.get("categories") == pl.String:
        items = items.with_columns(pl.col("categories").str.split("|"))
    if items.schema.get("categories") == pl.List(pl.String):
        none = pl.element().is_in(["(no genres listed)", "unknown", ""])
        items = items.with_columns(pl.col("categories").list.eval(pl.element().filter(~none)))
    if "title" in items.columns and "year" not in items.columns:
        year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32, strict=False)
        items = items.with_columns(year.alias("year"))
    return items


def _items_100k(folder: Path, rejects: Rejects) -> pl.DataFrame | None:
    path = folder / "u.item"
    if not path.is_file():
        return None
    columns = ["item_id", "title", "release_date", "video_release_date", "imdb_url", *_GENRES]
    frame = read_table(
        path,
        "items",
        form="tsv",
        columns=columns,
        delimiter="|",
        encoding="latin-1",
        rejects=rejects,
    )
    flags = [pl.when(pl.col(g).cast(pl.String) == "1").then(pl.lit(g)) for g in _GENRES]
    return frame.select(
        "item_id",
        "title",
        "release_date",
        pl.concat_list(flags).list.drop_nulls().alias("categories"),
    )


def _users_100k(folder: Path, rejects: Rejects) -> pl.DataFrame | None:
    path = folder / "u.user"
    if not path.is_file():
        return None
    columns = ["user_id", "age", "gender", "occupation", "zip_code"]
    return read_table(path, "users", form="tsv", columns=columns, delimiter="|", rejects=rejects)


def _items_dat(folder: Path, rejects: Rejects) -> pl.DataFrame | None:
    path = folder / "movies.dat"
    if not path.is_file():
        return None

    def read(encoding: str) -> pl.DataFrame:
        return read_table(
            path,
            "items",
            form="tsv",
            columns=["item_id", "title", "categories"],
            delimiter="\t",
            replace=_COLONS,
            encoding=encoding,
            rejects=rejects,
        )

    # 1M is Latin-1, 10M is UTF-8; Latin-1 text with an accent is never valid UTF-8.
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return read("latin-1")
    return read("utf-8")


def _users_dat(folder: Path, rejects: Rejects) -> pl.DataFrame | None:
    path = folder / "users.dat"
    if not path.is_file():
        return None
    columns = ["user_id", "gender", "age", "occupation", "zip_code"]
    return read_table(
        path,
        "users",
        form="tsv",
        columns=columns,
        delimiter="\t",
        replace=_COLONS,
        rejects=rejects,
    )
