"""What a user did, in as few words as a language model needs: items cut short, times shared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from onoma.dataset import Dataset, Split
from onoma.dataset.events import log_rows

PASSING = frozenset({"click", "clicks", "view", "pv", "impression", "exposure"})  # no sure sign
_PIECE = re.compile(r"\w+|[^\w\s]")
_WORDS = (4, 8, 16)  # of a title, until it is the only one of its kind


@dataclass(frozen=True)
class Event:
    """Something a user did.

    Attributes:
        item: code.
        did: in a word, as ``took``, ``liked`` or an event's own name.
        time: Unix seconds, -1 where unknown.
    """

    item: int
    did: str
    time: int = -1


def pieces(text: str) -> int:
    """Words and signs of a text; a tokenizer-free count of what a model reads."""
    return len(_PIECE.findall(text))


def brief(items: pl.DataFrame) -> list[str]:
    """N short names: the title's first words, the brand and the most specific category.

    A name is as short as it can be and still be the catalogue's only one; the whole title is kept
    where that takes more than sixteen words, and the id where there is no title.

    RecGPT (2025), compression at item level.
    """
    titles = items.select(pl.coalesce("title", "item_id")).to_series().to_list()
    kinds = next((name for name in ("categories", "genres") if name in items.columns), None)
    tails = [[] for _ in titles] if kinds is None else _last(items[kinds])
    if "brand" in items.columns:
        told = items["brand"].cast(pl.String).to_list()
        tails = [
            [*tail, *([brand] if brand and brand.lower() not in title.lower() else [])]
            for tail, brand, title in zip(tails, told, titles, strict=True)
        ]
    plain = [" ".join(title.split()) for title in titles]
    # The signs that a log is written with.
    plain = [re.sub(r"[;|]", ",", title) for title in plain]
    ends = [f" ({', '.join(tail)})" if tail else "" for tail in tails]
    ends = [re.sub(r"[;|]", ",", end) for end in ends]
    names, open_rows = [""] * len(plain), list(range(len(plain)))
    for count in _WORDS:
        for row in open_rows:
            names[row] = " ".join(plain[row].split()[:count]).rstrip(" ,.-") + ends[row]
        open_rows = _shared(names, open_rows)
    for row in open_rows:
        names[row] = plain[row] + ends[row]
    return names


def _last(column: pl.Series) -> list[list[str]]:
    out: list[list[str]] = []
    for told in column.to_list():
        known = [told] if isinstance(told, str) else [name for name in told or () if name]
        out.append([str(known[-1])] if known else [])
    return out


def _shared(names: Sequence[str], rows: Sequence[int]) -> list[int]:
    """Rows whose name another one has, too."""
    counts = Counter(names)
    return [row for row in rows if counts[names[row]] > 1]


def events(split: Split, user: int) -> list[Event]:
    """What training says a user did, oldest first, without what is no sure sign of liking."""
    return events_of(split, [user])[0]


def events_of(split: Split, users: Sequence[int]) -> list[list[Event]]:
    """:func:`events` of several users; the log is looked through once."""
    dataset = split.dataset
    did = _did(dataset).gather(log_rows(split).train).to_list()
    out = []
    for user in users:
        span = range(int(split.train.offsets[user]), int(split.train.offsets[user + 1]))
        out.append(
            [
                Event(int(split.train.values[at]), did[at], int(split.train_times[at]))
                for at in span
                if did[at] not in PASSING
            ]
        )
    return out


def _did(dataset: Dataset) -> pl.Series:
    """A word for every row of the log."""
    log = dataset.interactions
    if "event" in log.columns:
        return log["event"].fill_null("took")
    if "rating" in log.columns:
        said = (
            pl.when(pl.col("rating") >= 4).then(pl.lit("liked"))
            .when(pl.col("rating") < 3).then(pl.lit("disliked"))
            .otherwise(pl.lit("took"))
        )  # fmt: skip
        return log.select(said.alias("did"))["did"]
    return pl.Series(["took"] * log.height)


def plain_log(did: Sequence[Event], texts: Sequence[str]) -> str:
    """A line an event, the item's whole text in it: what compression is measured against."""
    return "\n".join(f"{_day(one.time)} {one.did}: {texts[one.item]}" for one in did)


def compressed(
    did: Sequence[Event],
    names: Sequence[str],
    limit: int | None = None,
    count: Callable[[str], int] = pieces,
) -> str:
    """Events as lines of ``when(what),when(what) | item; item``, the latest first.

    RecGPT (2025), compression at sequence level: times become days within the month of the last
    event, months within its year and years beyond; what was done to an item is gathered by time;
    and items of equal gatherings share a line.

    Args:
        did: oldest first.
        names: of items by code, as :func:`brief` makes them.
        limit: lines are left out from the oldest on until no more than this is left.
        count: what the limit counts.
    """
    if not did:
        return ""
    last = max(one.time for one in did)
    gathered: dict[int, dict[str, list[str]]] = {}
    newest: dict[int, int] = {}
    for place, one in enumerate(did):
        what = gathered.setdefault(one.item, {}).setdefault(_bucket(one.time, last), [])
        if one.did not in what:
            what.append(one.did)
        newest[one.item] = place
    lines: dict[str, list[int]] = {}
    for item, times in gathered.items():
        key = ",".join(f"{when}({','.join(what)})" for when, what in times.items())
        lines.setdefault(key, []).append(item)
    order = sorted(lines, key=lambda key: -max(newest[item] for item in lines[key]))
    told, used = [], 0
    for key in order:
        items = sorted(lines[key], key=lambda item: -newest[item])
        text = f"{key} | {'; '.join(names[item] for item in items)}"
        used += count(text)
        if limit is not None and used > limit:
            break
        told.append(text)
    return "\n".join(told)


def told_items(log: str) -> list[str]:
    """The names in a log of :func:`compressed`, in its order."""
    return [
        name for line in log.splitlines() for name in line.partition(" | ")[2].split("; ") if name
    ]


def saving(
    split: Split,
    users: Sequence[int],
    texts: Sequence[str],
    limit: int | None = None,
    count: Callable[[str], int] = pieces,
) -> dict[str, float]:
    """How much of the logs compression keeps, and at what share of the length.

    Args:
        split: of which training is read.
        users: codes.
        texts: of items by code, as an uncompressed log would tell them.
        limit: of a compressed log.
        count: of the length of a text.

    Returns:
        ``items``: mean share of a user's distinct items that can be told from the compressed log
        (named there, by a name that no other item has); ``tokens``: length of all compressed logs
        over that of all plain ones; ``users``.
    """
    names = brief(split.dataset.items)
    counts = Counter(names)
    clear = {name: code for code, name in enumerate(names) if counts[name] == 1}
    shares, before, after = [], 0, 0
    for did in events_of(split, users):
        if not did:
            continue
        log = compressed(did, names, limit, count)
        had = {one.item for one in did}
        found = {clear[name] for name in told_items(log) if name in clear}
        shares.append(len(had & found) / len(had))
        before += count(plain_log(did, texts))
        after += count(log)
    return {
        "items": float(np.mean(shares)) if shares else 1.0,
        "tokens": after / max(before, 1),
        "users": len(shares),
    }


def _day(time: int) -> str:
    return "some day" if time < 0 else f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}"


def _bucket(time: int, last: int) -> str:
    if time < 0:
        return "once"
    when, now = (datetime.fromtimestamp(at, UTC) for at in (time, last))
    if (when.year, when.month) == (now.year, now.month):
        return f"{when:%m-%d}"
    return f"{when:%Y-%m}" if when.year == now.year else f"{when:%Y}"
