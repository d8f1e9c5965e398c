"""``onoma study``: experiments over a list of methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import (
    show,
    study_bridged,
    study_clicks,
    study_models,
    study_noise,
    study_people,
    study_search,
)

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
    out: Annotated[
        Path, typer.Option(help="The results folder: rows and a page for each data set.")
    ] = Path("studies/names"),
    work: Annotated[Path, typer.Option(help="Where weights and checkpoints lie.")] = Path(
        "runs/names"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print study.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Which names suit a catalogue: one backbone and budget, a list of indices, a page."""
    from onoma.study import indexing as studies
    from onoma.study import published
    from onoma.study.rows import KEYS

    result = studies.indexing(
        data, out, methods=tuple(method or studies.INDICES), seeds=range(seeds),
        recipe=recipe, overrides=settings or [], work=work, quiet=quiet or json,
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
                for key in KEYS
            ),
            row["invalid"],
            f"{row['seconds']['train']:.0f}",
        ]
        for row in result["rows"]
    ]
    head = ["index", "seeds", *KEYS, "invalid", "train s"]
    show.print_table(show.grid(f"generate mode on {result['dataset']['name']}", head, lines))
    if result["published"]:
        ours = {row["index"]: row for row in result["rows"]}
        beside = [
            [name, *(f"{figures[key]:.4f}" for key in KEYS),
             *(f"{ours[name][key]['mean']:.4f}" if name in ours else "–" for key in KEYS)]
            for name, figures in result["published"].items()
        ]  # fmt: skip
        head = ["index", *(f"{key}, {whose}" for whose in ("published", "ours")
                           for key in KEYS)]  # fmt: skip
        show.print_table(show.grid("beside How to Index Item IDs (S001)", head, beside))
        typer.echo(published.order_note(result["rows"], result["published"]))
        typer.echo(result["published_protocol"])
    typer.echo(f"{result['advice']}\n{out / result['dataset']['name'] / 'study.html'}")


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
    study_models.asked(result["acceptance"])
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
        if "acceptance" in about:
            study_models.asked(about["acceptance"])
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
    study_models.asked(result["acceptance"])
    typer.echo(str(out / "streaming.json"))


