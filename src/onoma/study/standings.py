"""The rows of a results folder as tables: means, intervals, paired tests, published figures."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.cases import question, read_cases
from onoma.evaluation.report_page import Dot, dot_chart, number, page, per_cent, section, table
from onoma.evaluation.significance import compare, holm, seeds_ci, share

BASELINE = "sasrec"


def standings(out: str | Path) -> dict[str, Any]:
    """Read every row below a results folder; nothing is run.

    Args:
        out: holds ``DATASET/RECIPE-seedN/row.json`` with ``metrics.json`` beside it.

    Returns:
        ``boards``, one for each data set and question (cut, cases, candidates, masking):
        ``dataset``, ``protocol``, ``keys`` (as :func:`keys_of`), ``published`` and ``rows``, best
        first: ``recipe``, ``seeds``, for each of the keys ``mean``, ``low``, ``high`` (Student
        over seeds, bootstrap over cases where there is one seed), ``seconds``, ``parameters``,
        ``modes``, and ``against``: the paired test of the last key against the ``sasrec`` row,
        with Holm's correction over the rows of the board.

    Raises:
        OnomaError: no readable row.
    """
    groups: dict[tuple[str, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for found in sorted(Path(out).glob("*/*/row.json")):
        row, metrics = _json(found), _json(found.parent / "metrics.json")
        if row and metrics.get("test"):
            asked = repr((question(metrics), keys_of(metrics["test"])))
            groups[metrics["dataset"]["name"], asked][row["recipe"]].append(found.parent)
    if not groups:
        raise OnomaError(
            "no results yet", where=str(out), fix="Give --data DIR, or --data packaged:movielens"
        )
    boards = [_board(recipes) for _, recipes in sorted(groups.items())]
    return {"boards": boards}


def keys_of(test: Mapping[str, Any]) -> tuple[str, ...]:
    """The figures of a row that a table shows, the one that orders it last.

    Recall and NDCG at ten where that is measured, else at the largest cut-off; AUC of
    yes-or-no questions.
    """
    known = list(test["ci95"])
    cuts = {int(key.partition("@")[2]) for key in known if key.startswith("ndcg@")}
    if not cuts:
        return tuple(known)
    k = 10 if 10 in cuts else max(cuts)
    return f"recall@{k}", f"ndcg@{k}"


def _board(recipes: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """One table."""
    metrics = {name: [_json(f / "metrics.json") for f in folders] for name, folders in
               recipes.items()}  # fmt: skip
    first = next(iter(metrics.values()))[0]
    keys = keys_of(first["test"])
    cases = {name: _cases(folders, keys[-1]) for name, folders in recipes.items()}
    rows = [_summary(name, figures, keys) for name, figures in metrics.items()]
    base = cases.get(BASELINE)
    tested = []
    for row in rows:
        own = cases[row["recipe"]]
        if base is not None and own is not None and row["recipe"] != BASELINE:
            paired = compare(base, own)
            row["against"] = {**paired.as_dict(), "share": share(paired.difference, base)}
            tested.append(row["against"])
    for against, p in zip(tested, holm([a["p"] for a in tested]), strict=True):
        against["p_holm"] = p
    rows.sort(key=lambda row: -row[keys[-1]]["mean"])
    published: dict[str, dict[str, float]] = {}
    for figures in metrics.values():
        published |= figures[0].get("published") or {}
    return {
        "dataset": first["dataset"],
        "protocol": first["protocol"],
        "cases": first["test"]["cases"],
        "keys": list(keys),
        "rows": rows,
        "published": published,
    }


def _summary(
    name: str, metrics: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {"recipe": name, "seeds": len(metrics)}
    for key in keys:
        mean, low, high = seeds_ci([figures["test"][key] for figures in metrics])
        if not math.isfinite(low):
            low, high = metrics[0]["test"]["ci95"][key]
        row[key] = {"mean": mean, "low": low, "high": high}
    for key in ("train", "total"):
        row.setdefault("seconds", {})[key] = float(
            np.mean([figures["seconds"].get(key, 0.0) for figures in metrics])
        )
    row["parameters"] = metrics[0].get("parameters", 0)
    modes = list(metrics[0].get("modes", {}))[1:]
    row["modes"] = {
        mode: {k: float(np.mean([figures["modes"][mode][k] for figures in metrics])) for k in keys}
        for mode in modes
    }
    return row


def _cases(folders: Sequence[Path], key: str) -> NDArray[np.float64] | None:
    """float64[cases], a figure of each test case, the mean of the seeds."""
    columns = [read_cases(folder) for folder in folders]
    figures = [c[key].astype(np.float64) for c in columns if c and key in c]
    return np.mean(figures, axis=0) if figures else None


def write_page(result: Mapping[str, Any], path: str | Path) -> None:
    """The leaderboard as one HTML page."""
    parts = []
    for board in result["boards"]:
        about, protocol = board["dataset"], board["protocol"]
        note = (
            f"{protocol['split']}, ties by {protocol['ties']}, {protocol['ranked']} ranked, seen "
            f"items {'masked' if protocol['mask_seen'] else 'kept'}, {board['cases']:,} test "
            f"cases, data hash {about['hash']}."
        )
        parts.append(
            section(
                about["name"],
                f'<div class="pair">{_chart(board)}</div><br>',
                table(head(board), lines(board), strong=1),
                note=note,
            )
        )
    left = [[name, "no time left"] for name in result.get("pending", [])]
    left += [[name, reason] for name, reason in result.get("skipped", {}).items()]
    parts.append(section("Not run", table(["row", "why"], left)))
    subtitle = (
        "Test figures; validation chose the weights. Intervals are Student's over seeds, or a "
        f"bootstrap over users where there is one seed; p is of a paired test against {BASELINE}, "
        "with Holm's correction. Published figures are the papers' own."
    )
    write_text(page("Leaderboard", subtitle, parts), path)


def head(board: Mapping[str, Any]) -> tuple[str, ...]:
    """The head of a board's table."""
    return (
        "recipe", "seeds", *board["keys"], f"against {BASELINE}", "p (Holm)", "train s", "total s",
        "parameters",
    )  # fmt: skip


