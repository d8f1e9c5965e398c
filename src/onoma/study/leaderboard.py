"""``onoma leaderboard``: data sets x recipes x seeds, each cell run once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from onoma.dataset import Dataset
from onoma.dataset.files import whole_folder, write_text
from onoma.errors import OnomaError
from onoma.evaluation.cases import NAME as CASES
from onoma.recipe import Recipe, packaged
from onoma.run import Run, load_data, run

LONG = 20.0  # minutes: a recipe whose first seed takes longer runs with one seed
_FILES = ("recipe.yaml", "metrics.json", "log.jsonl", CASES)
_PACKAGES = ("torch", "numpy", "scipy", "polars", "transformers")


@dataclass(frozen=True)
class Cell:
    """One recipe on one data set with one seed.

    Attributes:
        recipe: as resolved, with its seed.
        data: what ``--data`` said.
        key: sixteen hex digits over the recipe, the data and the version of Onoma.
        folder: where its row is kept.
    """

    recipe: Recipe
    data: str
    key: str
    folder: Path

    def finished(self) -> bool:
        """Whether the row on disk is of this very recipe and data."""
        return _row(self.folder).get("key") == self.key


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

    A finished row is a folder ``out/DATASET/RECIPE-seedN`` in the manner of BARS (Zhu et al.,
    SIGIR 2022): the resolved recipe, environment, data hash, seed, command, log, metrics and the
    figures of every case. Its key is a hash of recipe, data and version; equal keys are never run
    again, an interrupted run goes on from its checkpoint. With no data nothing is run.

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
        OnomaError: an unknown recipe, unreadable data, or no row at all.
    """
    from onoma.study.standings import standings, write_page

    out, work = Path(out), Path(work)
    began = time.monotonic()
    pending: list[str] = []
    skipped: dict[str, str] = {}
    ran: list[str] = []
    # Every recipe's first seed comes before anybody's second: a short budget tells the most.
    for cell in _grid(data, recipes or packaged(), seeds, overrides, out):
        name = f"{cell.folder.parent.name}/{cell.folder.name}"
        if cell.finished():
            continue
        first = cell.folder.with_name(f"{cell.recipe.name}-seed0")
        if cell.recipe.seed and (_minutes(first) > LONG or f"{first.parent.name}/{first.name}" in
                                 skipped):  # fmt: skip
            continue
        if budget is not None and time.monotonic() - began > 60 * budget:
            pending.append(name)
            continue
        try:
            done = run(cell.recipe, cell.data, work / cell.key, quiet=quiet)
        except OnomaError as error:
            # A catalogue without text cannot feed a text model; the other rows still can run.
            skipped[name] = str(error)
            tell(f"{name}: skipped, {error}")
            continue
        _keep(cell, done, overrides)
        ran.append(name)
        figures = done.metrics["test"]
        tell(f"{name}: " + ", ".join(f"{k} {figures[k]:.4f}" for k in figures if k == "ndcg@10"))
    result: dict[str, Any] = standings(out)
    result |= {"pending": pending, "skipped": skipped, "ran": ran}
    write_text(json.dumps(result, indent=2) + "\n", out / "leaderboard.json")
    write_page(result, out / "leaderboard.html")
    return result


def _grid(
    data: Sequence[str],
    recipes: Sequence[str],
    seeds: int,
    overrides: Sequence[str],
    out: Path,
) -> list[Cell]:
    cells: list[Cell] = []
    loaded: dict[tuple[str, int, float | None], tuple[str, str]] = {}
    for seed in range(seeds):
        for place in data:
            for name in recipes:
                recipe = Recipe.load(name, [*overrides, f"seed={seed}"])
                filters = (place, recipe.data.k_core, recipe.data.min_rating)
                if filters not in loaded:
                    raw = recipe.model_dump(mode="json")
                    raw["data"]["path"] = place
                    loaded[filters] = _about(load_data(Recipe.check(raw, name)))
                title, data_hash = loaded[filters]
                folder = out / title / f"{recipe.name}-seed{seed}"
                cells.append(Cell(recipe, place, _key(recipe, data_hash), folder))
    return cells


def _about(dataset: Dataset) -> tuple[str, str]:
    return dataset.name, dataset.hash


def _key(recipe: Recipe, data_hash: str) -> str:
    """A hash of what decides the figures: neither comments nor where the data lies."""
    from onoma import __version__

    raw = recipe.model_dump(mode="json", exclude={"about", "system", "published"})
    raw["data"].pop("path")
    text = json.dumps([raw, data_hash, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keep(cell: Cell, done: Run, overrides: Sequence[str]) -> None:
    """Copy the row's story out of the run directory; the weights stay there."""
    words = [cell.recipe.name, "--data", done.metrics["dataset"]["name"], *overrides]
    command = shlex.join(["onoma", "run", *words, f"seed={cell.recipe.seed}"])
    if _row(cell.folder):
        shutil.rmtree(cell.folder)  # of another recipe, data or version
    with whole_folder(cell.folder) as folder:
        for name in _FILES:
            if (done.path / name).is_file():
                shutil.copyfile(done.path / name, folder / name)
        # Where the data lay on this machine is nobody's business; its hash is.
        portable = done.recipe.model_dump(mode="json")
        portable["data"]["path"] = None
        write_text(Recipe.check(portable, cell.recipe.name).dump(), folder / "recipe.yaml")
        row = {
            "key": cell.key,
            "recipe": cell.recipe.name,
            "seed": cell.recipe.seed,
            "dataset": done.metrics["dataset"],
            "command": command,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        write_text(json.dumps(row, indent=2) + "\n", folder / "row.json")
        write_text(json.dumps(environment(), indent=2) + "\n", folder / "environment.json")


def environment() -> dict[str, Any]:
    """Versions and the machine, as far as they decide figures and seconds."""
    import torch

    from onoma import __version__
    from onoma.neural.device import device, has_bf16

    where = device()
    return {
        "onoma": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if where.type == "cuda" else "cpu",
        "bf16": has_bf16(where.type),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _minutes(folder: Path) -> float:
    try:
        seconds = json.loads((folder / "metrics.json").read_text("utf-8"))["seconds"]["total"]
    except (OSError, ValueError, KeyError):
        return 0.0
    return float(seconds) / 60


def _row(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "row.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
