"""The runs of a folder: what each is, how far it is, and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from onoma.errors import OnomaError

State = Literal["finished", "unfinished", "damaged"]


@dataclass(frozen=True)
class Entry:
    """A run directory.

    Attributes:
        name: of the folder.
        state: ``unfinished`` where there is no ``metrics.json`` yet.
        recipe: its recipe's name.
        data: the data set's name.
        split: hash of the split; only runs with the same one can be paired.
        cut: the k of the figures.
        ndcg: test NDCG@k.
        low: lower end of its 95 % interval.
        high: upper end.
        recall: test Recall@k.
        seconds: of training.
        parameters: of the model.
        written: Unix seconds of its last file.
    """

    name: str
    state: State
    recipe: str = ""
    data: str = ""
    split: str = ""
    cut: int = 10
    ndcg: float | None = None
    low: float | None = None
    high: float | None = None
    recall: float | None = None
    seconds: float | None = None
    parameters: int | None = None
    written: float = 0.0


def shelf(folder: Path) -> list[Entry]:
    """The runs of a folder, those of one data set together, the best first."""
    found = [
        _entry(path.parent)
        for path in folder.glob("*/recipe.yaml")
        if not path.parent.name.startswith(".")
    ]
    return sorted(found, key=lambda one: (one.data, -(one.ndcg or 0.0), one.name))


def inside(folder: Path, name: str) -> Path:
    """The run of a name in a folder.

    Raises:
        OnomaError: there is no such run.
    """
    if name in {path.parent.name for path in folder.glob("*/recipe.yaml")}:
        return folder / name
    raise OnomaError(f"no run {name!r} here", where="runs")


def _entry(path: Path) -> Entry:
    recipe = _yaml(path / "recipe.yaml")
    name = str(recipe.get("name", path.name))
    data = Path(str(_map(recipe, "data").get("path") or "")).name.removeprefix("packaged:")
    if not (path / "metrics.json").is_file():
        return Entry(path.name, "unfinished", name, data, written=_written(path))
    try:
        metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict):
        return Entry(path.name, "damaged", name, data, written=_written(path))
    test, known = _map(metrics, "test"), _map(metrics, "dataset")
    cuts = [int(key[5:]) for key in test if key.startswith("ndcg@") and key[5:].isdigit()]
    cut = 10 if 10 in cuts or not cuts else max(cuts)
    interval = _map(test, "ci95").get(f"ndcg@{cut}") or (None, None)
    return Entry(
        path.name, "finished", str(metrics.get("recipe", name)), str(known.get("name", data)),
        str(known.get("split_hash", "")), cut, _number(test.get(f"ndcg@{cut}")),
        _number(interval[0]), _number(interval[1]), _number(test.get(f"recall@{cut}")),
        _number(_map(metrics, "seconds").get("train")), metrics.get("parameters"), _written(path),
    )  # fmt: skip


def _written(path: Path) -> float:
    return max((one.stat().st_mtime for one in path.iterdir() if one.is_file()), default=0.0)


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _map(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
