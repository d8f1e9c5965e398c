"""``onoma systems``: which published systems there are and how far each is."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Any

import typer

from onoma.cli import show
from onoma.errors import OnomaError

STATUSES = ("planned", "ready")


def load() -> list[dict[str, Any]]:
    """The rows of ``systems.yaml``: id, name, paper, kind, status, and recipe where one exists."""
    import yaml

    rows = yaml.safe_load(files("onoma").joinpath("systems.yaml").read_text("utf-8"))
    return [dict(row) for row in rows]


def systems(
    word: Annotated[
        str | None, typer.Argument(help="Only systems whose id, name, paper or kind has it.")
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
    table = show.grid(
        "",
        ["id", "name", "kind", "status", "recipe", "published"],
        [
            [row["id"], row["name"], row["kind"], row["status"], row.get("recipe") or "–",
             headline(row["published"]) or "–"]
            for row in rows
        ],
    )  # fmt: skip
    for column in table.columns:
        column.justify = "left"
    show.print_table(table)
    ready = sum(row["status"] == "ready" for row in rows)
    typer.echo(f"\n{len(rows)} systems, {ready} ready")


def published(recipe: str) -> dict[str, dict[str, dict[str, float]]]:
    """The published figures a recipe carries, by data set, then by source."""
    from onoma.recipe import Recipe

    return Recipe.load(recipe).published


def headline(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """One figure to print in a row: the first data set's first source."""
    for data, sources in figures.items():
        for values in sources.values():
            for key in ("ndcg@10", "recall@10", *values):
                if key in values:
                    return f"{data} {key} {values[key]:.4f}"
    return ""
