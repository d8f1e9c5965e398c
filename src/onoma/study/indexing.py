"""``onoma study indexing``: one backbone, one budget, several seeds, a list of ways of naming."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import write_text
from onoma.errors import MissingColumn, OnomaError
from onoma.evaluation.cases import read_cases
from onoma.evaluation.significance import compare, seeds_ci
from onoma.recipe import Recipe
from onoma.run import Run
from onoma.study.published import PROTOCOL, PUBLISHED, order_note, reversed_pairs
from onoma.study.rows import KEYS, Rows

INDICES: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "title": {"method": "title"},
    "independent": {"method": "independent"},
    "sequential": {"method": "sequential"},
    "semantic": {"method": "semantic"},
    "collaborative": {"method": "collaborative"},
    "collaborative-control": {"method": "collaborative", "control": True},
    "sequential+iid": {"method": "hybrid", "first": "sequential"},
    "semantic+iid": {"method": "hybrid", "first": "semantic"},
    "collaborative+iid": {"method": "hybrid", "first": "collaborative"},
    "semantic+collaborative": {"method": "hybrid", "first": "semantic", "second": "collaborative"},
    "rqkmeans": {"method": "rqkmeans"},
    "rqkmeans-joined": {"method": "rqkmeans", "encoder": ["content", "collaborative"]},
    "uniform-joined": {"method": "uniform", "encoder": ["content", "collaborative"]},
    "rqkmeans-log": {"method": "rqkmeans", "encoder": "collaborative"},
    "rqkmeans-graph": {"method": "rqkmeans", "encoder": {"name": "smoothed", "of": "content"}},
    "hkmeans": {"method": "hkmeans"},
    "pq": {"method": "pq"},
    "opq": {"method": "opq"},
    "lsh": {"method": "lsh"},
    "balanced": {"method": "balanced"},
    "uniform": {"method": "uniform"},
    "rqvae": {"method": "rqvae"},
    "rqkmeans+": {"method": "rqkmeans+"},
    "fsq": {"method": "fsq"},
    "parallel": {"method": "parallel"},
    "graph": {"method": "graph"},
    "letter": {"method": "letter"},
    "modal": {"method": "modal"},
    "streaming": {"method": "streaming"},
}
CONTENT = "content"  # stands for the recipe's own encoder
DEFAULT = "rqkmeans"  # what the others are tested against
RECIPE = "packed"  # knows items by their names alone
BUDGET = (
    "recommender.train.epochs=8",
    "recommender.train.valid_every=8",
    "recommender.beam=20",
    "evaluate.ks=[5, 10]",
    "evaluate.modes=[generate]",
)


def indexing(
    data: str,
    out: str | Path,
    *,
    methods: Sequence[str] = tuple(INDICES),
    seeds: Sequence[int] = (0, 1, 2),
    recipe: str = RECIPE,
    overrides: Sequence[str] = (),
    work: str | Path = "runs/names",
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train one recipe once a way of naming and seed and compare what generate mode answers.

    Everything but the names is the same: the network, the budget, the beam, the evaluation.
    Finished rows below ``out`` are kept, so an interrupted study goes on where it was.

    Args:
        data: as for :func:`onoma.run.run`.
        out: has a folder of each data set, for ``study.json``, ``study.html`` and, for each method
            and seed, a :class:`~onoma.study.rows.Row` called ``METHOD-seedN``.
        methods: names of ``INDICES``.
        seeds: of naming and training.
        recipe: what is trained: one whose recommender has an ``index`` and generates.
        overrides: ``key=value`` words for every run, after those of the budget.
        work: where weights and checkpoints of the runs lie.
        quiet: no progress bars.
        tell: called with a line after each run.

    Returns:
        ``dataset``, ``budget``, ``rows`` (best first: ``index``, ``seeds``, and for each metric
        ``mean``, ``low``, ``high``; ``seconds``; ``invalid``, answers outside the catalogue or
        given twice over all seeds' test cases, which is 0; ``against``, the paired test of NDCG@10
        against ``rqkmeans`` where that is among them), ``published`` (index to figures of S001, all
        its rows), ``published_protocol``, ``reversed`` (pairs whose order differs from the
        published), ``skipped`` (index to reason) and ``advice``.

    Raises:
        OnomaError: an unknown method, or none that this catalogue allows.
    """
    unknown = [name for name in methods if name not in INDICES]
    if unknown or not seeds:
        what = f"no index is called {unknown[0]!r}" if unknown else "no seeds"
        raise OnomaError(what, where="study", fix=f"Known: {', '.join(INDICES)}")
    rows_of, work = Rows(out), Path(work)
    done: dict[str, list[Run]] = {}
    skipped: dict[str, str] = {}
    for seed in seeds:
        for name in methods:
            if name in skipped:
                continue
            named = f"recommender.index={json.dumps(_index(name, recipe, overrides))}"
            words = [*BUDGET, *overrides, named]
            cell = rows_of.row(Recipe.load(recipe, [*words, f"seed={seed}"]), data, name)
            if not cell.finished():
                try:
                    cell.run(work, words, quiet=quiet)
                except MissingColumn as error:
                    # A catalogue without categories cannot be named by them; the others can.
                    skipped[name] = str(error)
                    tell(f"{name}: skipped, {error}")
                    continue
                tell(f"{name}, seed {seed}: " + _said(cell.kept()))
            done.setdefault(name, []).append(cell.kept())
    if not done:
        raise OnomaError("no way of naming fits this catalogue", where=str(data))
    known = {name: _cases(runs) for name, runs in done.items()}
    rows = [_row(name, runs) for name, runs in done.items()]
    if DEFAULT in known:
        for row in rows:
            if row["index"] != DEFAULT:
                paired = compare(known[DEFAULT], known[row["index"]])
                row["against"] = {
                    **paired.as_dict(),
                    "share": paired.difference / known[DEFAULT].mean(),
                }
    rows.sort(key=lambda row: -row["ndcg@10"]["mean"])
    first = next(iter(done.values()))[0]
    published = PUBLISHED.get(first.metrics["dataset"]["name"], {})
    result = {
        "dataset": first.metrics["dataset"],
        "protocol": first.metrics["protocol"],
        "recipe": recipe,
        "budget": first.recipe.recommender["train"],
        "rows": rows,
        "skipped": skipped,
        "published": published,
        "published_protocol": PROTOCOL if published else None,
        "reversed": reversed_pairs(rows, published),
        "advice": _advice(first.metrics["dataset"]["name"], rows),
    }
    folder = rows_of.out / first.metrics["dataset"]["name"]
    write_text(json.dumps(result, indent=2) + "\n", folder / "study.json")
    write_text(_page(result), folder / "study.html")
    return result


