"""``onoma run``, ``onoma evaluate`` and ``onoma demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onoma.cli import show
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.run import Run


def run(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name or a YAML file.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides: dotted.key=value ...")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder or file of the data, or packaged:movielens.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory (default runs/RECIPE-DATASET-OVERRIDES).")
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
    part: Annotated[Literal["test", "valid"], typer.Option(help="Whose cases.")] = "test",
    k: Annotated[
        list[int] | None, typer.Option("-k", help="A cut-off; may be given again.", min=1)
    ] = None,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Let items of the history be answers.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a finished run again what its recipe asks; on the validation cases, or at other cuts."""
    from onoma.run import evaluation, open_run

    opened = open_run(path)
    model = opened.recommender
    if mode is not None and mode not in model.modes:
        raise OnomaError(
            f"{model.name} has no mode {mode!r}", where="--mode",
            fix=f"Use one of {', '.join(model.modes)}",
        )  # fmt: skip
    if opened.recipe.data.protocol == "likes":
        if k or repeats:
            raise OnomaError(
                "questions of yes or no have no cut-off and no items to mask",
                where="-k" if k else "--repeats", fix="Leave it out",
            )  # fmt: skip
        figures = _judged(opened, part, mode)
        title = f"{path}: {part}, {figures['cases']} questions of yes or no"
    else:
        figures = evaluation(
            opened, part, ks=tuple(sorted(set(k))) if k else None,
            mask_seen=False if repeats else None, mode=mode,
        ).summary()  # fmt: skip
        short = opened.recipe.evaluate.candidates
        title = (
            f"{path}: {part}, {figures['cases']} cases, {figures['mode']}, "
            f"{'whole catalogue' if short is None else short.told()} ranked, seen items "
            f"{'masked' if figures['mask_seen'] else 'kept'}"
        )
    if json:
        show.emit(figures)
        return
    intervals = figures["ci95"]
    rows = [
        [key, show.figure(figures[key]), f"{intervals[key][0]:.4f} to {intervals[key][1]:.4f}"]
        for key in intervals
    ]
    show.print_table(show.grid(title, ["", "mean", "95 % interval"], rows))
    typer.echo()
    for name, formula in figures.get("formulas", {}).items():
        typer.echo(f"{name}: {formula}")


def _judged(opened: Run, part: Literal["test", "valid"], mode: str | None) -> dict[str, Any]:
    """The figures of a run whose questions are of yes or no."""
    from onoma.evaluation.candidates import sampled
    from onoma.evaluation.likes import judged

    parts, about, model = opened.split, opened.recipe.evaluate, opened.recommender
    cases = sampled(parts.test if part == "test" else parts.valid, about.cases)
    if not len(cases):
        raise OnomaError(f"the split has no {part} cases", where=str(opened.path))
    return judged(model, cases, parts, mode or (about.modes or model.modes)[0]).summary()


def demo(
    out: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs/demo"),
) -> None:
    """Train the flagship and the baselines on MovieLens and compare them."""
    from onoma.demo import demo as start

    start(out)
