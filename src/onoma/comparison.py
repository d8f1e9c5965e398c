"""Finished runs on the same cases, paired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onoma.errors import OnomaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from onoma.run import Run


def comparison(runs: Sequence[Run], keys: Sequence[str], measure: bool = True) -> dict[str, Any]:
    """Paired tests between runs; the first is the baseline.

    Args:
        runs: two or more.
        keys: metrics, such as ``ndcg@10``.
        measure: ask a run's model again where its figures a case are not stored.

    Returns:
        ``dataset``, ``cases``, ``test`` (the words), ``metrics`` (of each key one row a run:
        ``run``, ``mean``, ``difference``, ``low``, ``high``, ``p``, ``p_holm``) and ``seeds``
        (mean and interval of recipes that are there with several seeds).

    Raises:
        OnomaError: the runs were asked different questions, or lack the metric; or figures are
            not stored and are not to be measured.
    """
    import numpy as np

    from onoma.evaluation.cases import question
    from onoma.evaluation.significance import compare as paired
    from onoma.evaluation.significance import holm

    first = runs[0]
    for other in runs[1:]:
        if question(other.metrics) != question(first.metrics):
            raise _unlike(other, first)
    figures = [per_case(run, measure) for run in runs]
    for other, columns in zip(runs[1:], figures[1:], strict=True):
        if not np.array_equal(columns["user"], figures[0]["user"]):
            raise _unlike(other, first)
    labels = _labels(runs)
    tables: dict[str, list[dict[str, Any]]] = {}
    for key in keys:
        for run, columns in zip(runs, figures, strict=True):
            if key not in columns or key == "user":
                raise OnomaError(
                    f"no metric {key!r}", where=str(run.path),
                    fix=f"It has {', '.join(c for c in columns if c != 'user')}",
                )  # fmt: skip
        base = figures[0][key].astype(np.float64)
        rows: list[dict[str, Any]] = [{"run": labels[0], "mean": float(base.mean())}]
        for label, columns in zip(labels[1:], figures[1:], strict=True):
            values = columns[key].astype(np.float64)
            row = paired(base, values).as_dict()
            rows.append({"run": label, "mean": float(values.mean()), **row})
        for row, adjusted in zip(rows[1:], holm([row["p"] for row in rows[1:]]), strict=True):
            row["p_holm"] = adjusted
        tables[key] = rows
    return {
        "dataset": first.metrics["dataset"]["name"],
        "cases": len(figures[0]["user"]),
        "test": "difference to the first run; paired bootstrap interval, two-sided sign-flip "
        "permutation test with 10,000 draws, Holm's correction over the runs",
        "metrics": tables,
        "seeds": _seeds(runs, figures, keys),
    }


def per_case(run: Run, measure: bool = True) -> dict[str, NDArray[np.generic]]:
    """The run's test figures, one a case: stored, or measured again and stored.

    Raises:
        OnomaError: they are not stored and are not to be measured, or are answers to yes-or-no
            questions.
    """
    from onoma.evaluation.cases import read_cases, write_cases
    from onoma.run import evaluation

    known = read_cases(run.path)
    if known is not None and _belong(known, run.metrics["test"]):
        return known
    if run.recipe.data.protocol == "likes":
        raise OnomaError(
            "its questions are of yes or no, and have no figures to pair", where=str(run.path),
            fix="Name the other recipe in evaluate.beside",
        )  # fmt: skip
    if not measure:
        raise OnomaError(
            "its figures a case are not stored", where=run.path.name,
            fix="onoma compare measures them again",
        )  # fmt: skip
    write_cases(evaluation(run), run.path)
    stored = read_cases(run.path)
    assert stored is not None
    return stored


def _belong(columns: dict[str, NDArray[np.generic]], test: dict[str, Any]) -> bool:
    """Whether stored cases are those of these figures: a run may have been fitted again since."""
    means = {key: float(values.mean(dtype=float)) for key, values in columns.items()}
    return len(columns.get("user", ())) == test.get("cases") and all(
        abs(mean - test.get(key, -1.0)) < 1e-6 for key, mean in means.items() if key != "user"
    )


def _unlike(run: Run, first: Run) -> OnomaError:
    return OnomaError(
        f"other data, split, masking, cases or candidates than {first.path}", where=str(run.path),
        fix="Only runs on the same cases can be paired",
    )  # fmt: skip


def _labels(runs: Sequence[Run]) -> list[str]:
    """Folder names where they differ, else whole paths."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _seeds(
    runs: Sequence[Run], figures: Sequence[dict[str, NDArray[np.generic]]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    from onoma.evaluation.significance import seeds_ci

    groups: dict[str, dict[int, int]] = defaultdict(dict)
    for place, run in enumerate(runs):
        groups[run.recipe.name][run.recipe.seed] = place
    rows = []
    for recipe, seeds in groups.items():
        if len(seeds) < 2:
            continue
        for key in keys:
            means = [float(figures[place][key].mean(dtype=float)) for place in seeds.values()]
            mean, low, high = seeds_ci(means)
            rows.append(
                {"recipe": recipe, "metric": key, "seeds": len(seeds), "mean": mean,
                 "low": low, "high": high}
            )  # fmt: skip
    return rows
