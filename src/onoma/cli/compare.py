"""``onoma compare``: paired tests between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onoma.cli import show
from onoma.errors import OnomaError


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run directories.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Such as ndcg@10; may be given again.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page, too.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Paired tests between runs on the same cases; the first is the baseline."""
    from onoma.comparison import comparison
    from onoma.run import open_run

    if len(paths) < 2:
        raise OnomaError("two runs are needed", where="compare")
    runs = [open_run(path) for path in paths]
    result = comparison(runs, tuple(metric) if metric else ("recall@10", "ndcg@10"))
    if html is not None:
        from onoma.evaluation.comparison_page import write_comparison

        write_comparison(result, html)
    if json:
        show.emit(result)
        return
    for key, rows in result["metrics"].items():
        table = show.grid(
            f"{key} on {result['dataset']}, {result['cases']} cases",
            ["", key, "difference", "95 % interval", "p", "p (Holm)"],
            [_line(row) for row in rows],
        )
        show.print_table(table)
    for row in result["seeds"]:
        typer.echo(
            f"{row['recipe']}: {row['metric']} {row['mean']:.4f} over {row['seeds']} seeds, "
            f"95 % interval {row['low']:.4f} to {row['high']:.4f}"
        )
    typer.echo(result["test"])
    if html is not None:
        typer.echo(str(html))


def _line(row: dict[str, Any]) -> list[str]:
    if "p" not in row:
        return [row["run"], f"{row['mean']:.4f}", "baseline", "", "", ""]
    return [
        row["run"],
        f"{row['mean']:.4f}",
        f"{row['difference']:+.4f}",
        f"{row['low']:+.4f} to {row['high']:+.4f}",
        _p(row["p"]),
        _p(row["p_holm"]),
    ]


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}"
