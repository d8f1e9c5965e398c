"""Rows of a results folder: what a run found, kept without its weights (BARS, SIGIR 2022)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from onoma.dataset.files import whole_folder, write_parquet, write_text
from onoma.errors import OnomaError
from onoma.evaluation.cases import NAME as CASES
from onoma.recipe import Recipe
from onoma.run import BEGUN, Run, load_data, run

KEYS = ("recall@10", "ndcg@10")  # where ten answers are measured
_FILES = ("recipe.yaml", "metrics.json", "log.jsonl")
_PACKAGES = ("torch", "numpy", "scipy", "polars", "transformers")


@dataclass(frozen=True)
class Row:
    """One recipe on one data set with one seed: a folder in the manner of BARS (Zhu et al.).

    It holds the resolved recipe, environment, data hash, seed, command, log, metrics, and each
    case's figures in the order of the split: ``recall@10`` and ``ndcg@10``, or all where there are
    none of these. Where the data lay is not written down.

    Attributes:
        recipe: as resolved, with its seed.
        data: what ``--data`` said.
        key: sixteen hex digits over the recipe, the ids and events of the data and the version of
            Onoma.
        contents: of the data's other columns.
        folder: where the row is kept.
    """

    recipe: Recipe
    data: str
    key: str
    contents: str
    folder: Path

    @property
    def name(self) -> str:
        """``DATASET/NAME-seedN``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    def finished(self) -> bool:
        """Whether the row on disk is of this very recipe and data."""
        row = _read(self.folder)
        about = row.get("dataset", {})
        return row.get("key") == self.key and about.get("contents", self.contents) == self.contents

    def replaces(self) -> bool:
        """Whether a row of other settings, data or version stands where this one goes."""
        return bool(_read(self.folder)) and not self.finished()

    def run(self, work: Path, overrides: Sequence[str] = (), *, quiet: bool = False) -> Run:
        """Run it below ``work``, where the weights stay, and keep the row.

        Args:
            work: for runs of all keys.
            overrides: words that make the recipe of the packaged one, for the command.
            quiet: no progress bars.

        Raises:
            OnomaError: as :func:`onoma.run.run`.
        """
        place = work / f"{self.key}-{self.contents}"
        fresh = not place.exists()
        try:
            done = run(self.recipe, self.data, place, quiet=quiet)
        except OnomaError:
            if fresh and {path.name for path in place.glob("*")} <= {"recipe.yaml", BEGUN}:
                shutil.rmtree(place)  # a recipe that never ran
            raise
        self._keep(done, overrides)
        return done

    def kept(self) -> Run:
        """The finished row, as a run whose recommender is elsewhere."""
        return Run(self.folder, self.recipe)

    def _keep(self, done: Run, overrides: Sequence[str]) -> None:
        words = [self.recipe.name, "--data", done.metrics["dataset"]["name"], *overrides]
        command = shlex.join(["onoma", "run", *words, f"seed={self.recipe.seed}"])
        if _read(self.folder):
            shutil.rmtree(self.folder)  # of another recipe, data or version
        with whole_folder(self.folder) as folder:
            for name in _FILES:
                if (done.path / name).is_file():
                    shutil.copyfile(done.path / name, folder / name)
            if (done.path / CASES).is_file():
                cases = pl.read_parquet(done.path / CASES)
                known = [key for key in KEYS if key in cases.columns]
                write_parquet(cases.select(known) if known else cases, folder / CASES)
            portable = done.recipe.model_dump(mode="json")
            portable["data"]["path"] = None
            write_text(Recipe.check(portable, self.recipe.name).dump(), folder / "recipe.yaml")
            row = {
                "key": self.key,
                "recipe": self.recipe.name,
                "seed": self.recipe.seed,
                "dataset": done.metrics["dataset"],
                "command": command,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
            }
            write_text(json.dumps(row, indent=2) + "\n", folder / "row.json")
            write_text(json.dumps(environment(), indent=2) + "\n", folder / "environment.json")


class Rows:
    """Makes the rows of one results folder; each data set is read once.

    Args:
        out: the results folder.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self._known: dict[tuple[str, int, float | None], tuple[str, str, str]] = {}
        self._rows: dict[Path, Row] = {}

    def row(self, recipe: Recipe, data: str, name: str | None = None) -> Row:
        """A row at ``out/DATASET/NAME-seedN``, the recipe's name where none is given.

        Raises:
            OnomaError: unreadable data, or another row that goes to the same folder.
        """
        filters = (data, recipe.data.k_core, recipe.data.min_rating)
        if filters not in self._known:
            raw = recipe.model_dump(mode="json")
            raw["data"]["path"] = data
            dataset = load_data(Recipe.check(raw, recipe.name))
            self._known[filters] = dataset.name, dataset.hash, dataset.contents
        title, data_hash, contents = self._known[filters]
        folder = self.out / title / f"{name or recipe.name}-seed{recipe.seed}"
        row = Row(recipe, data, _key(recipe, data_hash), contents, folder)
        other = self._rows.setdefault(folder, row)
        if (other.key, other.contents) != (row.key, row.contents):
            raise OnomaError(
                f"two rows are called {row.name}, one of {other.data} and one of {data}"
                if other.data != data else f"two recipes make the row {row.name}",
                where=str(self.out),
                fix="Rename the data set, or give the recipes names of their own",
            )  # fmt: skip
        return row


def _read(folder: Path) -> dict[str, Any]:
    """``row.json`` of a folder; empty where there is none that can be read."""
    try:
        found = json.loads((folder / "row.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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


def _key(recipe: Recipe, data_hash: str) -> str:
    """A hash of what decides the figures: neither comments nor where the data lies."""
    from onoma import __version__

    raw = recipe.model_dump(mode="json", exclude={"about", "system", "published"})
    raw["data"].pop("path")
    text = json.dumps([raw, data_hash, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
