"""``onoma systems``: which published systems there are and how far each is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onoma.cli import show
from onoma.errors import OnomaError
from onoma.systems import STATUSES, headline, load, published, tally


def systems(
    word: Annotated[
        str | None,
        typer.Argument(
            help="Only systems whose id, name, paper or kind has it; an id shows all of one."
        ),
    ] = None,
    status: Annotated[str | None, typer.Option(help="planned or ready.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The published systems: status, recipe and figures."""
    if status is not None and status not in STATUSES:
        raise OnomaError(
            f"no status is called {status!r}", where="--status", fix="Use planned or ready"
        )
    rows = load()
    if word:
        rows = [
            row
            for row in rows
            if any(word.lower() in str(row[key]).lower() for key in ("id", "name", "paper", "kind"))
        ]
    rows = [row for row in rows if status in (None, row["status"])]
    for row in rows:
        row["published"] = published(row["recipe"]) if row.get("recipe") else {}
    if json:
        show.emit(rows)
        return
    if not rows:
        raise OnomaError("no system matches", where=word or "systems")
    if len(rows) == 1 and word is not None and rows[0]["id"].lower() == word.lower():
        _whole(rows[0])
        return
    table = show.grid(
        "",
        ["id", "name", "kind", "status", "recipe", "published", "measured"],
        [
            [row["id"], row["name"], row["kind"], row["status"], row.get("recipe") or "–",
             headline(row["published"]) or "–", tally(row) or "–"]
            for row in rows
        ],
    )  # fmt: skip
    for column in table.columns:
        column.justify = "left"
    show.print_table(table)
    ready = sum(row["status"] == "ready" for row in rows)
    typer.echo(f"\n{len(rows)} systems, {ready} ready")


def _whole(row: dict[str, Any]) -> None:
    """All that is known of one system."""
    typer.echo(f"{row['id']} {row['name']}: {row['paper']}\n{row['kind']}; {row['status']}")
    if row.get("recipe"):
        typer.echo(f"recipe: onoma run {row['recipe']} --data DIR")
    for data, sources in row["published"].items():
        for source, figures in sources.items():
            told = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
            typer.echo(f"published on {data}, {source}: {told}")
    if row.get("command"):
        part = f" ({row['part']} only)" if row.get("part") else ""
        typer.echo(f"measured by{part}: {row['command']}")
    for done in row.get("measured", []):
        title = f"{done['data']}, data {done['hash']}, {done['date']}"
        if done.get("note"):
            title += f", {done['note']}"
        lines = [
            [asked, figure, "yes" if holds else "no"]
            for asked, figure, holds in zip(
                row["acceptance"], done["figures"], done["holds"], strict=True
            )
        ]
        show.print_table(show.grid(title, ["asked", "measured", "holds"], lines))
    if not row.get("measured"):
        typer.echo("not measured yet")
