"""``onoma demo``: the whole path on real ratings, and a table that a stranger can judge."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from onoma.recipe import Recipe
from onoma.recommenders.base import Requests
from onoma.run import Run, run

DATA = "packaged:movielens"
ORDER = ("popular", "markov", "graph", "itemknn", "ease", "sasrec", "flagship")
SHOWN = ("recall@10", "ndcg@10")


def demo(out: str | Path = "runs/demo") -> list[Run]:
    """Train the baselines and the flagship on MovieLens and compare them.

    Args:
        out: each recipe's run directory is made below it.

    Prints the comparison with intervals and a few users' lists with titles.

    Raises:
        OnomaError: the ``demo`` extra is missing.
    """
    console, out = Console(), Path(out)
    began = time.monotonic()
    runs = []
    for name in ORDER:
        recipe = Recipe.load(name)
        console.print(f"[bold]{name}[/]  {recipe.about}", highlight=False)
        runs.append(run(recipe, DATA, out / name))
    console.print(comparison(runs))
    for lines in examples(runs[-1]):
        console.print(lines, highlight=False)
    seconds = time.monotonic() - began
    console.print(f"\n{seconds:.0f} s. Reports: {out}/*/report.html", highlight=False)
    console.print(f"Next: onoma recommend {out / 'flagship'} --user 1 -k 10", highlight=False)
    return runs


def comparison(runs: list[Run]) -> Table:
    """One row a run, and the flagship's other modes."""
    first = runs[0].metrics
    about = first["dataset"]
    table = Table(
        title=f"{about['name']}: {about['users']:,} users, {about['items']:,} items, "
        f"{about['interactions']:,} interactions; {first['protocol']['split']}, whole catalogue, "
        f"{about['test_cases']:,} test cases"
    )
    for head in ("recommender", *SHOWN, "seconds"):
        table.add_column(head, justify="left" if head == "recommender" else "right", no_wrap=True)
    best = max(done.metrics["test"]["ndcg@10"] for done in runs)
    for done in runs:
        metrics = done.metrics
        for mode, figures in metrics["modes"].items():
            mode_name = f": {mode.replace('_', ' ')}" if len(metrics["modes"]) > 1 else ""
            cells = [f"{done.recipe.name}{mode_name}"]
            for key in SHOWN:
                low, high = figures["ci95"][key]
                cells.append(f"{figures[key]:.4f} ± {(high - low) / 2:.4f}")
            first_row = mode == next(iter(metrics["modes"]))
            cells.append(f"{metrics['seconds']['total']:.0f}" if first_row else "")
            table.add_row(*cells, style="bold" if figures["ndcg@10"] == best else "")
    return table


def examples(done: Run, users: int = 3, k: int = 10) -> list[str]:
    """For a few test users: the last items they had, and the list, hits marked."""
    cases, dataset = done.split.test, done.dataset
    rows = np.sort(np.random.default_rng(7).permutation(len(cases))[:users])
    chosen = cases.take(rows)
    ranking = done.recommender.recommend(Requests.of(chosen), k)
    lines = []
    for row in range(len(chosen)):
        user = dataset.users["user_id"][int(chosen.users[row])]
        had = ", ".join(dataset.titles(chosen.history[row][-5:]))
        lines.append(f"\n[bold]User {user}[/] after {had}")
        titles = dataset.titles(ranking.items[row])
        for place, (item, title) in enumerate(zip(ranking.items[row], titles, strict=True), 1):
            hit = "  [green]<- watched next[/]" if item in chosen.targets[row] else ""
            lines.append(f"  {place:>2}. {title}{hit}")
    return lines
