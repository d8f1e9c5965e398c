"""``onoma data``: import, look at and check data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onoma.cli.audit import audit

if TYPE_CHECKING:
    from onoma.dataset import Dataset

app = typer.Typer(
    name="data",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Import data, look at it, check it.",
)

Source = Annotated[
    str, typer.Argument(help="A folder, a file, or packaged:NAME.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="folder, csv, tsv, jsonl, parquet, recbole, movielens or amazon; "
        "found out when left out.",
    ),
]
Items = Annotated[Path | None, typer.Option(help="The catalogue, where it is another file.")]
Users = Annotated[Path | None, typer.Option(help="The users, where they are another file.")]
Rename = Annotated[
    list[str] | None,
    typer.Option(help="OURS=THEIRS, a column of the file under another name; may be repeated."),
]
Columns = Annotated[
    str | None, typer.Option(help="Names, with commas, for a file without a header line.")
]
Delimiter = Annotated[str | None, typer.Option(help="Separator of the fields; \\t for tabs.")]
Encoding = Annotated[str, typer.Option(help="Of text files.")]
TimeUnit = Annotated[
    str | None,
    typer.Option(help="s, ms, us or ns of numeric timestamps; by their size when left out."),
]


@app.command(
    "import",
    epilog="[bold]Examples[/bold]\n\n"
    "onoma data import log.csv --items products.csv --out shop\n\n"
    "onoma data import log.tsv --rename user_id=customer --bad-rows set-aside --out shop\n\n"
    "onoma data import ml-1m --min-rating 4 --k-core 5 --out ml\n\n"
    "onoma data import reviews_Beauty_5.json.gz --items meta_Beauty.json.gz --out beauty\n\n"
    "onoma data import packaged:movielens --out movielens",
)
def import_data(
    source: Source,
    out: Annotated[
        Path, typer.Option(help="The folder to write; new or empty.", show_default=False)
    ],
    format: Form = None,
    items: Items = None,
    users: Users = None,
    rename: Rename = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = "utf-8",
    time_unit: TimeUnit = None,
    name: Annotated[str | None, typer.Option(help="Of the data set.")] = None,
    bad_rows: Annotated[
        str,
        typer.Option(
            help="refuse, set-aside (to rejects.jsonl), or the largest number to set aside.",
        ),
    ] = "refuse",
    min_rating: Annotated[float | None, typer.Option(help="Drop lower ratings.")] = None,
    keep: Annotated[
        str, typer.Option(help="Of repeated (user, item) pairs: first, last or all.")
    ] = "all",
    since: Annotated[str | None, typer.Option(help="Drop earlier rows (2018-01-31).")] = None,
    until: Annotated[str | None, typer.Option(help="Drop rows from this date on.")] = None,
    k_core: Annotated[
        int, typer.Option(help="Drop users and items with fewer interactions, repeatedly.")
    ] = 0,
    texts: Annotated[
        bool, typer.Option("--texts", help="Amazon: keep the text of reviews.")
    ] = False,
    all_items: Annotated[
        bool, typer.Option("--all-items", help="Amazon: keep items that nobody reviewed.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data folder.")] = False,
    as_json: Json = False,
) -> None:
    """Read any known form, clean it, and write the folder form.

    Filters run in the order --min-rating, --keep, --since/--until, --k-core.
    """
    from onoma.dataset.clean import deduplicate, minimum_rating, time_window
    from onoma.dataset.clean import k_core as core
    from onoma.dataset.files import whole_folder
    from onoma.dataset.load import load
    from onoma.dataset.rejects import Rejects

    rejects = Rejects.parse(bad_rows)
    options = _options(format, items, users, rename, columns, delimiter, encoding, time_unit)
    options |= {key: True for key, on in (("texts", texts), ("all_items", all_items)) if on}
    with whole_folder(out, overwrite=overwrite) as folder, _working(as_json) as say:
        say(f"reading {source}")
        dataset = load(source, name=name, rejects=rejects, **options)
        if min_rating is not None:
            dataset = minimum_rating(dataset, min_rating)
        dataset = deduplicate(dataset, keep)  # type: ignore[arg-type]
        if since is not None or until is not None:
            dataset = time_window(dataset, since, until)
        if k_core:
            say(f"{k_core}-core")
            dataset = core(dataset, k_core)
        say(f"writing {out}")
        dataset.save(folder)
        if len(rejects):
            rejects.write(folder / "rejects.jsonl")
    record = summary(dataset) | {"out": str(out), "rejected": len(rejects)}
    if as_json:
        _print_json(record)
        return
    _print_summary(record)
    if len(rejects):
        typer.echo(f"{len(rejects)} bad rows set aside in {out / 'rejects.jsonl'}")


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "onoma data info shop\n\nonoma data info packaged:movielens --json",
)
def info(
    source: Source,
    format: Form = None,
    rename: Rename = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = "utf-8",
    time_unit: TimeUnit = None,
    as_json: Json = False,
) -> None:
    """Counts, time span, columns, and what importing did."""
    from onoma.dataset.load import load

    options = _options(format, None, None, rename, columns, delimiter, encoding, time_unit)
    with _working(as_json) as say:
        say(f"reading {source}")
        record = summary(load(source, **options))
    _print_json(record) if as_json else _print_summary(record)


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "onoma data validate shop\n\n"
    "onoma data validate log.csv --rename user_id=customer --strict",
)
def validate(
    source: Source,
    format: Form = None,
    items: Items = None,
    users: Users = None,
    rename: Rename = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = "utf-8",
    time_unit: TimeUnit = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: Json = False,
) -> None:
    """Check data without changing it; exit code 2 if there are errors."""
    from onoma.dataset.validate import validate_path
    from onoma.errors import OnomaError

    options = _options(format, items, users, rename, columns, delimiter, encoding, time_unit)
    with _working(as_json) as say:
        say(f"checking {source}")
        dataset, findings = validate_path(source, **options)
    wrong = [f for f in findings if f.level == "error" or (strict and f.level == "warning")]
    if as_json:
        _print_json(
            {
                "name": dataset.name,
                "hash": dataset.hash,
                "ok": not wrong,
                "findings": [f.record() for f in findings],
            }
        )
    else:
        colours = {"error": typer.colors.RED, "warning": typer.colors.YELLOW}
        for finding in findings:
            mark = typer.style(f"{finding.level:8}", fg=colours.get(finding.level))
            typer.echo(f"{mark} {finding.check}: {finding.message}")
        if not findings:
            typer.echo("nothing to remark")
    if wrong:
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise OnomaError(f"{first.check}: {first.message}{more}", where=source)


def summary(dataset: Dataset) -> dict[str, Any]:
    """What ``info`` tells about a data set, ready for JSON."""
    import numpy as np

    log = dataset.interactions
    times = log["timestamp"].drop_nulls()
    lengths = log.group_by("user").len()["len"].to_numpy()
    return {
        "name": dataset.name,
        "hash": dataset.hash,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": dataset.n_interactions,
        "density": dataset.n_interactions / (dataset.n_users * dataset.n_items),
        "per_user": {"median": float(np.median(lengths)), "max": int(lengths.max())},
        "first": int(times.min()) if len(times) else None,  # type: ignore[arg-type]
        "last": int(times.max()) if len(times) else None,  # type: ignore[arg-type]
        "interaction_columns": log.columns[2:],
        "item_columns": dataset.items.columns,
        "user_columns": dataset.users.columns,
        "notes": dataset.notes,
    }


def _options(
    format: str | None,
    items: Path | None,
    users: Path | None,
    rename: list[str] | None,
    columns: str | None,
    delimiter: str | None,
    encoding: str,
    time_unit: str | None,
) -> dict[str, Any]:
    from onoma.errors import OnomaError

    if time_unit not in (None, "s", "ms", "us", "ns"):
        raise OnomaError(
            f"unknown time unit {time_unit!r}", where="--time-unit", fix="Use s, ms, us or ns"
        )
    names: dict[str, str] = {}
    for word in rename or []:
        ours, sign, theirs = word.partition("=")
        if not (ours and sign and theirs):
            raise OnomaError(
                f"{word!r} is not OURS=THEIRS",
                where="--rename",
                fix="Write it like --rename user_id=customer",
            )
        names[ours.strip()] = theirs.strip()
    return {
        "format": format,
        "items": items,
        "users": users,
        "rename": names or None,
        "columns": [c.strip() for c in columns.split(",")] if columns else None,
        "delimiter": delimiter.replace("\\t", "\t") if delimiter else None,
        "encoding": encoding,
        "time_unit": time_unit,
    }


def _print_json(record: dict[str, Any]) -> None:
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False, default=str))


def _print_summary(record: dict[str, Any]) -> None:
    from datetime import UTC, datetime

    def day(seconds: int | None) -> str:
        return "?" if seconds is None else datetime.fromtimestamp(seconds, UTC).date().isoformat()

    span = (
        "no timestamps"
        if record["first"] is None
        else (f"{day(record['first'])} to {day(record['last'])}")
    )
    rows = {
        "name": f"{record['name']} ({record['hash']})",
        "users": f"{record['users']:,}",
        "items": f"{record['items']:,}",
        "interactions": f"{record['interactions']:,} (density {record['density']:.3%})",
        "per user": f"median {record['per_user']['median']:g}, at most "
        f"{record['per_user']['max']:,}",
        "time": span,
        "item columns": ", ".join(record["item_columns"]),
    }
    for key, value in record["notes"].items():
        rows[str(key)] = value if isinstance(value, str) else json.dumps(value, default=str)
    if "out" in record:
        rows["written to"] = record["out"]
    width = max(map(len, rows))
    for key, value in rows.items():
        typer.echo(f"{key:{width}}  {value}")


class _working:
    """A line on the terminal that says what is being done; silent for machines and pipes."""

    def __init__(self, quiet: bool) -> None:
        self._status: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("...")

    def __enter__(self) -> Any:
        if self._status is not None:
            self._status.start()
        return self._say

    def _say(self, what: str) -> None:
        if self._status is not None:
            self._status.update(what)

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()


app.command("audit")(audit)
