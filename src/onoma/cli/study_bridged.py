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


THIRDS = (
    "Examples:\n\nonoma study thirds --data amazon-beauty-2014 --recipe a-llmrec\n\n"
    "onoma study thirds --data DIR --recipe alpharec --beside sasrec --beside lightgcn"
)


def thirds(
    data: Annotated[str, _DATA],
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    recipe: Annotated[
        str, typer.Option(help="A recipe; a-llmrec brings its parents along.")
    ] = "a-llmrec",
    beside: Annotated[
        list[str] | None, typer.Option(help="A recipe to compare with; may be given again.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds an arm.", min=1)] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where runs go (default studies/thirds-RECIPE).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print thirds.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Is a system good on rare targets or on frequent ones: Hit@1 by thirds of the items."""
    from onoma.study import thirds as studies

    where = out or Path("studies") / f"thirds-{Path(recipe).stem}"
    result = studies.thirds(
        data, where, recipe=recipe, beside=beside or (), seeds=range(seeds),
        overrides=settings or [], quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    parts = [part for part in ("all", *studies.THIRDS) if result["cases"][part]]
    lines = []
    for row in result["rows"]:
        cells = [row["arm"]]
        for part in parts:
            tests = row[part].get("against", {}).values()
            beaten = sum(one["difference"] > 0 and one["p_holm"] < 0.05 for one in tests)
            cells.append(f"{row[part]['mean']:.4f}{'*' * beaten}")
        lines.append(cells)
    head = ["hit@1", *(f"{part} ({result['cases'][part]:,})" for part in parts)]
    about = result["dataset"]
    title = f"{about['name']}, {result['protocol']['ranked']}; coldest and middle third: at most "
    title += f"{' and '.join(map(str, result['edges']))} interactions; * above a parent, p < .05"
    show.print_table(show.grid(title, head, lines))
    if result["acceptance"]:
        study_models.asked(result["acceptance"])
    typer.echo(f"{result['test']}\n{where / 'thirds.json'}")
