"""What the verbs print: tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("recall", "ndcg", "mrr")


def emit(value: object) -> None:
    """One JSON document on stdout; what is not finite becomes null."""
    json.dump(_finite(value), sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(table: Table) -> None:
    """A table on stdout, as wide as its content where stdout is no terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    # Above the table, not as its title: a title is wrapped to the width of the columns.
    title, table.title = table.title, None
    if title:
        console.print(title, highlight=False, markup=False, soft_wrap=True)
    console.print(table)


def grid(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table with text on the left and figures on the right."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, box=SIMPLE_HEAD, show_edge=False)
    for place, name in enumerate(head):
        table.add_column(escape(name), justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def columns(figures: Mapping[str, Any], cuts: Sequence[int] = (5, 10, 20)) -> list[str]:
    """The metric keys worth a column, such as ``recall@10``."""
    found = [f"{name}@{k}" for name in SHOWN for k in cuts if f"{name}@{k}" in figures]
    return found or [name for name in ("auc", "uauc") if name in figures]


def figure(value: object) -> str:
    """A metric with four decimals, or a dash."""
    return f"{value:.4f}" if isinstance(value, int | float) else "–"


def with_interval(figures: Mapping[str, Any], key: str) -> str:
    """``.0921 ± .0036``: half the width of the 95 % interval."""
    interval = figures.get("ci95", {}).get(key)
    text = figure(figures.get(key))
    return f"{text} ± {(interval[1] - interval[0]) / 2:.4f}" if interval else text


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Test figures of a run, its modes, and the published ones below."""
    from onoma.evaluation.likes import majority

    test: Mapping[str, Any] = metrics.get("test", {})
    keys = columns(test, (5, 10)) or columns(test, (1, 3))
    masked = metrics.get("protocol", {}).get("mask_seen", True)
    rows: list[list[object]] = []
    modes: Mapping[str, Any] = metrics.get("modes") or {"": test}
    for mode, figures in modes.items():
        name = f"{metrics.get('recipe', 'run')}" + (f", {mode}" if len(modes) > 1 else "")
        rows.append([name, *(with_interval(figures, key) for key in keys)])
    for name, label in (("test_unmasked", "seen items kept"), ("test_masked", "seen items masked")):
        if name in metrics:
            rows.append([f"  {label}", *(figure(metrics[name].get(key)) for key in keys)])
    if "valid" in metrics:
        rows.append(["  validation", *(figure(metrics["valid"].get(key)) for key in keys)])
    for name, figures in metrics.get("beside", {}).items():
        rows.append([f"{name}, same cases", *(with_interval(figures, key) for key in keys)])
    for name, row in majority(test).items():
        rows.append([name, *(figure(row.get(key)) for key in keys)])
    for name, figures in metrics.get("published", {}).items():
        rows.append([f"{name} (published)", *(figure(figures.get(key)) for key in keys)])
    data = metrics.get("dataset", {})
    title = (
        f"{data.get('name', '')}: test, {test.get('cases', '?')} cases, "
        f"{metrics.get('protocol', {}).get('ranked', 'whole catalogue')} of "
        f"{data.get('items', '?')} items, seen items {'masked' if masked else 'kept'}"
    )
    return grid(title, ["", *keys], rows)


def cost_line(metrics: Mapping[str, Any]) -> str:
    """What a test case took of a language model and gained by it; empty where none was asked."""
    cost: Mapping[str, Any] = metrics.get("cost", {})
    if not cost:
        return ""
    said = (
        f"a case took {cost['calls']:.1f} calls, {cost['prompt_tokens']:.0f} tokens read and "
        f"{cost['completion_tokens']:.0f} written"
    )
    gain = cost.get("gain", {})
    key = next(reversed([key for key in gain if key.startswith("ndcg")]), None)
    if key:
        said += f"; 1,000 tokens gain {gain[key]:+.4f} {key} over any order"
    bad = metrics.get("test", {}).get("unanswered", 0)
    return f"{said}; {bad} answers of no use" if bad else said


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
