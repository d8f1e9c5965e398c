"""Verbs of ``onoma study`` about recommenders that speak to a language model in vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show, study_models

_DATA = typer.Option(help="Folder or file of the data, or packaged:movielens.")
_SETTINGS = typer.Argument(help="Overrides of the recipe: dotted.key=value ...")

ORDER = (
    "Examples:\n\nonoma study order --data DIR --recipe llm-srec recommender.domain=movies\n\n"
    "onoma study order --data DIR --recipe sasrec --recipe markov --seeds 1"
)


def order(
    data: Annotated[str, _DATA],
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Who is probed; may be given again (default llm-srec, of three arms)."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds an arm.", min=1)] = 3,
    trained: Annotated[
        bool, typer.Option("--trained", help="Also fit every arm on permuted training histories.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where runs go.")] = Path("studies/order"),
    json: Annotated[bool, typer.Option("--json", help="Print order.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Do recommenders go by the order of a history: what permuted test histories cost them."""
    from onoma.study import order as studies

    result = studies.order(
        data, out, recipes=recipe or ("llm-srec",), seeds=range(seeds), overrides=settings or [],
        trained=trained, quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [row["arm"], "all" if row["reads"] is None else row["reads"],
         show.figure(row["original"]["mean"]), show.figure(row["permuted"]["mean"]),
         f"{row['sensitivity']['mean']:.1%}",
         f"{row['sensitivity']['low']:.1%} to {row['sensitivity']['high']:.1%}",
         show.figure(row["against"]["p_holm"]), show.figure(row.get("cosine")),
         show.figure(row.get("trained", {}).get("mean"))]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["arm", "reads", studies.KEY, "permuted", "lost", "95 % interval", "p (Holm)",
            "cosine", "trained permuted"]  # fmt: skip
    about = result["dataset"]
    show.print_table(show.grid(f"order of histories on {about['name']}", head, lines))
    if result["acceptance"]:
        study_models.asked(result["acceptance"])
    typer.echo(f"{result['test']}\n{out / 'order.json'}")
