"""Verbs of ``onoma study`` about models of clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show, study_models

DECOUPLING = (
    "Examples:\n\nonoma study decoupling --data DIR --seeds 2\n\n"
    "onoma study decoupling --data packaged:movielens --pairs 50000 recommender.length=50"
)
PLACEMENTS = (
    "Examples:\n\nonoma study placements\n\nonoma study placements --users 4000 --times --seed 1"
)


def placements(
    users: Annotated[int, typer.Option(help="Of the made-up log.", min=1)] = 20_000,
    events: Annotated[int, typer.Option(help="Of a user, on average.", min=1)] = 75,
    seed: Annotated[int, typer.Option(help="Of log and weights.", min=0)] = 0,
    epochs: Annotated[int, typer.Option(help="Of every training, at most.", min=1)] = 6,
    times: Annotated[
        bool, typer.Option("--times", help="Train without times and with waves, too.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("studies/placements"),
    json: Annotated[bool, typer.Option("--json", help="Print placements.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """One model of all products with adapters, one for each, or trees? Then what to show."""
    from onoma.study import placements as studies

    result = studies.placements(
        out, users=users, events=events, seed=seed, times=times,
        train=studies.TRAIN.model_copy(update={"epochs": epochs}),
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return
    log, clicks = result["log"], result["clicks"]
    names = list(log["oracle"])
    lines = [
        [row["arm"], *(f"{row['auc'][name]:.4f}" for name in names),
         f"{sum(row['error'].values()) / len(names):.4f}",
         f"{max(row['share']):.1%}" if "share" in row else "–"]
        for row in result["conversions"] + result.get("times", [])
    ]  # fmt: skip
    lines.append(["true chances", *(f"{value:.4f}" for value in log["oracle"].values()), "", ""])
    title = f"conversions, {log['events']:,} events of {log['users']:,} users"
    show.print_table(show.grid(title, ["AUC", *names, "calibration", "trained"], lines))
    typer.echo(
        f"clicks: AUC {clicks['auc']:.4f}, trees {clicks['trees']:.4f}, true chances "
        f"{clicks['oracle']:.4f}; calibration error {clicks['error']:.4f}, "
        f"{clicks['uncorrected']:.4f} before the correction"
    )
    lines = [[row["policy"], f"{row['earned']:.3f}", f"{row['replayed']:.3f}", str(row["agree"])]
             for row in result["policies"]]  # fmt: skip
    show.print_table(show.grid("an impression", ["policy", "earns", "replayed", "agree"], lines))
    study_models.asked(result["acceptance"])
    typer.echo(f"{out / 'placements.json'}\n{out / 'decisions.jsonl'}")


def decoupling(
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe: dotted.key=value ...")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Of planted clicks and weights.", min=1)] = 2,
    pairs: Annotated[int, typer.Option(help="Planted clicks.", min=1000)] = 200_000,
    out: Annotated[Path, typer.Option(help="Where runs go.")] = Path("studies/decoupling"),
    json: Annotated[bool, typer.Option("--json", help="Print decoupling.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Do the search of a history and its reading need vectors of their own? Planted, then real."""
    from onoma.study import decoupling as studies

    result = studies.decoupling(
        data, out, seeds=range(seeds), pairs=pairs, overrides=settings or [],
        quiet=quiet or json, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if json:
        show.emit(result)
        return

    def each(values: list[float] | None) -> str:
        return " ".join(f"{value:.4f}" for value in values or []) or "–"

    lines = [
        [row["arm"], f"{row['parameters']:,}",
         *(each(row.get(key)) for key in ("auc", "correlation", "found", "told"))]
        for row in result["planted"]
    ]  # fmt: skip
    head = ["arm", "parameters", "auc", "correlation", "found", "told"]
    title = f"{result['pairs']:,} planted clicks, oracle {each(result['oracle'])}"
    show.print_table(show.grid(title, head, lines))
    for row in (row for row in result["planted"] if "conflict" in row):
        pull = row["conflict"][0]
        typer.echo(
            f"{row['arm']}: gradients of the search {pull['search']:.4f}, of the reading "
            f"{pull['reading']:.4f}; {pull['against']:.0%} of items are pulled apart"
        )
    lines = [
        [row["arm"], f"{row['auc']:.4f}", f"{row['logloss']:.4f}", show.figure(row["ndcg@10"]),
         f"{row['seconds']:.0f}"]
        for row in result["data"]
    ]  # fmt: skip
    title = f"clicks of {result['dataset']['name']}, one seed"
    show.print_table(show.grid(title, ["arm", "auc", "logloss", "ndcg@10", "train s"], lines))
    study_models.asked(result["acceptance"])
    typer.echo(str(out / "decoupling.json"))
