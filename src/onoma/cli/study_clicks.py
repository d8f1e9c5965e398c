"""Verbs of ``onoma study`` about models of clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show, study_models

DECOUPLING = (
    "Examples:\n\nonoma study decoupling --data DIR --seeds 2\n\n"
    "onoma study decoupling --data packaged:movielens --pairs 50000 recommender.length=50"
)


def decoupling(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Of planted clicks and weights.", min=1)] = 2,
    pairs: Annotated[int, typer.Option(help="Planted clicks.", min=1000)] = 200_000,
    out: Annotated[Path, typer.Option(help="Where runs go.")] = Path("studies/decoupling"),
    json: Annotated[bool, typer.Option("--json", help="Print decoupling.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Do the search of a history and its reading need vectors of their own? Planted, then real."""
    from onoma.study import decoupling as studies

    result = studies.decoupling(
        data, out, seeds=range(seeds), pairs=pairs, overrides=settings or [],
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return

    def each(values: list[float] | None) -> str:
        return " ".join(f"{value:.4f}" for value in values or []) or "–"

    lines = [
        [row["arm"], f"{row['parameters']:,}",
         *(each(row.get(key)) for key in ("auc", "correlation", "found", "told"))]
        for row in result["planted"]
    ]  # fmt: skip
    head = ["arm", "parameters", "auc", "correlation", "found", "told"]
    title = f"{result['pairs']:,} planted clicks, oracle {each(result['oracle'])}"
    show.print_table(show.grid(title, head, lines))
    for row in (row for row in result["planted"] if "conflict" in row):
        pull = row["conflict"][0]
        typer.echo(
            f"{row['arm']}: gradients of the search {pull['search']:.4f}, of the reading "
            f"{pull['reading']:.4f}; {pull['against']:.0%} of items are pulled apart"
        )
    lines = [
        [row["arm"], f"{row['auc']:.4f}", f"{row['logloss']:.4f}", show.figure(row["ndcg@10"]),
         f"{row['seconds']:.0f}"]
        for row in result["data"]
    ]  # fmt: skip
    title = f"clicks of {result['dataset']['name']}, one seed"
    show.print_table(show.grid(title, ["arm", "auc", "logloss", "ndcg@10", "train s"], lines))
    study_models.asked(result["acceptance"])
    typer.echo(str(out / "decoupling.json"))
