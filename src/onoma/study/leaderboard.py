"""``onoma leaderboard``: data sets x recipes x seeds, each cell run once and kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.recipe import Recipe, packaged
from onoma.study.rows import Row, Rows
from onoma.study.standings import keys_of, standings, write_page

LONG = 20.0  # minutes: a recipe whose first seed takes longer runs with one seed


def leaderboard(
    data: Sequence[str],
    out: str | Path,
    *,
    recipes: Sequence[str] = (),
    seeds: int = 3,
    budget: float | None = None,
    overrides: Sequence[str] = (),
    work: str | Path = "runs/leaderboard",
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run what is missing of a grid, then render all rows that are there.

    A finished :class:`Row` is a folder ``out/DATASET/RECIPE-seedN``. Its key is a hash of recipe,
    data and version; equal keys are never run again, an interrupted run goes on from its
    checkpoint. With no data nothing is run.

    Args:
        data: folders, files or ``packaged:movielens``; none to render only.
        out: the results folder; ``leaderboard.json`` and ``leaderboard.html`` go here too.
        recipes: packaged names or YAML paths; all packaged ones where none is given.
        seeds: seeds a recipe; one where the first took longer than 20 minutes.
        budget: minutes; no new run starts once they are spent.
        overrides: ``key=value`` words for every recipe.
        work: where weights and checkpoints of the runs lie.
        quiet: no progress bars.
        tell: called with a line after each cell.

    Returns:
        What :func:`onoma.study.standings.standings` makes of the rows, with ``pending`` (cells
        the budget left out), ``skipped`` (cell to reason) and ``ran``.

    Raises:
        OnomaError: an unknown recipe, unreadable data, two rows of one name, or no row at all.
    """
    out, work = Path(out), Path(work)
    began = time.monotonic()
    pending: list[str] = []
    skipped: dict[str, str] = {}
    ran: list[str] = []
    # Every recipe's first seed comes before anybody's second: a short budget tells the most.
    for row in _grid(data, recipes or packaged(), seeds, overrides, out):
        if row.finished():
            continue
        first = row.folder.with_name(f"{row.recipe.name}-seed0")
        if row.recipe.seed and (_minutes(first) > LONG or f"{first.parent.name}/{first.name}" in
                                skipped):  # fmt: skip
            continue
        if budget is not None and time.monotonic() - began > 60 * budget:
            pending.append(row.name)
            continue
        if row.replaces():
            tell(f"{row.name}: replaces a row of other settings, data or version")
        try:
            done = row.run(work, overrides, quiet=quiet)
        except OnomaError as error:
            # A catalogue without text cannot feed a text model; the other rows still can run.
            skipped[row.name] = str(error)
            tell(f"{row.name}: skipped, {error}")
            continue
        ran.append(row.name)
        figures = done.metrics["test"]
        tell(f"{row.name}: " + ", ".join(f"{k} {figures[k]:.4f}" for k in keys_of(figures)))
    result: dict[str, Any] = standings(out)
    result |= {"pending": pending, "skipped": skipped, "ran": ran}
    write_text(json.dumps(result, indent=2) + "\n", out / "leaderboard.json")
    write_page(result, out / "leaderboard.html")
    return result


def _grid(
    data: Sequence[str], recipes: Sequence[str], seeds: int, overrides: Sequence[str], out: Path
) -> list[Row]:
    rows = Rows(out)
    return [
        rows.row(Recipe.load(name, [*overrides, f"seed={seed}"]), place)
        for seed in range(seeds)
        for place in data
        for name in recipes
    ]


def _minutes(folder: Path) -> float:
    try:
        seconds = json.loads((folder / "metrics.json").read_text("utf-8"))["seconds"]["total"]
    except (OSError, ValueError, KeyError):
        return 0.0
    return float(seconds) / 60