@app.command(
    epilog="Examples:\n\nonoma study language --recipe alpharec --data DIR\n\n"
    "onoma study language --recipe llm-kt --data DIR --seeds 1 recommender.layer=latent"
)
def language(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    recipe: Annotated[
        str, typer.Option(help="alpharec, llminit, llm-kt, llm-rec, llm-cf, pad, or a YAML path.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds an arm.", min=1)] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Where runs go (default studies/language-RECIPE).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print language.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Does a system gain from its texts: against its backbone, and with texts dealt out anew."""
    from onoma.evaluation.report_page import per_cent
    from onoma.study import language as studies

    where = out or Path("studies") / f"language-{Path(recipe).stem}"
    result = studies.language(
        data, where, recipe=recipe, seeds=range(seeds), overrides=settings or [],
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    about = result["dataset"]
    head = ["arm", "seeds", "mean", "95 % interval", "against without", "p (Holm)", "train s"]
    parts = {
        name: f"{part['cases']:,} targets of at most {part['most']} interactions in training "
        f"({part['items']:.0%} of the items)"
        for name, part in result["scarce"].items()
    }
    for key in (*studies.KEYS, *parts):
        lines = [
            [row["arm"], row["seeds"], show.figure(row[key]["mean"]),
             f"{row[key]['low']:.4f} to {row[key]['high']:.4f}" if "low" in row[key] else "",
             per_cent(against["share"]) if (against := row[key].get("against")) else "",
             show.figure(against["p_holm"]) if against else "", f"{row['seconds']:.0f}"]
            for row in result["rows"] if key in row
        ]  # fmt: skip
        named = f"{studies.SCARCE[key]} of {parts[key]}" if key in parts else key
        title = f"{named}, {result['recipe']} on {about['name']}, {result['cases']:,} cases"
        show.print_table(show.grid(title, head, lines))
    if "auc" in result["rows"][0]:
        lines = [
            [row["arm"], *(" ".join(f"{value:.4f}" for value in row[key])
                           for key in ("auc", "logloss")),
             " ".join(f"{value:+.1%}" for value in row.get("auc_gain", []))]
            for row in result["rows"]
        ]  # fmt: skip
        head = ["arm", "auc", "logloss", "gain over chance"]
        show.print_table(show.grid("clicks, seed by seed", head, lines))
    for key, verdict in result["verdict"].items():
        typer.echo(f"{key}: gains from its texts and from no others: {_YES[verdict['holds']]}")
    typer.echo(f"{result['test']}\n{where / 'language.json'}")


@app.command(
    epilog="Examples:\n\nonoma study collapse --data DIR --width 32 --width 128\n\n"
    "onoma study collapse --data DIR --begin random --begin var recommender.layers=0"
)
def collapse(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
    ] = None,
    width: Annotated[
        list[int] | None, typer.Option(help="Of the table; may be given again (default 16 to 256).")
    ] = None,
    begin: Annotated[
        list[str] | None,
        typer.Option(
            help="random, var, uni, rand, pca, projection or shuffled; may be given again."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds a run.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Where runs go.")] = Path("studies/collapse"),
    json: Annotated[bool, typer.Option("--json", help="Print collapse.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """How many directions of an item table are used, by its width and what it begins as."""
    from onoma.study import collapse as studies

    result = studies.collapse(
        data, out, widths=width or (16, 32, 64, 128, 256),
        beginnings=begin or studies.BEGINNINGS, seeds=range(seeds), overrides=settings or [],
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    lines = [
        [row["width"], row["beginning"], *(show.figure(row[key]) for key in studies.KEYS),
         f"{row['effective_rank']:.1f}", f"{row['used']:.0%}", f"{row['directions']:.0f}",
         "–" if row["first"] is None else f"{row['first']:.1f}", f"{row['best_epoch']:.0f}"]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["width", "begins as", *studies.KEYS, "effective rank", "used", "hold 90 %",
            "rank before", "best epoch"]  # fmt: skip
    show.print_table(show.grid(f"item tables on {result['dataset']['name']}", head, lines))
    typer.echo(str(out / "collapse.json"))


app.command(epilog=study_bridged.ORDER)(study_bridged.order)
app.command(epilog=study_bridged.THIRDS)(study_bridged.thirds)
app.command(epilog=study_clicks.DECOUPLING)(study_clicks.decoupling)
app.command(epilog=study_clicks.PLACEMENTS)(study_clicks.placements)
app.command(epilog=study_search.SEARCH)(study_search.search)
app.command(epilog=study_noise.DENOISING)(study_noise.denoising)
app.command(epilog=study_models.BIAS)(study_models.bias)
app.command(epilog=study_models.LIKELIHOOD)(study_models.likelihood)
app.command(epilog=study_people.PROFILES)(study_people.profiles)
app.command(epilog=study_people.COLDSTART)(study_people.coldstart)
app.command(epilog=study_models.ANNOTATION)(study_models.annotation)


@app.command(
    epilog="Examples:\n\nonoma study prompting --data movielens-100k --reviews all-beauty\n\n"
    "onoma study prompting --data DIR --model http://localhost:8000/v1#NAME --cases 100\n\n"
    "onoma study prompting --data DIR --part lists --part order"
)
def prompting(
    data: Annotated[
        str, typer.Option(help="What is ranked: a folder, file or packaged:movielens.")
    ],
    reviews: Annotated[
        str | None, typer.Option(help="What is rated, explained and summed up (default --data).")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A language model: a word, or a mapping with settings.")
    ] = "smollm2",
    cases: Annotated[int, typer.Option(help="Users and texts of each task.", min=2)] = 5,
    ratings: Annotated[int, typer.Option(help="Test ratings that are predicted.", min=2)] = 200,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="ratings, texts, lists, order, again, ordering or memory; may be given again."
        ),
    ] = None,
    domain: Annotated[str, typer.Option(help="What the items of --data are.")] = "movies",
    reviewed: Annotated[str, typer.Option(help="What those of --reviews are.")] = "products",
    seed: Annotated[int, typer.Option(help="Of the cases and of what is drawn.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the page and the sheets for people go.")] = Path(
        "studies/prompting"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print prompting.json.")] = False,
) -> None:
    """What a language model is worth as a recommender: rating, ranking, explaining, summing up."""
    import yaml

    from onoma.study import prompting as studies

    result = studies.prompting(
        data, out, reviews=reviews, model=yaml.safe_load(model), cases=cases, rated=ratings,
        parts=part or studies.PARTS, domain=domain, reviewed=reviewed, seed=seed,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    for name, rows in result.get("lists", {}).items():
        lines = [
            [row["name"], *(show.figure(row[key]) for key in ("recall@10", "ndcg@10")),
             f"{row['beyond']['retrieved@10']:.1f}",
             show.figure(row["against"]["p_holm"]) if "against" in row else "–"]
            for row in rows
        ]  # fmt: skip
        head = ["", "recall@10", "ndcg@10", "items", "p (Holm)"]
        title = f"{name}, {result['cases']} users of {result['data']['name']}"
        show.print_table(show.grid(title, head, lines))
    if "memory" in result:
        from onoma.study.prompting_probes import summary

        typer.echo(f"memory: {summary(result['memory'])}")
    study_models.asked(result["acceptance"])
    typer.echo(str(out / "prompting.html"))


_YES = {True: "yes", False: "no", None: "–"}
