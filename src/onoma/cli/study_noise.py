"""Verbs of ``onoma study`` about noise in histories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show, study_models

DENOISING = (
    "Examples:\n\nonoma study denoising --data DIR\n\n"
    "onoma study denoising --data DIR --seeds 3 recommender.thresholds=[.2,.4] "
    "recommender.space=null"
)


def denoising(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
    ] = None,
    recipe: Annotated[str, typer.Option(help="One of consrec.")] = "consrec",
    share: Annotated[
        float, typer.Option(help="Training interactions that are replaced.", min=0.01, max=0.9)
    ] = 0.25,
    seeds: Annotated[int, typer.Option(help="Of the noise and the fits.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("studies/denoising"),
    json: Annotated[bool, typer.Option("--json", help="Print denoising.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Does a filter find random items in histories, and does what learns from them gain by it?"""
    from onoma.study import denoising as studies

    result = studies.denoising(
        data, out, recipe=recipe, share=share, seeds=range(seeds), overrides=settings or [],
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [row["space"], str(row["threshold"]) + "*" * row["chosen"], row["seed"],
         *(f"{row[key]:.1%}" for key in ("removed", "noise", "noise_removed", "true_removed")),
         f"{row['lift']:.2f}"]
        for row in result["found"]
    ]  # fmt: skip
    head = ["space", "above", "seed", "removed", "noise in it", "of the noise", "of the true",
            "lift"]  # fmt: skip
    about = result["dataset"]
    show.print_table(show.grid(f"{share:.0%} noise in {about['name']}; * picked", head, lines))
    lines = [
        [row["arm"], show.figure(row["mean"]),
         show.figure(row["against"]["p"]) if "against" in row else "–"]
        for row in result["rows"]
    ]  # fmt: skip
    show.print_table(show.grid(result["test"], ["", studies.KEY, "p against noisy"], lines))
    study_models.asked(result["acceptance"])
    typer.echo(str(out / "denoising.json"))
