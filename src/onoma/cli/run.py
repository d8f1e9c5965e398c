"""``onoma run``, ``onoma evaluate`` and ``onoma demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show
from onoma.errors import OnomaError


def run(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name or a YAML file.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides: dotted.key=value ...")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder or file of the data, or packaged:movielens.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory (default runs/RECIPE-DATASET).")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Start over, or go on where a run stopped."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Fit, measure and report one recipe."""
    from onoma.recipe import Recipe

    chosen = Recipe.load(recipe, settings or [])
    if data is None and chosen.data.path is None:
        raise OnomaError(
            "no data is named", where=recipe, fix="Give --data DIR, or --data packaged:movielens"
        )
    from onoma.run import run as start

    done = start(chosen, data, out, fresh=fresh, quiet=quiet or json)
    if json:
        show.emit(done.metrics)
        return
    show.print_table(show.metrics_table(done.metrics))
    if said := show.cost_line(done.metrics):
        typer.echo(f"\n{said}")
    seconds = done.metrics.get("seconds", {})
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    typer.echo(f"\n{spent}\n{done.path / 'report.html'}")


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    mode: Annotated[str | None, typer.Option(help="One of the recommender's modes.")] = None,
    part: Annotated[str, typer.Option(help="test or valid.")] = "test",
    k: Annotated[
        list[int] | None, typer.Option("-k", help="A cut-off; may be given again.", min=1)
    ] = None,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Let items of the history be answers.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a finished run again."""
    if part not in ("test", "valid"):
        raise OnomaError(f"no part is called {part!r}", where="--part", fix="Use test or valid")
    from onoma.evaluation.evaluate import evaluate as measure
    from onoma.run import open_run

    opened = open_run(path)
    model, parts = opened.recommender, opened.split
    if mode is not None and mode not in model.modes:
        raise OnomaError(
            f"{model.name} has no mode {mode!r}", where="--mode",
            fix=f"Use one of {', '.join(model.modes)}",
        )  # fmt: skip
    cases = parts.test if part == "test" else parts.valid
    if not len(cases):
        raise OnomaError(f"the split has no {part} cases", where=str(path))
    ks = tuple(sorted(set(k))) if k else opened.recipe.evaluate.ks
    figures = measure(model, cases, parts, ks=ks, mask_seen=not repeats, mode=mode).summary()
    if json:
        show.emit(figures)
        return
    intervals = figures["ci95"]
    rows = [
        [key, show.figure(figures[key]), f"{intervals[key][0]:.4f} to {intervals[key][1]:.4f}"]
        for key in intervals
    ]
    seen = "kept" if repeats else "masked"
    title = f"{path}: {part}, {len(cases)} cases, {mode or model.modes[0]}, seen items {seen}"
    show.print_table(show.grid(title, ["", "mean", "95 % interval"], rows))
    typer.echo()
    for name, formula in figures["formulas"].items():
        typer.echo(f"{name}: {formula}")


def demo(
    out: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs/demo"),
) -> None:
    """Train the flagship and the baselines on MovieLens and compare them."""
    from onoma.demo import demo as start

    start(out)
