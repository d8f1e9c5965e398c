"""From whatever a file holds to the columns of a log or a catalogue, bad rows marked, not lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from onoma.dataset.naming import NEEDED

TimeUnit = Literal["s", "ms", "us", "ns"]
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATEST = 7_258_118_400  # 2200-01-01; later "seconds" are another unit or nonsense
LONGEST_ID = 1024
_MISSING = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "\\N", "<NA>"]
_DATES = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%m %d, %Y",
    "%m/%d/%Y",
)
_NUMBERS = ("rating", "weight")


def _blank(column: str) -> pl.Expr:
    """The text of a column, null where it says that there is none."""
    text = pl.col(column).str.strip_chars()
    return pl.when(text.is_in(_MISSING)).then(None).otherwise(text)


def _id(column: str, dtype: pl.DataType, verbatim: bool) -> pl.Expr:
    if dtype.is_float():
        # A column of whole numbers that once had gaps: 17.0 is the id 17.
        number = pl.col(column)
        whole = (number == number.floor()) & (number.abs() < 2**53)
        return (
            pl.when(whole)
            .then(number.cast(pl.Int64, strict=False).cast(pl.String))
            .when(number.is_nan())
            .then(None)
            .otherwise(number.cast(pl.String))
        )
    text = pl.col(column).cast(pl.String, strict=False)
    if verbatim:
        return pl.when(text != "").then(text)
    return _blank(column) if dtype == pl.String else text


def _time(column: str, dtype: pl.DataType, dates: Sequence[str], unit: TimeUnit | None) -> pl.Expr:
    """Times in the unit of the column's numbers; dates are brought to it."""
    if dtype.is_temporal():
        return pl.col(column).cast(pl.Datetime("us"), strict=False).dt.epoch("s")
    if dtype.is_float():
        return pl.col(column).fill_nan(None).cast(pl.Int64, strict=False)
    if dtype == pl.String:
        text = _blank(column)
        parsed = [
            text.cast(pl.Int64, strict=False),
            text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
        ]
        for form in dates:
            zoned = text.str.replace("Z$", "+00:00") if form.endswith("%z") else text
            moment = zoned.str.to_datetime(form, strict=False, time_unit="us", exact=True)
            parsed.append(moment.dt.epoch("s") * _PER_SECOND[unit or "s"])
        return pl.coalesce(parsed)
    return pl.col(column).cast(pl.Int64, strict=False)


def _number(column: str, dtype: pl.DataType) -> pl.Expr:
    value = _blank(column) if dtype == pl.String else pl.col(column)
    number = value.cast(pl.Float32, strict=False)
    return pl.when(number.is_finite()).then(number)


def date_forms(head: pl.Series) -> list[str]:
    """The date formats that read some of the first timestamps; none for numbers."""
    if head.dtype != pl.String or not len(head):
        return []
    text = head.str.strip_chars().drop_nulls()
    text = text.filter(text.cast(pl.Float64, strict=False).is_null())
    if not len(text):
        return []
    frame = text.head(200).to_frame("when")
    return [
        form
        for form in _DATES
        if frame.select(
            (pl.col("when").str.replace("Z$", "+00:00") if form.endswith("%z") else pl.col("when"))
            .str.to_datetime(form, strict=False, exact=True)
            .is_not_null()
            .any()
        ).item()
    ]