def lines(board: Mapping[str, Any]) -> list[list[str]]:
    """The cells of a board's table: our rows and their other modes, then the published ones."""
    out, keys = [], board["keys"]
    for row in board["rows"]:
        against = row.get("against")
        tested = [per_cent(against["share"]), number(against["p_holm"])] if against else ["", ""]
        seconds = row["seconds"]
        out.append(
            [
                row["recipe"],
                f"{row['seeds']}",
                *(
                    f"{row[key]['mean']:.4f} ({row[key]['low']:.4f} to {row[key]['high']:.4f})"
                    for key in keys
                ),
                *tested,
                f"{seconds['train']:.0f}",
                f"{seconds['total']:.0f}",
                f"{row['parameters']:,}",
            ]
        )
        out += [
            [f"{row['recipe']}, {mode}", f"{row['seeds']}", *(number(f[key]) for key in keys),
             "", "", "", "", ""]
            for mode, f in row["modes"].items()
        ]  # fmt: skip
    order = sorted(board["published"].items(), key=lambda pair: -pair[1].get(keys[-1], 0.0))
    out += [
        [f"{source} (published)", "", *(number(f.get(key)) for key in keys), "", "", "", "", ""]
        for source, f in order
    ]
    return out


def _chart(board: Mapping[str, Any]) -> str:
    key = board["keys"][-1]
    dots = [
        Dot(row["recipe"], row[key]["mean"], row[key]["low"], row[key]["high"], ours=True)
        for row in board["rows"]
    ]
    dots += [
        Dot(f"{source} (published)", figures[key])
        for source, figures in board["published"].items()
        if key in figures
    ]
    return dot_chart(key.upper(), dots)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
