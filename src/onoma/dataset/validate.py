"""What is odd about a data set, before anything is trained on it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from onoma.dataset.dataset import Dataset
from onoma.dataset.folder import describe
from onoma.dataset.load import load
from onoma.dataset.rejects import Rejects

Level = Literal["error", "warning", "note"]
_OLDEST = 631_152_000  # 1990-01-01: earlier clicks are another unit or a default value
_DAY = 86_400


@dataclass(frozen=True)
class Finding:
    """One observation.

    Attributes:
        level: ``error`` (the data is wrong), ``warning`` (it may be), ``note`` (worth knowing).
        check: its short name.
        count: rows, users or items concerned.
        message: a sentence, with an example where there is one.
    """

    level: Level
    check: str
    count: int
    message: str

    def record(self) -> dict[str, Any]:
        """As a dictionary."""
        return asdict(self)


def validate_path(path: str | Path, **options: Any) -> tuple[Dataset, list[Finding]]:
    """Load data with all bad rows set aside, then check it; ``options`` go to :func:`load`.

    Raises:
        OnomaError: it cannot be loaded at all.
    """
    rejects = Rejects("set-aside")
    dataset = load(path, rejects=rejects, **options)
    findings = []
    if len(rejects):
        first = rejects.table.row(0, named=True)
        kinds = ", ".join(f"{n} x {kind}" for kind, n in rejects.by_reason().items())
        findings.append(
            Finding(
                "error",
                "bad-rows",
                len(rejects),
                f"{kinds}; first: {first['file']}, {first['unit']} {first['place']}: "
                f"{first['reason']}",
            )
        )
    folder = Path(path)
    if not str(path).startswith("packaged:") and folder.is_dir():
        stored = describe(folder).get("hash")
        if stored is not None and stored != dataset.hash:
            findings.append(
                Finding(
                    "error",
                    "hash",
                    1,
                    f"dataset.json says {str(stored)[:16]}, the tables are {dataset.hash}: "
                    "they were changed after they were written",
                )
            )
    return dataset, findings + validate(dataset)


def validate(dataset: Dataset) -> list[Finding]:
    """Check a data set; errors first."""
    found = [*_log(dataset), *_times(dataset), *_catalogue(dataset)]
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted((f for f in found if f.count), key=lambda f: rank[f.level])


def _log(dataset: Dataset) -> list[Finding]:
    log = dataset.interactions
    n = log.height
    pairs = n - log.select(pl.struct("user", "item").n_unique()).item()
    exact = n - log.select(pl.struct("user", "item", "timestamp").n_unique()).item()
    lengths = log.group_by("user").len()["len"]
    short = int((lengths < 3).sum()) + dataset.n_users - len(lengths)
    found = [
        Finding(
            "note",
            "repeats",
            pairs,
            f"{pairs} of {n} interactions repeat a (user, item) pair ({pairs / n:.1%}); "
            "state whether seen items are masked, or deduplicate",
        ),
        Finding("warning", "duplicates", exact, f"{exact} rows repeat user, item and timestamp"),
        Finding(
            "note",
            "short-users",
            short,
            f"{short} of {dataset.n_users} users have fewer than three interactions and "
            "only train under leave-one-out",
        ),
    ]
    if "rating" in log.columns:
        ratings = log["rating"].drop_nulls()
        missing = n - len(ratings)
        constant = int(len(ratings) > 0 and ratings.n_unique() == 1)
        found += [
            Finding(
                "warning",
                "ratings-missing",
                missing if missing < n else 0,
                f"{missing} interactions have no rating",
            ),
            Finding("note", "ratings-constant", constant, "all ratings are equal"),
            Finding(
                "warning",
                "ratings-negative",
                int((ratings < 0).sum()),
                f"the lowest rating is {ratings.min()!r}",
            ),
        ]
    return found


def _times(dataset: Dataset) -> list[Finding]:
    log = dataset.interactions
    n = log.height
    times = log["timestamp"].drop_nulls()
    if not len(times):
        return [
            Finding(
                "warning",
                "no-timestamps",
                n,
                "no timestamps: the order of the file is taken for the order in time",
            )
        ]
    missing = n - len(times)
    early, late = int((times < _OLDEST).sum()), int((times > int(time.time()) + _DAY).sum())
    daily = bool((times % _DAY == 0).all())
    ordered = (
        log.with_columns(pl.col("timestamp").shift(1).over("user").alias("before"))
        .select(
            tied=(pl.col("timestamp") == pl.col("before")).sum(),
            back=(pl.col("timestamp") < pl.col("before")).sum(),
        )
        .row(0)
    )
    size = (
        log.group_by("user", "timestamp")
        .len()
        .filter(pl.col("timestamp").is_not_null() & (pl.col("len") > 1))["len"]
        .sum()
    )
    return [
        Finding(
            "warning",
            "timestamps-missing",
            missing,
            f"{missing} interactions have no timestamp and take the last one before them",
        ),
        Finding(
            "warning",
            "timestamps-early",
            early,
            f"{early} timestamps lie before 1990: are they seconds? (--time-unit)",
        ),
        Finding(
            "warning",
            "timestamps-late",
            late,
            f"{late} timestamps lie in the future: are they seconds? (--time-unit)",
        ),
        Finding(
            "note",
            "ties",
            int(size),
            f"{size} interactions ({size / n:.1%}) share user and timestamp with another"
            + ("; all times are whole days" if daily else "")
            + ": the tie rule decides part of the targets",
        ),
        Finding(
            "note",
            "file-order",
            ordered[1],
            f"{ordered[1]} rows are older than the row of the same user before them",
        ),
    ]


def _catalogue(dataset: Dataset) -> list[Finding]:
    items, n = dataset.items, dataset.n_items
    used = dataset.interactions["item"].n_unique()
    untitled = int((items["title"].is_null() | (items["title"].str.strip_chars() == "")).sum())
    titles = items["title"].drop_nulls()
    shared = int(titles.is_duplicated().sum())
    columns = [c for c in items.columns if c not in ("item_id", "title")]
    bare = not columns and untitled == n
    unknown = int(dataset.notes.get("items_only_in_the_log", 0))
    return [
        Finding(
            "warning",
            "unknown-items",
            unknown,
            f"{unknown} items of the log are not in the catalogue",
        ),
        Finding("note", "cold-items", n - used, f"{n - used} of {n} items have no interactions"),
        Finding("note", "untitled", 0 if bare else untitled, f"{untitled} items have no title"),
        Finding(
            "note",
            "no-text",
            n if bare else 0,
            "the catalogue has no text: names and vectors can only be collaborative",
        ),
        Finding("note", "shared-titles", shared, f"{shared} items share their title with another"),
    ]
