"""Amazon reviews as published in 2014, 2018 and 2023.

McAuley et al. 2015 (arXiv 1506.04757); Ni et al. 2019 (EMNLP); Hou et al. 2024 (arXiv 2403.03952).
"""

from __future__ import annotations

import ast
import html
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from onoma.dataset.dataset import Dataset
from onoma.dataset.plain import plain
from onoma.dataset.records import as_text, json_record, record_batches
from onoma.dataset.rejects import Rejects
from onoma.dataset.separated import suffix
from onoma.dataset.tables import from_records, read_table
from onoma.errors import OnomaError

_TEXTS = {
    "review_title": ("summary", "title"),
    "review_text": ("reviewText", "text"),
    "verified": ("verified", "verified_purchase"),
    "helpful_votes": ("vote", "helpful_vote"),
}
_PRICE = re.compile(r"^\$?\s*(\d[\d,]*(?:\.\d+)?)$")
_ASIN = re.compile(r"^(?:B[0-9A-Z]{9}|\d{9}[0-9X])$")
_LONGEST_LINE = 1 << 24

_Batch = list[tuple[int, dict[str, Any]]]


def is_amazon(first: str) -> bool:
    """Whether the first line of a file is a published Amazon review or rating."""
    if first.startswith("{"):
        return '"asin"' in first and ('"reviewerID"' in first or '"user_id"' in first)
    fields = first.strip().split(",")
    if fields[:2] == ["user_id", "parent_asin"]:
        return True
    return len(fields) == 4 and sum(bool(_ASIN.match(f)) for f in fields[:2]) == 1


def read_amazon(
    reviews: str | Path,
    meta: str | Path | None = None,
    *,
    rejects: Rejects | None = None,
    texts: bool = False,
    all_items: bool = False,
) -> Dataset:
    """Read raw reviews (JSON Lines, gzip or not) or a ratings-only CSV, and the metadata.

    Args:
        reviews: ``reviews_X_5.json.gz`` (2014), ``X_5.json.gz`` (2018), ``X.jsonl.gz`` (2023) or
            a ratings-only CSV of any year.
        meta: ``meta_X.json.gz`` or ``meta_X.jsonl.gz``; a file of that name beside the reviews is
            found without being named. The loose form of 2014 (Python literals) is read as data.
        rejects: takes the bad rows; refuses the first when None.
        texts: keep the reviews' title, text, verification and votes.
        all_items: keep items that nobody reviewed in this log.

    Returns:
        Items are named by ``parent_asin`` where there is one (2023), else by ``asin``.

    Raises:
        OnomaError: unreadable files or more bad rows than allowed.
    """
    reviews = Path(reviews)
    if reviews.name.startswith("meta_"):
        raise OnomaError("this is metadata", where=str(reviews), fix="Name the reviews file")
    rejects = Rejects() if rejects is None else rejects
    log = (
        _ratings(reviews, rejects)
        if suffix(reviews) == ".csv"
        else _reviews(reviews, rejects, texts)
    )
    meta = Path(meta) if meta is not None else beside(reviews)
    items = None
    notes: dict[str, Any] = {"form": "amazon"}
    if meta is not None:
        wanted = None if all_items else set(log["item_id"].unique().to_list())
        items, repeated = _metadata(meta, wanted, rejects)
        if repeated:
            notes["repeated_metadata"] = repeated
    return Dataset.construct(log, items, name=_name(reviews), notes=notes)


def beside(reviews: Path) -> Path | None:
    """The metadata file that belongs to a reviews file, if it lies in the same folder."""
    stem = _name(reviews)
    for end in (".json.gz", ".jsonl.gz", ".json", ".jsonl"):
        path = reviews.with_name(f"meta_{stem}{end}")
        if path.is_file():
            return path
    return None


def _name(path: Path) -> str:
    stem = re.sub(r"\.(jsonl?|csv)(\.gz)?$", "", path.name)
    return re.sub(r"_5$", "", re.sub(r"^(reviews|ratings)_", "", stem)) or "amazon"


