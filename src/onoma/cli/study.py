"""``onoma study``: experiments over a list of methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onoma.cli import show

app = typer.Typer(help="Experiments over methods.", add_completion=False, no_args_is_help=True)


@app.callback()
def study() -> None:
    """Experiments over a list of methods, on your data."""


@app.command(
    epilog="Examples:\n\nonoma study indexing --data packaged:movielens --seeds 1\n\n"
    "onoma study indexing --data DIR --method random --method collaborative\n\n"
    "onoma study indexing --data DIR recommender.train.epochs=6 --out studies/quick"
)
def indexing(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of every run: dotted.key=value ...")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="An index to try; may be given again (default all).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds a method.", min=1)] = 3,
    recipe: Annotated[str, typer.Option(help="What spells the names.")] = "packed",
    out: Annotated[Path, typer.Option(help="Where runs and the page go.")] = Path("studies/names"),
    json: Annotated[bool, typer.Option("--json", help="Print study.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Which names suit a catalogue: one backbone and budget, a list of indices, a page."""
    from onoma.study import indexing as studies

    result = studies.indexing(
        data, out, methods=tuple(method or studies.INDICES), seeds=range(seeds),
        recipe=recipe, overrides=settings or [], quiet=quiet or json,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [
            row["index"],
            row["seeds"],
            *(
                f"{row[key]['mean']:.4f} ({row[key]['low']:.4f} to {row[key]['high']:.4f})"
                for key in studies.KEYS
            ),
            f"{row['seconds']['train']:.0f}",
        ]
        for row in result["rows"]
    ]
    head = ["index", "seeds", *studies.KEYS, "train s"]
    show.print_table(show.grid(f"generate mode on {result['dataset']['name']}", head, lines))
    typer.echo(f"{result['advice']}\n{out / 'study.html'}")


@app.command(
    epilog="Examples:\n\nonoma study quantisers --data packaged:movielens\n\n"
    "onoma study quantisers --data DIR --encoder sentence --method rqkmeans --method pq"
)
def quantisers(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    encoder: Annotated[str, typer.Option(help="What gives the vectors.")] = "tfidf",
    method: Annotated[
        list[str] | None, typer.Option(help="A quantiser; may be given again (default all).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every quantiser and the queries.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("studies/quantisers"),
    json: Annotated[bool, typer.Option("--json", help="Print quantisers.json.")] = False,
) -> None:
    """What codes of 32 bits keep of the item vectors: error, collisions, search, use of codes."""
    from onoma.study import quantisers as studies

    result = studies.quantisers(
        data, out, encoder=encoder, methods=tuple(method or studies.QUANTISERS), seed=seed,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [row["method"], show.figure(row["error"]), f"{row['collisions']:.2%}",
         " ".join(f"{value:.0f}" for value in row["perplexity"]), f"{row['seconds']:.1f}"]
        for row in result["codes"]
    ]  # fmt: skip
    title = f"32 bits an item, {result['encoder']} vectors of {result['dataset']['name']}"
    head = ["method", "error", "collisions", "perplexity", "seconds"]
    show.print_table(show.grid(title, head, lines))
    _asked(result["acceptance"])
    typer.echo(str(out / "quantisers.html"))


@app.command(
    epilog="Examples:\n\nonoma study explanations --data packaged:movielens\n\n"
    "onoma study explanations --run runs/sasrec-movielens --users 50\n\n"
    "onoma study explanations --data DIR --method spinrec --method path --method random"
)
def explanations(
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipes: dotted.key=value ...")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder or file of the data, or packaged:movielens.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="A recipe to fit and explain; may be given again (default spinrec)."),
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option(help="A finished run to explain; may be given again.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method to try; may be given again (default all).")
    ] = None,
    users: Annotated[int, typer.Option(help="Test users at most.", min=2)] = 200,
    seed: Annotated[int, typer.Option(help="Of users and of what methods draw.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where runs and the page go.")] = Path(
        "studies/explanations"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print explanations.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Which explanations are faithful: take away what they name, and look."""
    from onoma.study import explanations as studies

    result = studies.explanations(
        data, out, recipes=recipe or (() if run else ("spinrec",)), runs=run or (),
        methods=method or studies.METHODS, users=users, seed=seed, overrides=settings or [],
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    for name, about in result["models"].items():
        lines = [
            [
                row["method"],
                *(show.figure(row["figures"][key]["mean"]) for key in studies.KEYS),
                f"{row['seconds']:.1f}",
            ]
            for row in about["rows"]
        ]
        head = ["method", *studies.KEYS, "s"]
        title = f"{name} on {about['dataset']['name']}, {about['users']} test users"
        show.print_table(show.grid(title, head, lines))
        typer.echo(studies.advice(about))
    typer.echo(str(out / "explanations.html"))


@app.command(
    epilog="Examples:\n\nonoma study streaming --data packaged:movielens\n\n"
    "onoma study streaming --data DIR --encoder '{name: als, dim: 32}' --share 0.05"
)
def streaming(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    encoder: Annotated[
        str | None, typer.Option(help="What gives the vectors: a name, or a mapping with settings.")
    ] = None,
    share: Annotated[float, typer.Option(help="Share of the items that a query scores.")] = 0.1,
    users: Annotated[int, typer.Option(help="Users who ask.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of clusters, users and new items.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where streaming.json goes.")] = Path(
        "studies/streaming"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print streaming.json.")] = False,
) -> None:
    """What clusters that follow the log hold of exact search, and when a new item is found."""
    import yaml

    from onoma.study import streaming as studies

    result = studies.streaming(
        data, out, encoder=studies.ENCODER if encoder is None else yaml.safe_load(encoder),
        share=share, users=users, seed=seed, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    _asked(result["acceptance"])
    typer.echo(str(out / "streaming.json"))


def _asked(rows: list[dict[str, Any]]) -> None:
    """What systems ask, beside what was measured."""
    words = {True: "yes", False: "no", None: "–"}
    lines = [
        [f"{row['system']}: {row['asked']}", row["measured"] or "–", words[row["holds"]]]
        for row in rows
    ]
    show.print_table(show.grid("", ["asked", "measured", "holds"], lines))
