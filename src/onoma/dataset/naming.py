"""What the columns of other people's files are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onoma.errors import OnomaError

# Canonical name -> common ones, the better first; compared without case, blanks and underscores.
_LOG = {
    "user_id": "user_id user userid uid reviewer_id customer_id visitor_id member_id profile_id "
    "account_id session_id session",
    "item_id": "item_id item itemid iid movie_id parent_asin asin product_id business_id track_id "
    "song_id artist_id book_id isbn game_id article_id news_id video_id sku",
    "timestamp": "timestamp time unix_review_time ts unix_time unixtime sort_timestamp event_time "
    "created_at datetime date review_time time_stamp",
    "rating": "rating overall score stars review_score",
    "event": "event event_type behavior behaviour behavior_type action",
    "weight": "weight play_count playcount listen_count",
}
_ITEMS = {
    "item_id": _LOG["item_id"] + " id",
    "title": "title movie_title product_title item_title item_name product_name name",
    "categories": "categories genres genre category",
}
_USERS = {"user_id": _LOG["user_id"] + " id"}
ALIASES: dict[str, dict[str, str]] = {"interactions": _LOG, "items": _ITEMS, "users": _USERS}
NEEDED = {"interactions": ("user_id", "item_id"), "items": ("item_id",), "users": ("user_id",)}
_TYPES = ("token", "float", "token_seq", "float_seq")


def _key(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def typed_header(columns: Sequence[str]) -> dict[str, str]:
    """RecBole's ``name:type`` headers: column -> type; empty unless every column has one."""
    types = {c: c.rpartition(":")[2] for c in columns}
    return types if columns and all(t in _TYPES for t in types.values()) else {}


def canonical(
    columns: Sequence[str],
    role: str,
    rename: Mapping[str, str] | None,
    where: str,
) -> dict[str, str]:
    """New name of every column.

    Args:
        columns: as the file has them.
        role: ``interactions``, ``items`` or ``users``.
        rename: our name -> the file's, as the user said; wins over guesses.
        where: the file, for errors.

    Raises:
        OnomaError: a column named twice, a renamed column that is not there, or an id not found.
    """
    repeated = sorted({c for c in columns if list(columns).count(c) > 1})
    if repeated:
        raise OnomaError(f"the header names {repeated[0]!r} twice", where=where)
    plain = {c: c.rpartition(":")[0] if typed_header(columns) else c for c in columns}
    names: dict[str, str] = {}
    for ours, theirs in (rename or {}).items():
        found = [c for c in columns if theirs in (c, plain[c])]
        if not found:
            # One map serves the log, the items and the users; each takes what it has.
            if ours in ALIASES[role]:
                raise OnomaError(
                    f"no column {theirs!r} (found {_listed(columns)})",
                    where=where,
                    fix=f"Name it with --rename {ours}=COLUMN",
                )
            continue
        if found[0] in names:
            raise OnomaError(f"column {theirs!r} is renamed twice", where=where)
        names[found[0]] = ours
    for ours, others in ALIASES[role].items():
        if ours in names.values():
            continue
        by_key = {_key(plain[c]): c for c in reversed(columns) if c not in names}
        match = next((by_key[_key(o)] for o in others.split() if _key(o) in by_key), None)
        if match is not None:
            names[match] = ours
    for ours in NEEDED[role]:
        if ours not in names.values():
            raise OnomaError(
                f"no column for {ours} (found {_listed(columns)})",
                where=where,
                fix=f"Name it with --rename {ours}=COLUMN, or the columns of a file without a "
                "header with --columns user_id,item_id,timestamp",
            )
    taken = set(names.values())
    for column in columns:
        if column in names:
            continue
        name = plain[column] or "unnamed"
        while name in taken:
            name += "_"
        names[column] = name
        taken.add(name)
    return names


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(c if len(c) <= 40 else c[:40] + "…" for c in columns[:12])
    return shown + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