def _index(name: str, recipe: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The index section, with the recipe's encoder where the list says ``content``."""
    index = dict(INDICES[name])
    own = Recipe.load(recipe, list(overrides)).recommender.get("encoder", "tfidf")
    match index.get("encoder"):
        case list(parts):
            index["encoder"] = [own if part == CONTENT else part for part in parts]
        case {"of": of, **rest}:
            index["encoder"] = {**rest, "of": own if of == CONTENT else of}
    return index


def _said(done: Run) -> str:
    figures = done.metrics["modes"]["generate"]
    return ", ".join(f"{key} {figures[key]:.4f}" for key in KEYS)


def _cases(runs: Sequence[Run]) -> NDArray[np.float64]:
    """float64[cases], NDCG@10 of each test case, the mean of its seeds."""
    figures = []
    for done in runs:
        columns = read_cases(done.path)
        if columns is None:
            raise OnomaError(
                "no readable cases.parquet", where=str(done.path), fix="Delete the run"
            )
        figures.append(columns["ndcg@10"].astype(np.float64))
    return np.mean(figures, axis=0)


def _row(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Mean and interval over seeds; with a single seed the interval over users."""
    row: dict[str, Any] = {"index": name, "seeds": len(runs)}
    for key in KEYS:
        figures = [done.metrics["modes"]["generate"][key] for done in runs]
        mean, low, high = seeds_ci(figures)
        if not math.isfinite(low):
            low, high = runs[0].metrics["modes"]["generate"]["ci95"][key]
        row[key] = {"mean": mean, "low": low, "high": high}
    seconds = [done.metrics["seconds"] for done in runs]
    row["seconds"] = {k: sum(s[k] for s in seconds) / len(runs) for k in ("index", "train")}
    row["invalid"] = sum(done.metrics["modes"]["generate"]["invalid_items"] for done in runs)
    health = runs[0].metrics["health"]
    row["collisions_before"] = health["before"]["share"]
    row["levels"] = len(health["levels"])
    return row


def _advice(dataset: str, rows: Sequence[Mapping[str, Any]]) -> str:
    best = rows[0]["ndcg@10"]
    level = [row["index"] for row in rows[1:] if row["ndcg@10"]["high"] >= best["low"]]
    words = f"For {dataset}: use {rows[0]['index']}."
    if level:
        words += f" Its interval overlaps with {', '.join(level)}: not told apart here."
    chance = next((row for row in rows if row["index"] == "random"), None)
    if chance is not None and chance is not rows[0] and chance["ndcg@10"]["mean"] > 0:
        gain = best["mean"] / chance["ndcg@10"]["mean"] - 1
        words += f" NDCG@10 is {gain:+.0%} against random names."
    return words


def _tested(against: Mapping[str, float] | None) -> str:
    return "" if against is None else f"{against['share']:+.1%} (p {against['p']:.3f})"


def _page(result: Mapping[str, Any]) -> str:
    from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table

    rows, published = result["rows"], result["published"]
    dots = [
        Dot(row["index"], row["ndcg@10"]["mean"], row["ndcg@10"]["low"], row["ndcg@10"]["high"],
            ours=True)
        for row in rows
    ]  # fmt: skip
    dots += [Dot(f"{name} (published)", figures["ndcg@10"]) for name, figures in published.items()]
    ours = {row["index"]: row for row in rows}
    beside = [
        [name, *(f"{figures[key]:.4f}" for key in KEYS),
         *(f"{ours[name][key]['mean']:.4f}" if name in ours else "" for key in KEYS)]
        for name, figures in sorted(published.items(), key=lambda pair: -pair[1]["ndcg@10"])
    ]  # fmt: skip
    paper = [
        section(
            "Beside the paper (How to Index Item IDs)",
            table(["index", *(f"{key}, {whose}" for whose in ("published", "ours")
                              for key in KEYS)], beside),
            note=f"{order_note(rows, published)} {PROTOCOL}",
        )
    ]  # fmt: skip
    lines = [
        [
            row["index"],
            row["seeds"],
            *(
                f"{row[key]['mean']:.4f} ({row[key]['low']:.4f} to {row[key]['high']:.4f})"
                for key in KEYS
            ),
            row["levels"],
            row["invalid"],
            f"{row['collisions_before']:.1%}",
            _tested(row.get("against")),
            number(row["seconds"]["index"], 1),
            number(row["seconds"]["train"], 0),
        ]
        for row in rows
    ]
    head = [
        "index",
        "seeds",
        *KEYS,
        "levels",
        "invalid",
        "collide before",
        f"against {DEFAULT}",
        "index s",
        "train s",
    ]
    about, protocol = result["dataset"], result["protocol"]
    note = (
        f"Generate mode of {result['recipe']}, {result['budget'].get('epochs')} epochs for "
        "every index; "
        f"{protocol['split']}, whole catalogue, {about['test_cases']:,} test cases, data hash "
        f"{about['hash']}. Intervals are Student's over seeds, or "
        "a bootstrap over users where there is one seed. Published figures may come from other "
        "backbones and budgets."
    )
    left_out = [[name, reason] for name, reason in result["skipped"].items()]
    return page(
        f"How to name the items of {about['name']}",
        result["advice"],
        [
            section("NDCG@10", f'<div class="pair">{dot_chart("NDCG@10", dots)}</div>', note=note),
            section("All figures", table(head, lines, strong=1)),
            *(paper if published else []),
            section("Left out", table(["index", "why"], left_out)),
        ],
    )
