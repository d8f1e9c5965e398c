"""``onoma index``: the names of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onoma.cli import show
from onoma.errors import OnomaError

app = typer.Typer(help="Look at the names of a run.", add_completion=False, no_args_is_help=True)


@app.callback()
def index() -> None:
    """Look at the names of a run."""


@app.command(
    epilog="Examples:\n\nonoma index health runs/flagship-movielens\n\n"
    "onoma index health runs/flagship-movielens --json"
)
def health(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run or index directory.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Collisions, use and entropy of each level, balance of the prefixes."""
    folder = path if (path / "index.json").is_file() else path / "index"
    if not (folder / "index.json").is_file():
        raise OnomaError(
            "no names here (index/index.json is missing)", where=str(path),
            fix="Only recommenders that spell names have an index",
        )  # fmt: skip
    from onoma.indexing import Health, ItemIndex

    report = Health.of(ItemIndex.load(folder))
    if json:
        show.emit(report.to_dict())
    else:
        show.print_table(report.table())
