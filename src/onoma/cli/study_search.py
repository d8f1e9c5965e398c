"""The verb of ``onoma study`` about search and recommendation by one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show, study_models

SEARCH = (
    "Examples:\n\nonoma study search --data amazon-beauty-2014 --seeds 1\n\n"
    "onoma study search --data DIR --arm joint --arm 'search alone' recommender.train.epochs=4"
)


def search(
    data: Annotated[str, typer.Option(help="Folder or file of the data; it needs categories.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
    ] = None,
    recipe: Annotated[str, typer.Option(help="One of synergen.")] = "synergen",
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="joint, recommendation alone, search alone, by order or times shuffled; may be "
            "given again (default all)."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds an arm.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Where runs go.")] = Path("studies/search"),
    json: Annotated[bool, typer.Option("--json", help="Print search.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """One model that recommends and searches, beside a model of each, and what times tell it."""
    from onoma.evaluation.search import KEYS
    from onoma.study import search as studies

    result = studies.search(
        data, out, recipe=recipe, arms=arm or tuple(studies.ARMS), seeds=range(seeds),
        overrides=settings or [], quiet=quiet or json,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    for task, count in result["cases"].items():
        lines = [
            [row["arm"], *(show.figure(row[task][key]) for key in KEYS),
             f"{row[task]['low']:.4f} to {row[task]['high']:.4f}"]
            for row in result["rows"] if task in row
        ]  # fmt: skip
        title = f"{task} on {result['dataset']['name']}, {count:,} cases, whole catalogue"
        show.print_table(
            show.grid(title, ["arm", "hr@10", "mrr@10", "ndcg@10", "95 % interval"], lines)
        )
    pairs = [
        [row["task"], row["arm"], row["against"], f"{row['share']:+.1%}",
         show.figure(row["p_holm"])]
        for row in result["pairs"]
    ]  # fmt: skip
    if pairs:
        head = ["ndcg@10 of", "arm", "against", "share", "p (Holm)"]
        show.print_table(show.grid("paired", head, pairs))
    study_models.asked(result["acceptance"])
    typer.echo(f"{result['test']}\n{out / 'search.json'}")
