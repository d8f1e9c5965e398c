"""One record a line: JSON Lines and what resembles it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from onoma.dataset.columns import TimeUnit, dates_of, marked
from onoma.dataset.naming import ALIASES, canonical
from onoma.dataset.rejects import LONGEST_ROW, Rejects, shorten, without_bad
from onoma.errors import OnomaError

_BATCH = 50_000


def json_record(line: str) -> dict[str, Any]:
    """One record of JSON Lines.

    Raises:
        ValueError: not a JSON object.
    """
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return as_text(record) if "\\u" in line else record


def as_text(record: dict[str, Any]) -> dict[str, Any]:
    """The record without lone surrogates, which JSON and Python may escape but no text holds."""
    plain = json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "replace")
    out: dict[str, Any] = json.loads(plain)
    return out


def json_batches(
    text: Path, path: Path, rejects: Rejects
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Batches of (line number, object) of a JSON Lines file; bad lines go to ``rejects``."""
    yield from record_batches(text, path, rejects, json_record)


def record_batches(
    text: Path, path: Path, rejects: Rejects, parse: Callable[[str], dict[str, Any]]
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Batches of (line, record); lines that ``parse`` refuses with ValueError are rejected."""
    batch: list[tuple[int, dict[str, Any]]] = []
    bad: list[tuple[int, str, str]] = []

    def reject() -> None:
        if bad:
            rejects.add(path, pl.DataFrame(bad, schema=["place", "reason", "row"], orient="row"))
            bad.clear()

    with text.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            line = line.strip()
            if not line:
                continue
            try:
                batch.append((number, parse(line)))
            except ValueError as error:
                reason = f"not a JSON object ({shorten(str(error))})"
                bad.append((number, reason, line[:LONGEST_ROW]))
            if len(batch) + len(bad) >= _BATCH:
                reject()
                if batch:
                    yield batch
                batch = []
    reject()
    if batch:
        yield batch


def collected(
    batches: Iterator[list[tuple[int, dict[str, Any]]]],
    path: Path,
    role: str,
    rename: Mapping[str, str] | None,
    rejects: Rejects,
    unit: TimeUnit | None = None,
) -> pl.DataFrame:
    """One table of all batches, columns named and typed for the role."""
    frames: list[pl.DataFrame] = []
    dates: list[str] | None = None
    for batch in batches:
        keys = list(dict.fromkeys(key for _, record in batch for key in record))
        names = canonical(keys, role, rename, str(path))
        one_value = set(ALIASES[role]) - {"categories"}
        data = {
            names[key]: column_of([r.get(key) for _, r in batch], names[key] in one_value)
            for key in keys
        }
        frame = pl.DataFrame(data).with_columns(
            pl.Series("_place", [number for number, _ in batch], dtype=pl.Int64)
        )
        if dates is None:
            dates = dates_of(frame.head(1000))
        frame = marked(frame.lazy(), role, dates, unit=unit).collect()
        if frame["_why"].null_count() < frame.height:
            raw = {place: _text(record) or "" for place, record in batch}
            frame = without_bad(frame, path, rejects, raw=raw)
        frames.append(frame)
    if not frames:
        raise OnomaError("no usable rows", where=str(path))
    return _stacked(frames)


def column_of(values: list[Any], one_value: bool = False) -> pl.Series:
    """A column of Python values: of their type if they share one, else of their JSON text."""
    kinds = {type(v) for v in values if v is not None}
    if kinds <= {bool}:
        return pl.Series(values, dtype=pl.Boolean if kinds else pl.String)
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Series(values, dtype=pl.Int64)
    if kinds <= {int, float} and all(v is None or abs(v) < 2**53 or math.isnan(v) for v in values):
        return pl.Series([None if v is None else float(v) for v in values], dtype=pl.Float64)
    if (
        kinds == {list}
        and not one_value
        and all(v is None or all(isinstance(e, str) for e in v) for v in values)
    ):
        return pl.Series(values, dtype=pl.List(pl.String))
    return pl.Series([_text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)[:LONGEST_ROW]
    return str(value)


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Batches one below the other; a column whose type changes becomes text."""
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for column, dtype in frame.schema.items():
            if frame[column].null_count() < frame.height:
                kinds.setdefault(column, set()).add(dtype)
    mixed = {c for c, found in kinds.items() if len(found) > 1}
    numeric = {c for c in mixed if all(d.is_numeric() for d in kinds[c])}
    out = []
    for frame in frames:
        casts = []
        for column, dtype in frame.schema.items():
            if column in numeric:
                casts.append(pl.col(column).cast(pl.Float64))
            elif column in mixed and dtype.is_nested():
                casts.append(pl.col(column).list.join("|"))
            elif column in mixed:
                casts.append(pl.col(column).cast(pl.String))
            elif column in kinds and kinds[column] != {dtype}:
                casts.append(pl.lit(None, next(iter(kinds[column]))).alias(column))
        out.append(frame.with_columns(casts))
    return pl.concat(out, how="diagonal")
