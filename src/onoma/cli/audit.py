"""``onoma data audit``: what a benchmark on this data can and cannot prove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onoma.cli import show

if TYPE_CHECKING:
    from onoma.evaluation.audit import Audit

EXAMPLES = (
    "onoma data audit packaged:movielens",
    "onoma data audit data/beauty --out beauty-audit",
    "onoma data audit ratings.csv --json > audit.json",
)
_COLOURS = {"leak": "bold red", "caution": "yellow", "fine": "green"}


def audit(
    path: Annotated[str, typer.Argument(metavar="DIR", help="A folder, a file, or packaged:NAME.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for audit.html and audit.json.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Of the tie shuffles and samples.")] = 0,
) -> None:
    """Leaks, ties, repeats, cold targets, shortcuts and training-free floors, before training.

    Examples:
    onoma data audit packaged:movielens

    onoma data audit data/beauty --out beauty-audit

    onoma data audit ratings.csv --json > audit.json
    """
    from onoma.dataset.load import load
    from onoma.evaluation.audit import audit as run_audit

    result = run_audit(load(path), seed=seed)
    if out is not None:
        write(result, out)
    if json:
        show.emit(result.as_dict())
    else:
        summarise(result, out)


def write(result: Audit, folder: Path) -> None:
    """Write ``audit.html`` and ``audit.json``.

    Raises:
        OnomaError: the folder cannot be written.
    """
    import json as text

    from onoma.dataset.files import write_text
    from onoma.errors import OnomaError
    from onoma.evaluation.audit_page import page

    try:
        write_text(text.dumps(result.as_dict(), indent=2) + "\n", folder / "audit.json")
        write_text(page(result), folder / "audit.html")
    except OSError as error:
        raise OnomaError(
            f"cannot write ({error.strerror})", where=str(folder), fix="Choose another --out"
        ) from error


def summarise(result: Audit, out: Path | None = None) -> None:
    """Print findings, floors and advice."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from onoma.evaluation.audit_page import floor_name

    console = Console()
    data = result.data
    console.print(
        Text(
            f"{data['name']}: {data['users']:,} users, {data['items']:,} items, "
            f"{data['interactions']:,} interactions, {data['test_cases']:,} test cases "
            f"(leave-one-out, hash {data['hash']})",
            style="bold",
        )
    )
    for one in result.findings:
        line = Text(f"{one.level:<8}", style=_COLOURS[one.level])
        line.append(f"{one.check}: {one.text}", style="default not bold")
        console.print(line)
    rows = [
        [floor_name(row), show.with_interval(row, "recall@10"), show.with_interval(row, "ndcg@10")]
        for row in result.floors
    ]
    console.print()
    show.print_table(show.grid("Floors on test, no training", ["", "recall@10", "ndcg@10"], rows))
    console.print(Text("Advised protocol", style="bold"))
    for number, line_text in enumerate(result.advice, 1):
        console.print(Padding(Text(f"{number}. {line_text}"), (0, 0, 0, 2)))
    if out is not None:
        console.print(Text(f"written: {out / 'audit.html'}, {out / 'audit.json'}"))