def _given(column: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a cell says anything."""
    if dtype == pl.String:
        return _blank(column).is_not_null()
    there = pl.col(column).is_not_null()
    return there & pl.col(column).is_not_nan() if dtype.is_float() else there


def _shown(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String, strict=False).fill_null("?").str.slice(0, 60)


def _id_trouble(column: str, dtype: pl.DataType, verbatim: bool) -> list[tuple[pl.Expr, pl.Expr]]:
    value = _id(column, dtype, verbatim)
    kind = column.removesuffix("_id")
    return [
        (value.is_null(), pl.lit(f"no {kind} id")),
        (value.str.len_bytes() > LONGEST_ID, pl.lit(f"the {kind} id is longer than {LONGEST_ID}")),
        (value.str.contains(r"[\r\n]"), pl.lit(f"the {kind} id holds a line break")),
    ]


def log_columns(
    frame: pl.LazyFrame,
    schema: pl.Schema,
    dates: Sequence[str],
    verbatim: bool = False,
    unit: TimeUnit | None = None,
) -> pl.LazyFrame:
    """Cast the columns of a log and mark its bad rows.

    Args:
        frame: columns ``user_id``, ``item_id`` and any others, of any type.
        schema: of the frame.
        dates: formats for timestamps that are text.
        verbatim: ids are taken as they are; else blanks around them go, and words for nothing
            (NaN, null, None) are nothing.
        unit: of timestamps that are numbers, where it is given.

    Returns:
        The frame with String ids, Int64 ``timestamp`` in the file's own unit, Float32 ``rating``
        and ``weight``, and ``_why`` (String): null for a good row.
    """
    keys = ("user_id", "item_id")
    trouble = [each for c in keys for each in _id_trouble(c, schema[c], verbatim)]
    casts = [_id(c, schema[c], verbatim).alias(c) for c in keys]
    if "timestamp" in schema:
        moment, dtype = _time("timestamp", schema["timestamp"], dates, unit), schema["timestamp"]
        casts.append(moment.alias("timestamp"))
        trouble.append(
            (
                _given("timestamp", dtype) & moment.is_null(),
                pl.format("timestamp '{}' is not a time", _shown("timestamp")),
            )
        )
    for column in _NUMBERS:
        if column in schema:
            value = _number(column, schema[column])
            casts.append(value.alias(column))
            trouble.append(
                (
                    _given(column, schema[column]) & value.is_null(),
                    pl.format(f"{column} '{{}}' is not a number", _shown(column)),
                )
            )
    if "event" in schema:
        casts.append(pl.col("event").cast(pl.String, strict=False))
    return frame.with_columns(*casts, _first(trouble))


def entity_columns(
    frame: pl.LazyFrame, schema: pl.Schema, key: str, verbatim: bool = False
) -> pl.LazyFrame:
    """Cast the id of a catalogue or user table and mark rows without one."""
    casts = [_id(key, schema[key], verbatim).alias(key)]
    if "title" in schema and schema["title"] != pl.String:
        title = pl.col("title")
        text = (
            title.list.join(" ")
            if schema["title"] == pl.List(pl.String)
            else title.cast(pl.String, strict=False)
        )
        casts.append(text.alias("title"))
    return frame.with_columns(*casts, _first(_id_trouble(key, schema[key], verbatim)))


def _first(trouble: list[tuple[pl.Expr, pl.Expr]]) -> pl.Expr:
    return pl.coalesce([pl.when(bad).then(reason) for bad, reason in trouble]).alias("_why")


def marked(
    frame: pl.LazyFrame,
    role: str,
    dates: Sequence[str],
    verbatim: bool = False,
    unit: TimeUnit | None = None,
) -> pl.LazyFrame:
    """The columns of a role cast, ``_why`` added."""
    schema = frame.collect_schema()
    if role == "interactions":
        return log_columns(frame, schema, dates, verbatim, unit)
    return entity_columns(frame, schema, NEEDED[role][0], verbatim)


def dates_of(head: pl.DataFrame) -> list[str]:
    """The date formats of a table, by its first rows."""
    return date_forms(head["timestamp"]) if "timestamp" in head.columns else []


def time_unit(times: pl.Series) -> TimeUnit:
    """The unit that puts the median timestamp between 1973 and 2200."""
    middle = times.drop_nulls().median()
    if not isinstance(middle, (int, float)):
        return "s"
    for unit in ("s", "ms", "us"):
        if middle / _PER_SECOND[unit] < LATEST * 10:
            return unit
    return "ns"


def in_seconds(frame: pl.DataFrame, unit: TimeUnit) -> pl.DataFrame:
    """Timestamps in Unix seconds; rows before 1970 or after 2200 are marked in ``_why``."""
    seconds = pl.col("timestamp") // _PER_SECOND[unit] if unit != "s" else pl.col("timestamp")
    frame = frame.with_columns(seconds.alias("timestamp"))
    outside = ~pl.col("timestamp").is_between(0, LATEST).fill_null(True)
    if not frame.select(outside.any()).item():
        return frame
    reason = pl.format("timestamp '{}' is before 1970 or after 2200", pl.col("timestamp"))
    return frame.with_columns(pl.coalesce("_why", pl.when(outside).then(reason)).alias("_why"))


def inferred(frame: pl.DataFrame, keep: Sequence[str]) -> pl.DataFrame:
    """Text columns that hold only whole numbers or numbers become so; ``keep`` stays as it is."""
    casts = []
    for column, dtype in frame.schema.items():
        if dtype != pl.String or column in keep:
            continue
        values = frame[column].drop_nulls()
        if not len(values):
            continue
        for number in (pl.Int64, pl.Float64):
            if values.head(1000).cast(number, strict=False).null_count():
                continue
            # 007 and +1 are codes, not numbers: reading them as numbers would lose something.
            if values.str.contains(r"^[+-]?0\d|^\+").any():
                break
            if not values.cast(number, strict=False).null_count():
                casts.append(pl.col(column).cast(number))
                break
    return frame.with_columns(casts)
