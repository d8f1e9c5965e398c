"""One table from CSV, TSV, JSON Lines or Parquet, whatever its columns are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from onoma.dataset.columns import TimeUnit, dates_of, in_seconds, inferred, marked, time_unit
from onoma.dataset.naming import NEEDED, canonical
from onoma.dataset.plain import plain
from onoma.dataset.records import collected, json_batches
from onoma.dataset.rejects import Rejects, shorten, without_bad
from onoma.dataset.separated import SEPARATED, separated, suffix
from onoma.errors import OnomaError

FORMS = ("csv", "tsv", "jsonl", "parquet")


def form_of(path: Path) -> str:
    """``csv``, ``tsv``, ``jsonl`` or ``parquet`` by the name.

    Raises:
        OnomaError: none of them.
    """
    end = suffix(path)
    if end in SEPARATED:
        return "csv" if end == ".csv" else "tsv"
    if end in (".json", ".jsonl", ".ndjson"):
        return "jsonl"
    if end in (".parquet", ".pq"):
        return "parquet"
    if end in (".txt", ".dat", ".data"):
        return "csv"
    raise OnomaError(
        f"a file of unknown form {end!r}", where=str(path), fix=f"Use --format {'|'.join(FORMS)}"
    )


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """What a table library says about a bad file, in one line."""
    try:
        yield
    except (PolarsError, PanicException, OSError, ValueError, OverflowError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OnomaError(f"cannot be read ({shorten(said)})", where=str(path)) from None


def read_table(
    path: str | Path,
    role: str = "interactions",
    *,
    form: str | None = None,
    rename: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    unit: TimeUnit | None = None,
    rejects: Rejects | None = None,
    quoted: bool | None = None,
    replace: tuple[str, str] | None = None,
) -> pl.DataFrame:
    """Read one table under our column names.

    Args:
        path: CSV, TSV, JSON Lines (either may be gzipped) or Parquet.
        role: ``interactions``, ``items`` or ``users``.
        form: one of :data:`FORMS`; by the name when None.
        rename: our column name -> the file's; common names and RecBole headers need none.
        columns: names for a separated file without a header line.
        delimiter: of a separated file; by its first line when None.
        encoding: of a text file.
        unit: of numeric timestamps; by their size when None.
        rejects: takes the bad rows; refuses the first when None.
        quoted: whether double quotes protect separators; for CSV when None.
        replace: a separator of several characters and the one to put for it.

    Returns:
        Good rows in file order under canonical names (see :mod:`onoma.dataset.columns`).

    Raises:
        OnomaError: unreadable file, missing column, or more bad rows than ``rejects`` allows.
    """
    path = Path(path)
    rejects = Rejects() if rejects is None else rejects
    form = form or form_of(path)
    if form not in FORMS:
        raise OnomaError(f"unknown form {form!r}", where=str(path), fix=f"Use one of {FORMS}")
    if form == "parquet":
        return _parquet(path, role, rename, unit, rejects)
    if form == "jsonl":
        with plain(path, encoding) as text:
            frame = collected(json_batches(text, path, rejects), path, role, rename, rejects, unit)
        return finished(frame, path, role, unit, rejects)
    quoted = form == "csv" if quoted is None else quoted
    with plain(path, encoding, replace=replace) as text:
        frame = separated(text, path, role, rename, columns, delimiter, quoted, unit, rejects)
    return finished(frame, path, role, unit, rejects)


def finished(
    frame: pl.DataFrame,
    path: Path,
    role: str,
    unit: TimeUnit | None,
    rejects: Rejects,
    place: str = "line",
) -> pl.DataFrame:
    """Seconds, numbers, repeated ids; the last bad rows leave."""
    if role == "interactions":
        if "timestamp" in frame.columns:
            frame = in_seconds(frame, unit or time_unit(frame["timestamp"]))
    else:
        key = NEEDED[role][0]
        again = ~pl.col(key).is_first_distinct()
        reason = pl.format(f"{key} '{{}}' is listed again", pl.col(key))
        frame = frame.with_columns(pl.coalesce("_why", pl.when(again).then(reason)).alias("_why"))
    frame = without_bad(frame, path, rejects, place)
    frame = frame.drop("_why", "_place")
    if not frame.height:
        raise OnomaError("no usable rows", where=str(path))
    frame = inferred(frame, keep=("user_id", "item_id", "title", "event"))
    text = role == "items" and frame.schema.get("categories") == pl.String
    if text and frame["categories"].str.contains(r"\|").any():
        frame = frame.with_columns(pl.col("categories").str.split("|"))
    return frame


def _parquet(
    path: Path,
    role: str,
    rename: Mapping[str, str] | None,
    unit: TimeUnit | None,
    rejects: Rejects,
) -> pl.DataFrame:
    if not path.is_file():
        raise OnomaError("no such file", where=str(path))
    with reading(path):
        lazy = pl.scan_parquet(path)
        schema = lazy.collect_schema()
        names = canonical(list(schema), role, rename, str(path))
        frame = lazy.rename(names).collect()
        dates = dates_of(frame.head(1000))
        for column in set(NEEDED[role]) | ({"timestamp", "rating"} & set(frame.columns)):
            if frame.schema[column].is_nested():
                raise OnomaError(
                    f"column {column!r} holds {frame.schema[column]}, not one value a row",
                    where=str(path),
                )
        temporal = role == "interactions" and frame.schema.get("timestamp", pl.Null).is_temporal()
        frame = frame.with_row_index("_place", offset=1)
        unit = "s" if temporal else unit
        frame = marked(frame.lazy(), role, dates, verbatim=True, unit=unit).collect()
        return finished(frame, path, role, unit, rejects, "row")


def from_records(
    batches: Iterator[list[tuple[int, dict[str, Any]]]],
    path: Path,
    role: str,
    *,
    rename: Mapping[str, str] | None = None,
    unit: TimeUnit | None = None,
    rejects: Rejects,
) -> pl.DataFrame:
    """Like :func:`read_table` for records that a reader made: batches of (line, record)."""
    return finished(
        collected(batches, path, role, rename, rejects, unit), path, role, unit, rejects
    )
