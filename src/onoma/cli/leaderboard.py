"""``onoma leaderboard``: every recipe on every data set, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show


def leaderboard(
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of every recipe: dotted.key=value ...")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="A folder or file; may be given again. None: render only."),
    ] = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option(help="A recipe; may be given again (default all packaged ones)."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds a recipe.", min=1)] = 3,
    budget: Annotated[
        float | None, typer.Option(help="Minutes; no run starts after them.", min=0)
    ] = None,
    out: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    work: Annotated[Path, typer.Option(help="Where weights and checkpoints lie.")] = Path(
        "runs/leaderboard"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print leaderboard.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Run or resume recipes x data sets x seeds and rank them; finished rows are kept."""
    from onoma.study import leaderboard as studies
    from onoma.study.standings import head, lines

    names = [name for word in recipes or [] for name in word.split(",") if name]
    result = studies.leaderboard(
        data or [], out, recipes=names, seeds=seeds, budget=budget, overrides=settings or [],
        work=work, quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    for board in result["boards"]:
        ranked = board["protocol"]["ranked"]
        title = f"{board['dataset']['name']}, {board['cases']:,} test cases, {ranked} ranked"
        show.print_table(show.grid(title, head(board), lines(board)))
        typer.echo("")
    if result["pending"]:
        typer.echo(f"{len(result['pending'])} runs are left; the same command goes on with them")
    typer.echo(str(out / "leaderboard.html"))
