"""Verbs of ``onoma study`` about what language models answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onoma.cli import show

_YES = {True: "yes", False: "no", None: "–"}
_DATA = typer.Option(help="Folder or file of the data, or packaged:movielens.")
_SETTINGS = typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
_MODEL = typer.Option(help="A language model: a word, or a mapping with settings.")


def _spec(model: str | None) -> Any:
    """What a recipe would say of a model."""
    import yaml

    return None if model is None else yaml.safe_load(model)


BIAS = (
    "Examples:\n\nonoma study bias --data DIR --recipe listwise-llm --recipe sasrec\n\n"
    "onoma study bias --data DIR --recipe pairwise-llm --model http://localhost:8000/v1 --cases 200"
)


def bias(
    data: Annotated[str, _DATA],
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Who is probed; may be given again (default listwise-llm, popular)."),
    ] = None,
    model: Annotated[str | None, _MODEL] = None,
    cases: Annotated[int, typer.Option(help="Test cases at most.", min=2)] = 30,
    candidates: Annotated[int, typer.Option(help="Of each case.", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="Of cases, candidates and orders.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("studies/bias"),
    json: Annotated[bool, typer.Option("--json", help="Print bias.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Do rankers go by the place, by fame, by the order of the history? Tests against chance."""
    from onoma.study import bias as studies

    result = studies.bias(
        data, out, recipes=recipe or studies.RECIPES, model=_spec(model), cases=cases,
        candidates=candidates, seed=seed, overrides=settings or [], quiet=quiet or json,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [row["recipe"], row["probe"], row["measured"], show.figure(row["value"]),
         show.figure(row["chance"]), f"{row['low']:.4f} to {row['high']:.4f}",
         show.figure(row["p_holm"]), _YES[row["found"]]]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["recipe", "probe", "what", "measured", "by chance", "95 % interval", "p (Holm)",
            "found"]  # fmt: skip
    title = f"{cases} cases of {candidates} candidates on {result['dataset']['name']}"
    show.print_table(show.grid(title, head, lines))
    typer.echo(str(out / "bias.html"))


LIKELIHOOD = (
    "Examples:\n\nonoma study likelihood --data DIR\n\n"
    "onoma study likelihood --data DIR --model http://localhost:8000/v1 evaluate.history=9"
)


def likelihood(
    data: Annotated[str, _DATA],
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    recipe: Annotated[str, typer.Option(help="One of likelihood-llm.")] = "likelihood-llm",
    model: Annotated[str | None, _MODEL] = None,
    cases: Annotated[int | None, typer.Option(help="Users at most.", min=2)] = None,
    swept: Annotated[int, typer.Option(help="Users of each template and length.", min=2)] = 50,
    seed: Annotated[int, typer.Option(help="Of whose list stands in for whose.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("studies/likelihood"),
    json: Annotated[bool, typer.Option("--json", help="Print likelihood.json.")] = False,
) -> None:
    """What the likelihood of titles tells, beside controls, templates and lengths of the prompt."""
    from onoma.study import likelihood as studies

    result = studies.likelihood(
        data, out, recipe=recipe, model=_spec(model), cases=cases, swept=swept, seed=seed,
        overrides=settings or [], tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    head = ["", "first of five", "95 % interval", "NDCG@3", "popularity", "tokens"]
    for title, count in (("arms", "cases"), ("templates", "swept"), ("lengths", "swept")):
        lines = [
            [row["arm"], show.figure(row["ndcg@1"]), f"{row['low']:.4f} to {row['high']:.4f}",
             show.figure(row["ndcg@3"]), f"{row['popularity']:.1f}", f"{row['tokens']:.0f}"]
            for row in result[title]
        ]  # fmt: skip
        about = f"{title}, {result[count]} users of {result['dataset']['name']}"
        show.print_table(show.grid(about, head, lines))
    asked(result["acceptance"])
    typer.echo(str(out / "likelihood.html"))


def asked(rows: list[dict[str, Any]]) -> None:
    """What systems ask, beside what was measured."""
    lines = [
        [f"{row['system']}: {row['asked']}", row["measured"] or "–", _YES[row["holds"]]]
        for row in rows
    ]
    show.print_table(show.grid("", ["asked", "measured", "holds"], lines))


ANNOTATION = (
    "Examples:\n\nonoma study annotation --data polarity:REVIEWS --data category:CATALOGUE\n\n"
    "onoma study annotation --data polarity:REVIEWS --model http://localhost:8000/v1 --test 400"
)


def annotation(
    data: Annotated[
        list[str], typer.Option(help="A task, polarity:DATA or category:DATA; may be given again.")
    ],
    model: Annotated[str, _MODEL] = "smollm2",
    pool: Annotated[int, typer.Option(help="Labelled texts for examples.", min=4)] = 80,
    dev: Annotated[int, typer.Option(help="Texts that decide.", min=4)] = 60,
    test: Annotated[int, typer.Option(help="Texts that are reported.", min=4)] = 80,
    seed: Annotated[int, typer.Option(help="Of the texts and the draws.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("studies/annotation"),
    json: Annotated[bool, typer.Option("--json", help="Print annotation.json.")] = False,
) -> None:
    """Tune a labelling prompt step by step; each step must prove itself on validation texts."""
    from onoma.study import annotation as studies

    result = studies.annotation(
        data, out, model=_spec(model), pool=pool, dev=dev, test=test, seed=seed,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    for one in result["tasks"]:
        lines = [
            [row["prompt"], row["step"], show.figure(row["f1"]), f"{row['surely']:.0%}",
             _YES[row["adopted"]], row["calls"], row["tokens"]]
            for row in one["steps"]
        ]  # fmt: skip
        head = ["prompt", "step", "F1", "better in", "adopted", "calls", "tokens"]
        show.print_table(show.grid(f"{one['name']}, validation", head, lines))
        typer.echo(
            f"test: {one['initial']['f1']:.4f}, tuned {one['tuned']['f1']:.4f} "
            f"({one['gain']['low']:+.4f} to {one['gain']['high']:+.4f})\n"
        )
    asked(result["acceptance"])
    typer.echo(str(out / "annotation.html"))
