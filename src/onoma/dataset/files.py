"""Whole files or none: everything is written beside its place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` to write to; on success it is synced and takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text in one step."""
    with replacing(Path(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def write_parquet(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table as Zstandard Parquet in one step."""
    with replacing(Path(path)) as beside:
        frame.write_parquet(beside, compression="zstd")
