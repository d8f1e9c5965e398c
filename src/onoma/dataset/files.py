"""Whole files or none: everything is written beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from onoma.errors import OnomaError


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


@contextmanager
def whole_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling folder to fill; on success it takes the place of ``path``.

    Raises:
        OnomaError: ``path`` is a file, or a folder with something in it and no ``overwrite``.
            With ``overwrite`` only a folder that holds ``interactions.parquet`` is replaced.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OnomaError("there is a file of that name", where=str(path))
    full = path.is_dir() and any(path.iterdir())
    if full and not overwrite:
        raise OnomaError(
            "the folder is not empty", where=str(path), fix="Name another, or give --overwrite"
        )
    if full and not (path / "interactions.parquet").is_file():
        raise OnomaError("not a data folder, so it is not replaced", where=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.resolve().name
        beside = path.resolve().with_name(f".{name}.{uuid.uuid4().hex[:8]}.part")
        beside.mkdir()
    except OSError as error:
        raise OnomaError(f"cannot be written ({error.strerror})", where=str(path)) from None
    try:
        yield beside
        old = beside.with_suffix(".old")
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text in one step."""
    with replacing(Path(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def write_parquet(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table as Zstandard Parquet in one step."""
    with replacing(Path(path)) as beside:
        frame.write_parquet(beside, compression="zstd")


def write_csv(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table as CSV with a header in one step."""
    with replacing(Path(path)) as beside:
        frame.write_csv(beside)


def cache_folder() -> Path:
    """For what can be had again: ``ONOMA_CACHE``, or ``onoma`` among the user's caches."""
    if known := os.environ.get("ONOMA_CACHE"):
        return Path(known)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "onoma"