def _reviews(path: Path, rejects: Rejects, texts: bool) -> pl.DataFrame:
    def short(batches: Iterator[_Batch]) -> Iterator[_Batch]:
        for batch in batches:
            yield [(line, _review(record, texts)) for line, record in batch]

    with plain(path) as text:
        batches = record_batches(text, path, rejects, json_record)
        return from_records(short(batches), path, "interactions", rejects=rejects)


def _review(record: dict[str, Any], texts: bool) -> dict[str, Any]:
    out = {
        "user_id": _either(record, "reviewerID", "user_id"),
        "item_id": _either(record, "parent_asin", "asin"),
        "timestamp": _either(record, "unixReviewTime", "timestamp"),
        "rating": _either(record, "overall", "rating"),
    }
    if texts:
        out.update({ours: _either(record, *theirs) for ours, theirs in _TEXTS.items()})
    return out


def _either(record: dict[str, Any], *keys: str) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _ratings(path: Path, rejects: Rejects) -> pl.DataFrame:
    with plain(path) as text, text.open(encoding="utf-8") as lines:
        first = lines.readline(1 << 16).strip().split(",")
    if "user_id" in first:
        names = {"user_id": "user_id", "item_id": "parent_asin"}
        return read_table(path, rename=names, rejects=rejects).select(
            pl.col("user_id", "item_id", "rating", "timestamp")
        )
    # 2014 puts the user first, 2018 the item; an ASIN has ten characters, a reviewer more.
    order = ["item_id", "user_id"] if _ASIN.match(first[0]) else ["user_id", "item_id"]
    return read_table(path, columns=[*order, "rating", "timestamp"], rejects=rejects)


def literal_record(line: str) -> dict[str, Any]:
    """One line of metadata: JSON, or the Python literals of 2014; nothing is ever run.

    Raises:
        ValueError: neither.
    """
    if len(line) > _LONGEST_LINE:
        raise ValueError("longer than 16 MiB")
    try:
        return json_record(line)
    except ValueError:
        try:
            record = ast.literal_eval(line)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            raise ValueError("neither JSON nor literals") from None
        if not isinstance(record, dict):
            raise ValueError("not an object") from None
        record = {str(key): value for key, value in record.items()}
        return as_text(record) if "\\" in line else record


def _metadata(
    path: Path, wanted: set[str] | None, rejects: Rejects
) -> tuple[pl.DataFrame | None, int]:
    seen: set[str] = set()
    repeated = 0

    def kept(batches: Iterator[_Batch]) -> Iterator[_Batch]:
        nonlocal repeated
        for batch in batches:
            out = []
            for line, record in batch:
                key = _either(record, "parent_asin", "asin")
                if isinstance(key, str) and key:
                    if wanted is not None and key not in wanted:
                        continue
                    if key in seen:
                        repeated += 1
                        continue
                    seen.add(key)
                out.append((line, _item(record, key)))
            if out:
                yield out

    with plain(path) as text:
        batches = kept(record_batches(text, path, rejects, literal_record))
        head = next(batches, None)
        if head is None:
            return None, repeated
        frame = from_records(itertools.chain([head], batches), path, "items", rejects=rejects)
    return frame, repeated


def _item(record: dict[str, Any], key: Any) -> dict[str, Any]:
    title = _text(record.get("title"))
    if title is not None and "getTime()" in title:
        title = None  # a script of the shop's page that the crawl of 2018 took for a title
    return {
        "item_id": key,
        "title": title,
        "brand": _text(_either(record, "brand", "store")),
        "categories": _path(_either(record, "categories", "category")),
        "description": _text(record.get("description")),
        "features": _list(_either(record, "features", "feature")),
        "price": _price(record.get("price")),
    }


def _text(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        value = " ".join(v for v in value if isinstance(v, str))
    if not isinstance(value, str):
        return None
    return " ".join(html.unescape(value).split()) or None


def _list(value: Any) -> list[str] | None:
    if not isinstance(value, list):
        return None
    return [text for text in map(_text, value) if text] or None


def _path(value: Any) -> list[str] | None:
    """The first path of categories, general to specific; 2014 has a list of paths."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return _list(value)


def _price(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if 0 <= value < 1e9 else None
    found = _PRICE.match(value.strip()) if isinstance(value, str) else None
    return float(found[1].replace(",", "")) if found else None
