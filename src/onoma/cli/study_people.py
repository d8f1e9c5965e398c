"""Verbs of ``onoma study`` about people who say what they like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show
from onoma.cli.study_models import asked

PROFILES = (
    "Examples:\n\nonoma study profiles --data amazon-all-beauty-2018-reviews\n\n"
    "onoma study profiles --data DIR --model http://localhost:8000/v1#NAME --cases 100 --reviews 8"
)


def profiles(
    data: Annotated[str, typer.Option(help="Data with reviews: a folder or file.")],
    model: Annotated[
        str, typer.Option(help="Language model: smollm2, an http address, cassette:FILE.")
    ] = "smollm2",
    cases: Annotated[int, typer.Option(help="Users at most.", min=1)] = 4,
    steps: Annotated[int, typer.Option(help="Last predictions of a user.", min=1)] = 2,
    reviews: Annotated[int, typer.Option(help="Different reviews of a user.", min=2)] = 5,
    arm: Annotated[
        list[str] | None, typer.Option(help="titles, reviews, recent, summary or profile.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of users and candidates.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("studies/profiles"),
    json: Annotated[bool, typer.Option("--json", help="Print profiles.json.")] = False,
) -> None:
    """Does a kept profile stand in for all that somebody wrote: reviews are revealed in turn."""
    from onoma.study import profiles as studies

    result = studies.profiles(
        data, out, model=model, cases=cases, steps=steps, reviews=reviews,
        arms=arm or studies.ARMS, seed=seed, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [row["arm"], show.figure(row["ndcg@10"]), f"{row['low']:.3f} to {row['high']:.3f}",
         show.figure(row["recall@1"]), f"{row['tokens']:.0f}", f"{row['told']:.0f}"]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["told", "NDCG@10", "95 % interval", "first", "tokens", "of the user"]
    title = f"{result['users']} users of {result['dataset']['name']}"
    show.print_table(show.grid(title, head, lines))
    asked(result["acceptance"])
    typer.echo(str(out / "profiles.html"))


COLDSTART = (
    "Examples:\n\nonoma study coldstart --data movielens-100k\n\n"
    "onoma study coldstart --data DIR --no-model\n\n"
    "onoma study coldstart --data DIR --model http://localhost:8000/v1#NAME --cases 150"
)


def coldstart(
    data: Annotated[str, typer.Option(help="Data with ratings and texts of the items.")],
    model: Annotated[
        str, typer.Option(help="Language model that tells probabilities: smollm2, an address.")
    ] = "smollm2",
    no_model: Annotated[bool, typer.Option("--no-model", help="Plain rankers alone.")] = False,
    participants: Annotated[int, typer.Option(help="People at most.", min=2)] = 150,
    cases: Annotated[int, typer.Option(help="People the language model ranks for.", min=2)] = 10,
    form: Annotated[
        list[str] | None, typer.Option(help="completion, zero-shot or few-shot (default all).")
    ] = None,
    dislikes: Annotated[bool, typer.Option("--dislikes", help="Tell dislikes too.")] = False,
    seed: Annotated[int, typer.Option(help="Of people, pools and draws.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("studies/coldstart"),
    json: Annotated[bool, typer.Option("--json", help="Print coldstart.json.")] = False,
) -> None:
    """Few preferences, in items or in words: who ranks best by them, on simulated people."""
    from onoma.study import coldstart as studies

    result = studies.coldstart(
        data, out, model=None if no_model else model, participants=participants, cases=cases,
        forms=form or studies.FORMS, dislikes=dislikes, seed=seed,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    for key in ("rows", "asked"):
        lines = [
            [row["ranker"], row["told"],
             *(show.figure(row["parts"][name]["mean"]) for name in studies.PARTS)]
            for row in result[key]
        ]  # fmt: skip
        if lines:
            title = f"NDCG@10, {result[key][0]['people']} people of {result['dataset']['name']}"
            show.print_table(show.grid(title, ["ranker", "told", *studies.PARTS], lines))
    asked(result["acceptance"])
    typer.echo(str(out / "coldstart.html"))
