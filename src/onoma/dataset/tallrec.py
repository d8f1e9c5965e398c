"""TALLRec's questions: ten earlier films with likes and dislikes, and one more to judge (S060).

Bao et al., TALLRec, RecSys 2023. Its 8,000 training records name MovieLens-100K films by id; the
1,000 validation and 1,000 test records are prompts that name them by title.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from onoma.dataset.dataset import Dataset
from onoma.dataset.rejects import Rejects, shorten
from onoma.errors import OnomaError

TRAIN, ASKED = "movie_train_ids.parquet", "movie.parquet"
LIKED, NOT = 5.0, 1.0
_TITLES = "movielens-100k"
_PROMPT = re.compile(
    r"\s*User Preference:(?P<liked>.*)\n\s*User Unpreference:(?P<not>.*)\n.*"
    r'target movie "(?P<target>.*)"\?\s*$',
    re.DOTALL,
)
_QUOTED = re.compile(r'"(.*?)"(?=\s*,\s*"|\s*$)', re.DOTALL)


def is_tallrec(folder: Path) -> bool:
    """Whether a folder holds TALLRec's films."""
    return (folder / TRAIN).is_file() and (folder / ASKED).is_file()


def read_tallrec(path: str | Path, *, rejects: Rejects | None = None) -> Dataset:
    """Every record as a user of its own, whose last film is the one to judge.

    Args:
        path: the folder; MovieLens-100K lies beside it as ``movielens-100k``, for the titles.
        rejects: takes prompts that are none; refuses the first when None.

    Returns:
        A data set whose log has ``rating`` (5 liked, 1 not), ``part`` (``train``, ``valid``,
        ``test``) and ``judged`` (true in a record's last row). In a prompt the likes stand before
        the dislikes, so that is the order of all histories here.

    Raises:
        OnomaError: no titles beside it, a file is damaged, or prompts that are none.
    """
    folder = Path(path)
    rejects = Rejects() if rejects is None else rejects
    films = folder.resolve().parent / _TITLES
    if not films.is_dir():
        raise OnomaError(
            f"the titles are those of MovieLens-100K, and there is no {_TITLES} beside the folder",
            where=str(folder),
            fix=f"Put {_TITLES} next to it",
        )
    from onoma.dataset.load import load

    catalogue = load(films).items.with_columns(pl.col("title").str.strip_chars())
    try:
        given = pl.read_parquet(folder / TRAIN)
        asked = pl.read_parquet(folder / ASKED)
        rows = _given(given) + _asked(asked, folder / ASKED, catalogue, rejects)
    except (pl.exceptions.PolarsError, OSError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise OnomaError(f"not TALLRec's tables ({first})", where=str(folder)) from error
    log = pl.DataFrame(
        rows,
        schema=["user_id", "item_id", "rating", "part", "judged"],
        schema_overrides={"rating": pl.Float32},
        orient="row",
    )
    listed = catalogue.join(log.select("item_id").unique(), on="item_id", how="semi")
    new = log.select("item_id").unique().join(catalogue, on="item_id", how="anti")
    listed = pl.concat([listed, new.with_columns(title=pl.col("item_id"))], how="diagonal")
    notes = {"form": "tallrec", "ratings": "5 is liked, 1 is not", "order": "likes come first"}
    return Dataset.construct(log, listed, name="tallrec", notes=notes)


def _given(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for number, record in enumerate(table.iter_rows(named=True)):
        user = f"train-{number}"
        flags = record["history_liked"]
        told = sorted(zip(record["history"], flags, strict=True), key=lambda one: not one[1])
        for item, liked in told:
            rows.append((user, item, LIKED if liked else NOT, "train", False))
        rows.append((user, record["target"], LIKED if record["liked"] else NOT, "train", True))
    return rows


def _asked(
    table: pl.DataFrame, path: Path, catalogue: pl.DataFrame, rejects: Rejects
) -> list[tuple[Any, ...]]:
    by_title = _by_title(catalogue)
    rows: list[tuple[Any, ...]] = []
    bad: list[tuple[int, str, str]] = []
    for number, record in enumerate(table.iter_rows(named=True)):
        found = _PROMPT.match(record["input"])
        answer = record["output"].strip().lower().rstrip(".")
        if found is None or answer not in ("yes", "no"):
            bad.append((number + 1, "not a prompt of TALLRec", shorten(record["input"])))
            continue
        user = f"{record['split']}-{number}"
        told = [(title, LIKED, False) for title in _QUOTED.findall(found["liked"].strip())]
        told += [(title, NOT, False) for title in _QUOTED.findall(found["not"].strip())]
        told.append((found["target"], LIKED if answer == "yes" else NOT, True))
        rows += [
            (user, by_title.get(title.strip(), title.strip()), rating, record["split"], judged)
            for title, rating, judged in told
        ]
    if bad:
        table_of_bad = pl.DataFrame(bad, schema=["place", "reason", "row"], orient="row")
        rejects.add(path, table_of_bad)
    return rows


def _by_title(catalogue: pl.DataFrame) -> dict[str, str]:
    """Item ids by what prompts call them: titles, with the year behind those that lack it."""
    found: dict[str, str] = {}
    if "year" in catalogue.columns:
        for title, year, item in catalogue.select("title", "year", "item_id").iter_rows():
            found[f"{title} ({year})"] = item
    return found | dict(catalogue.select("title", "item_id").iter_rows())
