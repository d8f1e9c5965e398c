"""One recipe becomes one run directory; a run directory becomes a recommender again."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from onoma.dataset import Cases, Dataset, Split, split
from onoma.dataset.files import write_text
from onoma.dataset.likes import likes
from onoma.errors import OnomaError
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.registry import recommender as recommender_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onoma.evaluation.evaluate import Evaluation

FORMAT = 1
BEGUN = "begun.json"  # the data of a run that is not finished
_TOLD = 80  # characters of changed settings in a folder's name


def load_data(recipe: Recipe) -> Dataset:
    """The data set a recipe names, filtered as it says.

    Raises:
        OnomaError: no data is named, or it cannot be read.
    """
    from onoma.dataset.clean import k_core, minimum_rating
    from onoma.dataset.load import load

    section = recipe.data
    if section.path is None:
        raise OnomaError(
            "the recipe names no data",
            where=recipe.name,
            fix="Give --data DIR, or --data packaged:movielens",
        )
    dataset = load(section.path)
    if section.min_rating is not None:
        dataset = minimum_rating(dataset, section.min_rating)
    if section.k_core:
        dataset = k_core(dataset, section.k_core)
    return dataset


def cut(recipe: Recipe, dataset: Dataset) -> Split:
    """The split a recipe names, with what test users ask."""
    section = recipe.data
    if section.protocol == "likes":
        return likes(
            dataset, above=section.liked_above, seen=section.seen, ties=section.ties,
            seed=section.split_seed, valid=section.valid, test=section.test,
        )  # fmt: skip
    parts = split(
        dataset,
        section.protocol,
        ties=section.ties,
        seed=section.split_seed,
        valid=section.valid,
        test=section.test,
    )
    if recipe.evaluate.query is None:
        return parts
    from onoma.evaluation.queries import ask_in_words

    return ask_in_words(parts)


@dataclass
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        recipe: as resolved.
    """

    path: Path
    recipe: Recipe

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``."""
        path = self.path / "metrics.json"
        try:
            figures = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise OnomaError(
                "the run has no readable metrics.json",
                where=str(self.path),
                fix="Finish it with onoma run",
            ) from error
        if not isinstance(figures, dict):
            raise OnomaError("not a metrics file", where=str(path))
        return figures

    @cached_property
    def dataset(self) -> Dataset:
        """The data set the run was fitted on; its hashes are checked.

        Raises:
            OnomaError: the data changed since.
        """
        dataset = load_data(self.recipe)
        if not dataset.same(self.metrics.get("dataset", {})):
            raise OnomaError(
                "the data changed since this run",
                where=str(self.path),
                fix="Run the recipe again with --fresh",
            )
        return dataset

    @cached_property
    def split(self) -> Split:
        """The split the run was measured on."""
        return cut(self.recipe, self.dataset)

    @cached_property
    def recommender(self) -> Recommender:
        """The fitted recommender."""
        return recommender_class(self.recipe.recommender["name"]).load(self.path, self.dataset)


def open_run(path: str | Path) -> Run:
    """Open a run directory.

    Raises:
        OnomaError: the folder is missing or holds no recipe.
    """
    path = Path(path)
    if not (path / "recipe.yaml").is_file():
        raise OnomaError("not a run directory (no recipe.yaml)", where=str(path))
    return Run(path, Recipe.load(str(path / "recipe.yaml")))


def build(recipe: Recipe, folder: Path | None = None, quiet: bool = False) -> Recommender:
    """The unfitted recommender of a recipe.

    Raises:
        OnomaError: a setting the class does not have or a value out of range.
    """
    settings = {k: v for k, v in recipe.recommender.items() if k != "name"}
    cls = recommender_class(recipe.recommender["name"])
    try:
        return cls.create(settings, seed=recipe.seed, folder=folder, quiet=quiet)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["recommender", *map(str, first["loc"])])
        said = first["msg"].removeprefix("Value error, ")
        raise OnomaError(f"{key}: {said}", where=recipe.name) from error
    except (TypeError, ValueError) as error:
        raise OnomaError(f"recommender: {error}", where=recipe.name) from error


def run_folder(recipe: Recipe, dataset: Dataset) -> Path:
    """``runs/<recipe>-<dataset>[-<changed settings>][-seedN]``; long ones by their digest."""
    changed = {key.removeprefix("recommender."): value for key, value in recipe.changed().items()}
    told = ",".join(f"{key}={_short(value)}" for key, value in changed.items())
    if len(told) > _TOLD:
        text = json.dumps(changed, sort_keys=True)
        told = hashlib.sha256(text.encode()).hexdigest()[:8]
    suffix = f"-{told}" * bool(told) + f"-seed{recipe.seed}" * bool(recipe.seed)
    return Path("runs") / f"{recipe.name}-{dataset.name}{suffix}"


def _short(value: Any) -> str:
    """A setting's value as a part of a folder's name; of a path its last part."""
    text = json.dumps(value) if not isinstance(value, str) else Path(value).name
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_") or "none"


def run(
    recipe: Recipe,
    data: str | None = None,
    out: str | Path | None = None,
    *,
    fresh: bool = False,
    quiet: bool = False,
) -> Run:
    """Fit, measure and report.

    Args:
        recipe: the experiment.
        data: replaces ``recipe.data.path``.
        out: the run directory; default :func:`run_folder`.
        fresh: start over although the folder holds a finished or interrupted run.
        quiet: no progress bar.

    A finished run of the same recipe and data is returned as it is; an interrupted one goes on.

    Raises:
        OnomaError: bad data or settings, or the folder holds a run of another recipe.
    """
    if data is not None:
        raw = recipe.model_dump(mode="json")
        raw["data"]["path"] = data if data.startswith("packaged:") else str(Path(data).resolve())
        recipe = Recipe.check(raw, recipe.name)
    dataset = load_data(recipe)
    known = build(recipe).modes  # settings are checked before anything is written
    if unknown := set(recipe.evaluate.modes or ()) - set(known):
        raise OnomaError(
            f"evaluate.modes: no mode is called {min(unknown)!r}",
            where=recipe.name,
            fix=f"Known: {', '.join(known)}",
        )
    folder = Path(out) if out else run_folder(recipe, dataset)
    if not fresh and _finished(folder, recipe, dataset):
        return Run(folder, recipe)
    from onoma.beside import beside, other, placed
    from onoma.judging import measure_likes
    from onoma.measuring import measure, write_examples

    began = time.monotonic()
    parts = cut(recipe, dataset)
    questions = None if parts.test.labels is not None else asked(recipe, parts)
    for name in recipe.evaluate.beside:  # what cannot be measured stops before training
        theirs, place = placed(folder, recipe, parts, name)
        _check(place, theirs)
    if fresh:
        _clear(folder)
    write_text(recipe.dump(), folder / "recipe.yaml")
    write_text(json.dumps(parts.describe(), indent=2) + "\n", folder / BEGUN)
    model = build(recipe, folder, quiet)
    model.fit(parts)
    model.save(folder)
    write_names(folder, model, parts)
    if questions is None:
        figures = measure_likes(
            folder, recipe, model, parts, began,
            lambda name: other(folder, recipe, parts, name).path,
        )  # fmt: skip
    else:
        write_examples(folder, recipe, model, parts)
        figures = measure(
            folder, recipe, model, parts, began, *questions,
            lambda tested, lists: beside(folder, recipe, parts, tested, lists),
        )  # fmt: skip
    write_text(json.dumps({"format": FORMAT} | figures, indent=2) + "\n", folder / "metrics.json")
    for name in ("checkpoint.safetensors", BEGUN):
        (folder / name).unlink(missing_ok=True)
    write_report(folder)
    return Run(folder, recipe)


def _finished(folder: Path, recipe: Recipe, dataset: Dataset) -> bool:
    """Whether the folder holds this very run, finished; False where it may begin or go on there."""
    if (folder / "recipe.yaml").exists():
        _check(folder, recipe)
        if dataset.same(recorded(folder, recipe)):
            return (folder / "metrics.json").exists()
        raise OnomaError(
            "the data changed since this run",
            where=str(folder),
            fix="Use --fresh to replace it or --out for another folder",
        )
    if folder.exists() and any(folder.iterdir()):
        raise OnomaError(
            "the folder is not empty and holds no run",
            where=str(folder),
            fix="Use --out for another folder",
        )
    return False


def recorded(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What a finished or interrupted run says of its data; nothing where there is none."""
    if (folder / "metrics.json").exists():
        return dict(Run(folder, recipe).metrics.get("dataset", {}))
    begun = folder / BEGUN
    if not begun.exists():
        return {}
    try:
        return dict(json.loads(begun.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OnomaError(
            "damaged: it says which data the interrupted run is of", where=str(begun),
            fix="Start over with --fresh",
        ) from error  # fmt: skip


def _clear(folder: Path) -> None:
    """Forget a finished or interrupted run."""
    for stale in ("metrics.json", "log.jsonl"):
        (folder / stale).unlink(missing_ok=True)
    for checkpoint in folder.rglob("checkpoint.safetensors"):  # one a step, where there are
        checkpoint.unlink()


def _check(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds a run of another recipe."""
    known = folder / "recipe.yaml"
    if known.exists():
        there = Recipe.load(str(known))
        if there.model_dump(mode="json") != recipe.model_dump(mode="json"):
            raise OnomaError(
                "the folder holds a run of other settings",
                where=str(folder),
                fix="Use --fresh to replace it or --out for another folder",
            )


def asked(
    recipe: Recipe, parts: Split, part: Literal["test", "valid"] = "test"
) -> tuple[Cases, NDArray[np.int32] | None]:
    """The cases of a part that a recipe measures, and their short lists where it has some.

    Raises:
        OnomaError: there are none, or too few candidates.
    """
    from onoma.evaluation.candidates import of_ratings, sampled, short_lists

    about, short = recipe.evaluate, recipe.evaluate.candidates
    cases = parts.test if part == "test" else parts.valid
    cases = cases.take(np.flatnonzero(cases.history.lengths >= about.history))
    drawn: Any = None if short is None else short.drawn
    if short is not None and short.drawn == "disliked":
        # What was disliked may have left the data by its rating.
        section = recipe.data.model_copy(update={"min_rating": None})
        whole = load_data(recipe.model_copy(update={"data": section}))
        drawn = of_ratings(whole, parts.dataset, short.disliked)
        cases = cases.take(np.flatnonzero(drawn.take(cases.users).lengths > short.negatives))
    if not len(cases):
        raise OnomaError(
            f"no {part} case is left to ask",
            where=recipe.name,
            fix="Lower evaluate.history or evaluate.candidates.negatives, or change the cut",
        )
    cases = sampled(cases, about.cases)
    if short is None:
        return cases, None
    return cases, short_lists(cases, parts, short.negatives, drawn, short.seed)


def evaluation(
    done: Run,
    part: Literal["test", "valid"] = "test",
    *,
    ks: Sequence[int] | None = None,
    mask_seen: bool | None = None,
    mode: str | None = None,
) -> Evaluation:
    """Ask a finished run again what its recipe asks.

    Args:
        done: finished; its split has cases without ``labels``.
        part: whose cases.
        ks: cut-offs; the recipe's where not given.
        mask_seen: likewise.
        mode: of the recommender; the recipe's first, or the recommender's.

    Raises:
        OnomaError: the part has no such cases.
    """
    from onoma.evaluation.evaluate import evaluate

    about, model = done.recipe.evaluate, done.recommender
    cases, lists = asked(done.recipe, done.split, part)
    return evaluate(
        model, cases, done.split,
        ks=about.ks if ks is None else ks,
        mask_seen=about.mask_seen if mask_seen is None else mask_seen,
        mode=mode or (about.modes or model.modes)[0],
        candidates=lists,
    )  # fmt: skip


def known(recipe: Recipe, dataset: Dataset, user: int) -> Requests:
    """What a user code of the data asks, told as test users are."""
    section = recipe.data
    above = section.liked_above if section.protocol == "likes" else None
    return Requests.known(dataset, user, above=above)


def write_names(folder: Path, model: Recommender, parts: Split) -> None:
    """Write ``names.json``, the map of the report; nothing where the model spells no names."""
    from onoma.evaluation.names_page import names_map

    if (index := getattr(model, "index", None)) is not None:
        found = names_map(index, parts.dataset, limit=1_000_000)
        write_text(json.dumps(found, ensure_ascii=False) + "\n", folder / "names.json")


def write_report(folder: Path) -> None:
    """Write ``report.html``."""
    from onoma.evaluation.report import write_report as render

    render(folder)
