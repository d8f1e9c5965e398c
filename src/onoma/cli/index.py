"""``onoma index``: build, judge and look at names."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from onoma.cli import show
from onoma.cli.browse import EXAMPLES, browse
from onoma.cli.named import Named
from onoma.errors import OnomaError

app = typer.Typer(
    help="Build, judge and look at names.", add_completion=False, no_args_is_help=True
)
_Path = Annotated[Path, typer.Argument(metavar="DIR", help="A run or index directory.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Form(StrEnum):
    """How a name is written."""

    tokens = "tokens"
    text = "text"


@app.callback()
def index() -> None:
    """Build, judge and look at names."""


@app.command(
    epilog="Examples:\n\nonoma index build rqkmeans --data packaged:movielens --out names/rq\n\n"
    "onoma index build collaborative --data DIR --out names/cid clusters=20 leaf=500\n\n"
    "onoma index build rqkmeans --data DIR --out names/s encoder=sentence levels=4"
)
def build(
    method: Annotated[str, typer.Argument(help="A way of naming; onoma index methods lists them.")],
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    out: Annotated[Path, typer.Option(help="Where the index goes.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of the method and encoder=NAME: key=value ..."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal names.", min=0)] = 0,
    json: _Json = False,
) -> None:
    """Name a catalogue; validation and test interactions are not read."""
    from onoma import encoding, indexing
    from onoma.dataset import split
    from onoma.dataset.load import load
    from onoma.recipe import override

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OnomaError("the folder is not empty", where=str(out), fix="Use another --out")
    how: dict[str, Any] = {}
    for word in settings or []:
        override(how, word)
    encoder = how.pop("encoder", "tfidf")
    way = indexing.build(method, **how)
    parts = split(load(data))
    began = time.monotonic()
    vectors = None if encoder is None else encoding.cached(encoding.build(encoder), parts)
    encoded = time.monotonic()
    made = way.build(parts, vectors, seed)
    source = {
        "data": data if data.startswith("packaged:") else str(Path(data).resolve()),
        "hash": parts.dataset.hash,
        "encoder": encoder,
        "settings": how,
        "seconds": {
            "encode": round(encoded - began, 2),
            "index": round(time.monotonic() - encoded, 2),
        },
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    replace(made, meta={**made.meta, "source": source}).save(out)
    report, agreement = made.health(), indexing.Agreement.of(made, parts, vectors)
    if json:
        show.emit({**source, "health": report.to_dict(), "agreement": agreement.to_dict()})
        return
    show.print_table(report.table())
    show.print_table(agreement.table())
    seconds = source["seconds"]
    typer.echo(f"{made.n_items:,} items named in {seconds['index']} s (encoding "
               f"{seconds['encode']} s): {out}")  # fmt: skip
    typer.echo(f"Next: onoma index browse {out}")


@app.command()
def methods(json: _Json = False) -> None:
    """The ways of naming, with what each reads."""
    from importlib import import_module

    from onoma.indexing import METHODS

    rows = []
    for name, target in METHODS.items():
        module, _, attribute = target.partition(":")
        way = getattr(import_module(module), attribute)
        about = (way.__doc__ or "").strip().splitlines()[0]
        rows.append({"method": name, "vectors": way.needs_vectors, "about": about})
    if json:
        show.emit(rows)
        return
    lines = [
        [row["method"], "needed" if row["vectors"] else "optional", row["about"]] for row in rows
    ]
    show.print_table(show.grid("", ["method", "vectors", "about"], lines))


@app.command(
    epilog="Examples:\n\nonoma index health runs/flagship-movielens\n\n"
    "onoma index health names/rq --rebuild-seed 1 --json"
)
def health(
    path: _Path,
    bare: Annotated[bool, typer.Option("--bare", help="Judge the names alone; read no data.")] = (
        False
    ),
    rebuild_seed: Annotated[
        int | None, typer.Option(help="Name the data again from this seed and compare.", min=0)
    ] = None,
    json: _Json = False,
) -> None:
    """Collisions, use and balance of the codes; what a prefix tells of the items.

    The second part reads the data that the names were made from: the variance of the item vectors
    that prefixes explain, and how much more often than chance items of one prefix have like
    categories, are bought together or follow each other. --rebuild-seed adds what another seed
    would change.
    """
    from onoma.indexing import Agreement, Health, Stability

    named = Named(path)
    report = Health.of(named.index)
    agreement = stability = None
    if not bare and named.known:
        agreement = Agreement.of(named.index, named.split, named.vectors)
    if rebuild_seed is not None:
        stability = Stability.between(named.index, named.again(rebuild_seed))
    if json:
        show.emit(
            {
                **report.to_dict(),
                "agreement": None if agreement is None else agreement.to_dict(),
                "stability": None if stability is None else stability.to_dict(),
                **named.cost,
            }
        )
        return
    show.print_table(report.table())
    if agreement is not None:
        show.print_table(agreement.table())
    elif not bare:
        typer.echo("the index does not say what data it names: judged by itself")
    if stability is not None:
        typer.echo(stability.line())
    cost = named.cost
    if cost["seconds"] is not None:
        peak = f", peak memory of the process {cost['peak_memory_mb']:,} MB"
        typer.echo(f"named in {cost['seconds']} s{peak if cost['peak_memory_mb'] else ''}")


app.command(epilog="\n\n".join(("Examples:", *EXAMPLES)))(browse)


@app.command(
    epilog="Examples:\n\nonoma index export names/rq --out names.csv\n\n"
    "onoma index export runs/flagship-movielens --as text --out names.parquet"
)
def export(
    path: _Path,
    out: Annotated[Path, typer.Option(help="A .csv or .parquet file.")],
    form: Annotated[
        Form,
        typer.Option(
            "--as", help="New tokens such as <a_17><b_203>, or plain text such as item_17-203."
        ),
    ] = Form.tokens,
) -> None:
    """Write item_id, title and name of every item, for a language model to learn."""
    import polars as pl

    from onoma.dataset.files import write_csv, write_parquet
    from onoma.indexing import rendering

    write = {".csv": write_csv, ".parquet": write_parquet}.get(out.suffix.lower())
    if write is None:
        raise OnomaError(f"{out.suffix or 'no ending'}: neither .csv nor .parquet", where=str(out))
    named = Named(path)
    items = named.dataset.items.select("item_id", "title")
    said = rendering.as_text if form is Form.text else rendering.as_tokens
    write(items.with_columns(name=pl.Series(said(named.index))), out)
    typer.echo(f"{items.height:,} names: {out}")


@app.command(epilog="Example:\n\nonoma index compare names/rq names/cid runs/flagship-movielens")
def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Index directories.")],
    json: _Json = False,
) -> None:
    """Health figures of several indices side by side."""
    from onoma.indexing import Health

    rows = []
    for path in paths:
        named = Named(path)
        made = named.index
        report = Health.of(made)
        last = report.levels[-1]
        tells = _tells(named)
        rows.append(
            {
                "index": str(path),
                "method": made.method,
                "sizes": list(made.sizes),
                "used": [round(level.utilisation, 3) for level in report.levels],
                "evenness": [round(level.evenness, 3) for level in report.levels],
                "collisions_before": report.before.share,
                "collisions_after": report.after.share,
                "largest_first": report.levels[0].largest,
                "prefixes": last.prefixes,
                **tells,
                **named.cost,
            }
        )
    if json:
        show.emit(rows)
        return

    def line(row: dict[str, Any]) -> list[object]:
        return [
            row["index"], row["method"], " ".join(map(str, row["sizes"])),
            " ".join(f"{share:.0%}" for share in row["used"]),
            " ".join(f"{share:.2f}" for share in row["evenness"]),
            f"{row['collisions_before']:.1%}", f"{row['collisions_after']:.1%}",
            row["largest_first"],
            " ".join(_or_dash(share, "{:.0%}") for share in row["beyond_chance"]),
            " ".join(_or_dash(ratio, "{:.1f}") for ratio in row["follows"]),
            _or_dash(row["seconds"], "{}"), _or_dash(row["peak_memory_mb"], "{:,}"),
        ]  # fmt: skip

    head = ["index", "method", "sizes", "used", "evenness", "collide before", "after",
            "largest branch", "explained", "next item x", "seconds", "peak MB"]  # fmt: skip
    show.print_table(show.grid("", head, [line(row) for row in rows]))


def _tells(named: Named) -> dict[str, list[float | None]]:
    """What each length of prefix tells of the items, where the data is known."""
    from dataclasses import fields

    from onoma.indexing.agreement import Agreement, LevelAgreement

    levels: tuple[LevelAgreement, ...] = ()
    if named.known:
        levels = Agreement.of(named.index, named.split, named.vectors).levels
    keys = [field.name for field in fields(LevelAgreement) if field.name != "prefixes"]
    return {key: [getattr(level, key) for level in levels] for key in keys}


def _or_dash(value: object, form: str) -> str:
    return "–" if value is None else form.format(value)
