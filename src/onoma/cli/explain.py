"""``onoma explain``: why a run recommends an item."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show
from onoma.cli.recommend import asked
from onoma.errors import OnomaError


def explain(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    user: Annotated[str | None, typer.Option(help="A user id of the data.")] = None,
    history: Annotated[
        str | None, typer.Option(help="Item ids, oldest first, separated by commas.")
    ] = None,
    item: Annotated[
        str | None, typer.Option(help="The item to explain (default the first recommended).")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="How contributions are found (default by recommender).")
    ] = None,
    k: Annotated[
        int, typer.Option("-k", help="Items of the history to show.", min=1, max=10_000)
    ] = 10,
    seed: Annotated[int, typer.Option(help="Of what a method draws.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Why a run recommends an item to a user or a bare history."""
    if (user is None) == (history is None):
        raise OnomaError("give either --user or --history", where="explain")
    from onoma import explanation
    from onoma.run import open_run

    opened = open_run(path)
    dataset = opened.dataset
    requests = asked(opened, user, history)
    model = opened.recommender
    chosen = method or explanation.default_method(model)
    attribution = explanation.build(chosen, opened.split, seed)
    if item is None:
        target = int(model.recommend(requests, 1).items[0, 0])
        if target < 0:
            raise OnomaError("there is nothing left to recommend", where="explain")
    else:
        target = int(dataset.item_codes([item])[0])
        if target < 0:
            raise OnomaError(f"no item {item!r} in {dataset.name}", where="--item")
    (found,) = explanation.explain(
        model, requests.history[0], [target], attribution,
        attributes=explanation.SharedAttributes(dataset.items), index=getattr(model, "index", None),
    )  # fmt: skip
    told = explanation.titled(dataset, found)
    if json:
        show.emit({"run": str(path), "user": user, **told})
        return
    rows = [
        [entry["title"], entry["item_id"], f"{entry['contribution']:+.4f}"]
        for entry in told["contributions"][:k]
    ]
    title = f"{told['title']} [{told['item_id']}], score {found.score:.3f}, by {chosen}"
    show.print_table(show.grid(title, ["history", "id", "contribution"], rows))
    for reason in told["reasons"]:
        typer.echo(f"- {reason['text']}")
