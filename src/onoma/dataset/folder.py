"""The folder form: Parquet tables as :meth:`Dataset.save` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from onoma.dataset.dataset import Dataset
from onoma.dataset.rejects import Rejects
from onoma.dataset.tables import read_table
from onoma.errors import OnomaError


def read_folder(path: str | Path, *, rejects: Rejects | None = None) -> Dataset:
    """Read the folder form of a data set.

    ``interactions.parquet`` must be there; ``items.parquet``, ``users.parquet`` and
    ``dataset.json`` may be.

    Without timestamps the order of the file stands; a ``position`` column (0-based order inside
    a user) that disagrees with it wins, and the notes say so.

    Raises:
        OnomaError: no ``interactions.parquet``, an unreadable file, or bad rows.
    """
    folder = Path(path)
    log_path = folder / "interactions.parquet"
    if not log_path.is_file():
        raise OnomaError(
            f"no interactions.parquet (found {found(folder)})",
            where=str(folder),
            fix="Make the folder form with onoma data import",
        )
    rejects = Rejects() if rejects is None else rejects
    meta = describe(folder)
    notes: dict[str, Any] = dict(meta.get("notes") or {})
    log = read_table(log_path, rejects=rejects)
    tables = {
        role: read_table(folder / f"{role}.parquet", role, rejects=rejects)
        if (folder / f"{role}.parquet").is_file()
        else None
        for role in ("items", "users")
    }
    timed = "timestamp" in log.columns and log["timestamp"].null_count() < log.height
    if not timed and "position" in log.columns and log.schema["position"].is_integer():
        ascending = (pl.col("position") >= pl.col("position").shift(1).over("user_id")).all()
        if not log.select(ascending).item():
            log = log.sort("user_id", "position", maintain_order=True)
            notes["order"] = "rows sorted by position inside each user"
    return Dataset.construct(
        log,
        tables["items"],
        tables["users"],
        name=str(meta.get("name") or folder.resolve().name),
        notes=notes,
    )


def describe(folder: Path) -> dict[str, Any]:
    """``dataset.json``, or nothing where there is none.

    Raises:
        OnomaError: it is not a JSON object.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return {}
    try:
        meta = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        raise OnomaError("not a JSON file", where=str(path)) from None
    if not isinstance(meta, dict) or not isinstance(meta.get("notes") or {}, dict):
        raise OnomaError("not a description of a data set", where=str(path))
    name = meta.get("name")
    if name is not None and not isinstance(name, str):
        raise OnomaError("the name is not text", where=str(path))
    return meta


def found(folder: Path) -> str:
    """What a folder holds, for an error line."""
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    if not names:
        return "nothing"
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
