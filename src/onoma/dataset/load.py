"""One door for data: a path or a name in, a :class:`Dataset` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onoma.dataset.columns import TimeUnit
from onoma.dataset.dataset import Dataset
from onoma.dataset.rejects import Rejects
from onoma.errors import OnomaError

FORMATS = ("folder", "csv", "tsv", "jsonl", "parquet", "recbole", "movielens", "amazon", "tallrec")
_ANY = ("items", "users", "rename", "encoding", "time_unit")
# The options that each form has a use for.
_TAKES = {
    **dict.fromkeys(("csv", "tsv", "recbole"), (*_ANY, "columns", "delimiter")),
    **dict.fromkeys(("jsonl", "parquet"), _ANY),
    "amazon": ("items", "texts", "all_items"),
}
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet")


def load(
    path: str | Path,
    *,
    format: str | None = None,
    items: str | Path | None = None,
    users: str | Path | None = None,
    rename: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    time_unit: TimeUnit | None = None,
    name: str | None = None,
    rejects: Rejects | None = None,
    **options: Any,
) -> Dataset:
    """Read data of any known form.

    Args:
        path: a folder, a file, or ``packaged:NAME``.
        format: one of :data:`FORMATS`; found out when None.
        items: the catalogue, where it is another file.
        users: the users, likewise.
        rename: our column name -> the file's (``{"user_id": "customer"}``).
        columns: names for a separated file without a header line.
        delimiter: of a separated file.
        encoding: of text files.
        time_unit: ``s``, ``ms``, ``us`` or ``ns`` for numeric timestamps; by size when None.
        name: of the data set; the file's or folder's when None.
        rejects: takes bad rows and decides how many are too many; refuses the first when None.
        options: of one form (``texts`` and ``all_items`` of Amazon).

    Raises:
        OnomaError: nothing there, an unknown form, an option that the form has no use for, or
            bad rows that the policy refuses.
    """
    rejects = Rejects() if rejects is None else rejects
    text = str(path)
    given = {
        "items": items, "users": users, "rename": rename, "columns": columns,
        "delimiter": delimiter, "time_unit": time_unit,
        "encoding": None if encoding == "utf-8" else encoding, **options,
    }  # fmt: skip
    named = [key for key, value in given.items() if value]
    if "\0" in text:
        raise OnomaError("a path cannot hold a NUL character")
    if text.startswith("packaged:"):
        from onoma.dataset.packaged import read_packaged

        _refuse(named, "packaged data", text)
        dataset = read_packaged(text.removeprefix("packaged:"))
    else:
        place = Path(path).expanduser()
        if not place.exists():
            raise OnomaError(
                "no such file or folder",
                where=text,
                fix="Packaged data is named like packaged:movielens",
            )
        # Who names the columns knows what the file holds.
        form = format or sniff(place, amazon=not (columns or rename))
        if form not in FORMATS:
            raise OnomaError(
                f"unknown format {form!r}", where=text, fix=f"Use one of {', '.join(FORMATS)}"
            )
        _refuse(named, form, text)
        table = {
            "rename": rename,
            "columns": columns,
            "delimiter": delimiter,
            "encoding": encoding,
            "unit": time_unit,
        }
        dataset = _read(place, form, items, users, table, rejects, options)
    notes = dict(dataset.notes)
    if len(rejects):
        notes["rejected"] = rejects.by_reason()
    return Dataset(dataset.interactions, dataset.items, dataset.users, name or dataset.name, notes)


def _refuse(named: Sequence[str], form: str, where: str) -> None:
    """An option that would be ignored is a mistake."""
    wrong = next((key for key in named if key not in _TAKES.get(form, ())), None)
    if wrong is not None:
        raise OnomaError(
            f"{form} takes no {wrong!r}", where=where,
            fix="Leave it out, or name the form with --format",
        )  # fmt: skip


def sniff(path: Path, *, amazon: bool = True) -> str:
    """The form of a file or folder.

    Args:
        path: of it.
        amazon: whether a table may be Amazon's by its first line.

    Raises:
        OnomaError: none that is known.
    """
    from onoma.dataset.amazon import is_amazon
    from onoma.dataset.folder import found
    from onoma.dataset.movielens import is_movielens
    from onoma.dataset.separated import suffix
    from onoma.dataset.tables import form_of
    from onoma.dataset.tallrec import is_tallrec

    if path.is_dir():
        if (path / "interactions.parquet").is_file():
            return "folder"
        if is_movielens(path):
            return "movielens"
        if is_tallrec(path):
            return "tallrec"
        if list(path.glob("*.inter")):
            return "recbole"
        if _tables_in(path):
            return form_of(_tables_in(path)["interactions"])
        raise OnomaError(
            f"a folder without interactions.parquet or another known form (found {found(path)})",
            where=str(path),
            fix="Name the log itself, or one of --format " + "|".join(FORMATS),
        )
    if suffix(path) == ".inter":
        return "recbole"
    form = form_of(path)
    if amazon and form in ("csv", "jsonl") and is_amazon(_first_line(path)):
        return "amazon"
    return form


def _first_line(path: Path) -> str:
    """The start of a text file; empty if it cannot be had (its reader will say why)."""
    import gzip

    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as handle:
            return handle.readline(1 << 20).decode("utf-8", "replace")
    except (OSError, EOFError, ValueError):
        return ""
    except Exception as error:  # zlib.error is no OSError
        if type(error).__name__ != "error":
            raise
        return ""


def _tables_in(folder: Path) -> dict[str, Path]:
    """``interactions.*``, ``items.*`` and ``users.*`` of a folder, whatever their form."""
    out = {}
    for role in ("interactions", "items", "users"):
        for end in _TABLES:
            for path in (folder / f"{role}{end}", folder / f"{role}{end}.gz"):
                if path.is_file() and role not in out:
                    out[role] = path
    return out if "interactions" in out else {}


def _read(
    place: Path,
    form: str,
    items: str | Path | None,
    users: str | Path | None,
    table: dict[str, Any],
    rejects: Rejects,
    options: dict[str, Any],
) -> Dataset:
    if form == "folder":
        from onoma.dataset.folder import read_folder

        return read_folder(place, rejects=rejects)
    if form == "movielens":
        from onoma.dataset.movielens import read_movielens

        return read_movielens(place, rejects=rejects)
    if form == "tallrec":
        from onoma.dataset.tallrec import read_tallrec

        return read_tallrec(place, rejects=rejects)
    if form == "amazon":
        from onoma.dataset.amazon import read_amazon

        return read_amazon(place, items, rejects=rejects, **options)
    return _from_tables(place, form, items, users, table, rejects)


def _from_tables(
    place: Path,
    form: str,
    items: str | Path | None,
    users: str | Path | None,
    table: dict[str, Any],
    rejects: Rejects,
) -> Dataset:
    from onoma.dataset.tables import form_of, read_table

    log_path, item_path, user_path, form_ = place, items, users, form
    if form == "recbole":
        logs = [place] if place.is_file() else sorted(place.glob("*.inter"))
        if len(logs) != 1:
            raise OnomaError(f"{len(logs)} .inter files", where=str(place), fix="Name one of them")
        log_path, form_ = logs[0], "tsv"
        item_path = item_path or _there(log_path.with_suffix(".item"))
        user_path = user_path or _there(log_path.with_suffix(".user"))
    elif place.is_dir():
        tables = _tables_in(place)
        if not tables:
            raise OnomaError("no interactions file", where=str(place))
        log_path, form_ = tables["interactions"], form_of(tables["interactions"])
        item_path = item_path or tables.get("items")
        user_path = user_path or tables.get("users")
    log = read_table(log_path, form=form_, rejects=rejects, **table)
    others = {"rename": table["rename"], "encoding": table["encoding"], "rejects": rejects}
    catalogue = None if item_path is None else read_table(item_path, "items", **others)
    people = None if user_path is None else read_table(user_path, "users", **others)
    known = {column for frame in (log, catalogue, people) if frame is not None
             for column in frame.columns}  # fmt: skip
    if missing := [ours for ours in table["rename"] or () if ours not in known]:
        raise OnomaError(
            f"no column {table['rename'][missing[0]]!r} for {missing[0]}", where=str(place),
            fix="Correct --rename",
        )  # fmt: skip
    notes: dict[str, Any] = {"form": form}
    if catalogue is not None:
        unknown = log.select("item_id").unique().join(catalogue, on="item_id", how="anti").height
        if unknown:
            notes["items_only_in_the_log"] = unknown
    stem = place.resolve().name if place.is_dir() else place.name.removesuffix(".gz")
    return Dataset.construct(
        log, catalogue, people, name=stem.split(".")[0] or "dataset", notes=notes
    )


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
