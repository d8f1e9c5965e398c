"""``onoma recommend``: what a run answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onoma.cli import show
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.dataset import Dataset, Ragged
    from onoma.recommenders import Requests
    from onoma.run import Run


def recommend(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    user: Annotated[str | None, typer.Option(help="A user id of the data.")] = None,
    history: Annotated[
        str | None, typer.Option(help="Item ids, oldest first, separated by commas.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.", min=1, max=10_000)] = 10,
    mode: Annotated[str | None, typer.Option(help="One of the recommender's modes.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Item ids never to answer, separated by commas.")
    ] = None,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Let items of the history be answers.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a run answers to a user or a bare history."""
    if (user is None) == (history is None):
        raise OnomaError("give either --user or --history", where="recommend")
    from onoma.run import open_run

    opened = open_run(path)
    dataset = opened.dataset
    requests = asked(opened, user, history)
    banned = codes_of(dataset, exclude, "--exclude") if exclude else None
    model = opened.recommender
    if mode is not None and mode not in model.modes:
        raise OnomaError(
            f"{model.name} has no mode {mode!r}", where="--mode",
            fix=f"Use one of {', '.join(model.modes)}",
        )  # fmt: skip
    requests = replace(requests, exclude=banned, mask_seen=not repeats)
    answer = model.recommend(requests, min(k, dataset.n_items), mode=mode)
    found = answer.items[0][answer.items[0] >= 0]
    ids, titles = answer.ids(dataset)[0], dataset.titles(found)
    scores = [float(score) for score in answer.scores[0][: len(found)]]
    had = requests.history[0]
    if json:
        show.emit(
            {
                "run": str(path),
                "user": user,
                "history": [str(dataset.item_ids[code]) for code in had],
                "mode": mode or model.modes[0],
                "items": [
                    {"item_id": i, "title": t, "score": s}
                    for i, t, s in zip(ids, titles, scores, strict=True)
                ],
            }
        )
        return
    typer.echo("history: " + (", ".join(dataset.titles(had[-5:])) or "none"))
    rows = [
        [rank, i, t, f"{s:.3f}"]
        for rank, (i, t, s) in enumerate(zip(ids, titles, scores, strict=True), start=1)
    ]
    show.print_table(show.grid("", ["", "id", "title", "score"], rows))


def asked(opened: Run, user: str | None, history: str | None) -> Requests:
    """What ``--user`` or ``--history`` asks: a known user as the evaluation tells one."""
    from onoma.recommenders import Requests
    from onoma.run import known

    dataset = opened.dataset
    if user is None:
        return Requests(codes_of(dataset, history or "", "--history"))
    code = dataset.user_code(user)
    if code < 0:
        raise OnomaError(f"no user {user!r} in {dataset.name}", where="--user")
    return known(opened.recipe, dataset, code)


def codes_of(dataset: Dataset, words: str, where: str) -> Ragged:
    """One row of item codes from ``a,b,c``."""
    from onoma.dataset import Ragged

    ids: Sequence[str] = [word.strip() for word in words.split(",") if word.strip()]
    if not ids:
        raise OnomaError("no item ids", where=where, fix="For example: --history 260,1196")
    codes = dataset.item_codes(ids)
    unknown = [i for i, code in zip(ids, codes, strict=True) if code < 0]
    if unknown:
        raise OnomaError(f"no item {unknown[0]!r} in {dataset.name}", where=where)
    return Ragged.from_rows([codes])
