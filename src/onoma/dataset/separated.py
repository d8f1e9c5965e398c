"""Separated text: the streaming engine where all is well, line by line where it is not."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from onoma.dataset.columns import TimeUnit, dates_of, in_seconds, marked, time_unit
from onoma.dataset.naming import NEEDED, canonical, typed_header
from onoma.dataset.rejects import LONGEST_ROW, Rejects, without_bad
from onoma.errors import OnomaError

SEPARATED = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
_BATCH = 100_000
_MOST_QUOTED_LINES = 200


def suffix(path: Path) -> str:
    """The suffix that tells the form, without ``.gz``."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def separated(
    text: Path,
    path: Path,
    role: str,
    rename: Mapping[str, str] | None,
    columns: Sequence[str] | None,
    delimiter: str | None,
    quoted: bool,
    unit: TimeUnit | None,
    rejects: Rejects,
) -> pl.DataFrame:
    """The table in a separated text file, columns named and typed for the role."""
    with text.open(encoding="utf-8", newline="") as lines:
        first = lines.readline(1 << 20).rstrip("\r\n")
    if delimiter is None:
        delimiter = SEPARATED.get(suffix(path), "\t")
        if delimiter not in first:
            delimiter = max("\t,;|", key=first.count)
    quoted = quoted and len(delimiter) == 1  # no quotes beside a separator of several characters
    found = _fields(first, delimiter, quoted)
    if columns is not None:
        if len(columns) != len(found):
            raise OnomaError(
                f"{len(columns)} column names for {len(found)} fields", where=f"{path}, line 1"
            )
        found = list(columns)
    names = canonical(found, role, rename, str(path))
    header = columns is None
    order = [names[c] for c in found]
    lists = [
        names[c]
        for c, kind in typed_header(found).items()
        if kind.endswith("_seq") and names[c] not in ("title", "user_id", "item_id")
    ]
    frame = None
    if len(delimiter.encode()) == 1:
        frame = _fast(text, order, role, delimiter, quoted, header, unit)
    if frame is None:
        # Something is odd: read line by line, so that each bad row has its own line number.
        frame = _slow(text, path, order, role, delimiter, quoted, header, unit, rejects)
    return frame.with_columns(pl.col(c).str.split(" ") for c in lists)


def _fast(
    text: Path,
    order: list[str],
    role: str,
    delimiter: str,
    quoted: bool,
    header: bool,
    unit: TimeUnit | None,
) -> pl.DataFrame | None:
    """The table by the streaming engine; None if any row is not as it should be."""

    def scan(rows: int | None = None) -> pl.LazyFrame:
        return pl.scan_csv(
            text,
            separator=delimiter,
            has_header=False,
            skip_lines=int(header),
            schema=dict.fromkeys(order, pl.String),
            quote_char='"' if quoted else None,
            n_rows=rows,
            truncate_ragged_lines=False,
        )

    try:
        dates = dates_of(scan(1000).collect())
        lazy = marked(scan().with_row_index("_place", offset=1 + header), role, dates, unit=unit)
        frame = lazy.collect(engine="streaming")
    except (PolarsError, PanicException, ValueError):
        return None
    # Too few fields read as nulls at the end, so a null there needs the careful way.
    whole = frame["_why"].null_count() == frame.height and frame[order[-1]].null_count() == 0
    if not whole:
        return None
    # Rows are not lines where a quoted field holds a line break: what is refused later must be
    # read line by line too.
    if role != "interactions":
        whole = not frame[NEEDED[role][0]].is_duplicated().any()
    elif "timestamp" in frame.columns:
        timed = in_seconds(frame, unit or time_unit(frame["timestamp"]))
        whole = timed["_why"].null_count() == timed.height
    return frame if whole else None


def _fields(line: str, delimiter: str, quoted: bool) -> list[str]:
    if quoted and '"' in line:
        return next(csv.reader([line], delimiter=delimiter), [""])
    return line.split(delimiter)


def _rows(
    text: Path, delimiter: str, quoted: bool, header: bool
) -> Iterator[tuple[int, str, list[str] | None]]:
    """(line, text, fields) of each record; None for a quote that is not closed soon."""
    csv.field_size_limit(1 << 30)
    with text.open(encoding="utf-8", newline="") as handle:
        lines = enumerate(handle, start=1)
        waiting: deque[tuple[int, str]] = deque()
        while True:
            number, line = waiting.popleft() if waiting else next(lines, (0, ""))
            if not number:
                return
            if quoted and line.count('"') % 2:
                taken: list[tuple[int, str]] = []
                open_quote = True
                while open_quote and len(taken) < _MOST_QUOTED_LINES:
                    more = waiting.popleft() if waiting else next(lines, None)
                    if more is None:
                        break
                    taken.append(more)
                    open_quote = more[1].count('"') % 2 == 0
                if open_quote:
                    waiting.extendleft(reversed(taken))
                    yield number, line.rstrip("\r\n"), None
                    continue
                line += "".join(part for _, part in taken)
            if header:
                header = False
                continue
            line = line.rstrip("\r\n")
            if not line:
                continue
            try:
                yield number, line, _fields(line, delimiter, quoted)
            except csv.Error:
                yield number, line, None


def _slow(
    text: Path,
    path: Path,
    order: list[str],
    role: str,
    delimiter: str,
    quoted: bool,
    header: bool,
    unit: TimeUnit | None,
    rejects: Rejects,
) -> pl.DataFrame:
    done: list[pl.DataFrame] = []
    good: list[list[str]] = []
    raw: dict[int, str] = {}
    places: list[int] = []
    bad: list[tuple[int, str, str]] = []
    dates: list[str] | None = None

    def flush() -> None:
        nonlocal dates
        if bad:
            rejects.add(path, pl.DataFrame(bad, schema=["place", "reason", "row"], orient="row"))
            bad.clear()
        if not good:
            return
        data = dict(zip(order, (list(c) for c in zip(*good, strict=True)), strict=True))
        frame = pl.DataFrame(data, schema=dict.fromkeys(order, pl.String)).with_columns(
            pl.when(pl.col(order) != "").then(pl.col(order))
        )
        if dates is None:
            dates = dates_of(frame.head(1000))
        frame = frame.with_columns(pl.Series("_place", places, dtype=pl.Int64))
        frame = marked(frame.lazy(), role, dates, unit=unit).collect()
        done.append(without_bad(frame, path, rejects, raw=raw))
        good.clear()
        raw.clear()
        places.clear()

    for number, line, fields in _rows(text, delimiter, quoted, header):
        if fields is None:
            bad.append((number, "a quote that is never closed", line[:LONGEST_ROW]))
        elif len(fields) != len(order):
            reason = f"{len(fields)} fields where the header has {len(order)}"
            bad.append((number, reason, line[:LONGEST_ROW]))
        else:
            good.append(fields)
            places.append(number)
            raw[number] = line
        if len(good) + len(bad) >= _BATCH:
            flush()
    flush()
    if not done:
        raise OnomaError("no usable rows", where=str(path))
    return pl.concat(done)
