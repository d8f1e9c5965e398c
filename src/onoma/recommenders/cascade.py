"""Recommenders one behind the other: each puts the first answers of the one before in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.recommenders.base import Ranking, Recommender, Requests


class Cascade(Recommender):
    """A retriever, then rankers that see only what the one before put first.

    What a ranker is not shown, or leaves out, follows in the order it had before, so an answer is
    as long as the retriever's. Scores are places counted from the end.

    Args:
        stages: two or more, each ``name`` and the settings of a recommender; in recipes also the
            name of a recipe, or ``{RECIPE: settings that differ}``.
        keep: answers that are handed on, one number for all or one for each border.
        seed: of all stages.
        folder: where long fits keep what they need.
        quiet: no progress bar.
    """

    name = "cascade"
    takes = frozenset({"seed", "folder", "quiet"})
    reads = frozenset({"history", "candidates", "query", "context"})

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        keep: int | Sequence[int] = 20,
        seed: int = 0,
        folder: Path | None = None,
        quiet: bool = False,
    ) -> None:
        from onoma.recommenders.registry import recommender

        if len(stages) < 2:
            raise ValueError("a cascade has at least two stages")
        borders = [keep] * (len(stages) - 1) if isinstance(keep, int) else list(keep)
        if len(borders) != len(stages) - 1 or min(borders) < 2:
            raise ValueError("keep is at least 2, one number or one for each border")
        for told in stages:
            if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
                raise ValueError(f"a stage is a mapping with a name, not {told!r}")
        self.settings = [dict(stage) for stage in stages]
        self.keep, self.seed = borders, seed
        self.stages = [
            recommender(stage["name"]).create(
                {key: value for key, value in stage.items() if key != "name"},
                seed=seed,
                folder=None if folder is None else folder / f"stage-{place}",
                quiet=quiet,
            )
            for place, stage in enumerate(self.settings)
        ]
        for keep_, stage in zip(borders, self.stages[1:], strict=True):
            looked_at = getattr(stage, "shortlist", keep_)
            if looked_at < keep_:
                raise ValueError(
                    f"{stage.name} looks at {looked_at} candidates and would be shown {keep_}: "
                    "lower keep or raise its shortlist"
                )
        self._n_items = 0

    @property
    def exact(self) -> bool:
        return self.stages[0].exact

    def fit(self, split: Split) -> Self:
        """Fit each stage by itself."""
        for stage in self.stages:
            stage.fit(split)
        self._n_items = split.dataset.n_items
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], places counted from the end; -inf for what may not be answered.

        What a retriever hands on depends on what it must leave out, so that counts here too.
        """
        ranking = self.recommend(replace(requests, candidates=None), self._n_items)
        scores = torch.full((len(requests), self._n_items), -torch.inf)
        known = torch.from_numpy(ranking.items >= 0)
        rows = torch.arange(len(requests))[:, None].expand(known.shape)[known]
        items = torch.from_numpy(ranking.items.astype(np.int64))[known]
        scores[rows, items] = torch.from_numpy(ranking.scores)[known]
        return scores

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        first = self.stages[0].recommend(requests, max(k, *self.keep))
        items, answered = first.items, first.answered
        for keep, stage in zip(self.keep, self.stages[1:], strict=True):
            shown = np.ascontiguousarray(items[:, :keep])
            ordered = stage.recommend(replace(requests, candidates=shown), shown.shape[1])
            found = ordered.items
            if ordered.answered is not None:
                answered = ordered.answered & (True if answered is None else answered)
            items = np.concatenate([_completed(found, shown), items[:, keep:]], axis=1)
        items = items[:, :k]
        if items.shape[1] < k:
            items = np.pad(items, ((0, 0), (0, k - items.shape[1])), constant_values=-1)
        places = self._n_items - np.arange(k, dtype=np.float32)
        scores = np.where(items >= 0, places[None, :], -np.inf).astype(np.float32)
        return Ranking(items.astype(np.int32), scores, answered)

    def languages(self) -> list[Any]:
        """The language models that its stages ask, each once."""
        found = [one for stage in self.stages for one in getattr(stage, "languages", list)()]
        return list({id(one): one for one in found}.values())

    def language_report(self) -> dict[str, Any] | None:
        """What the stages that ask a language model say of it; None where none does."""
        found = {
            stage.name: report()
            for stage in self.stages
            if (report := getattr(stage, "language_report", None)) is not None
        }
        return next(iter(found.values())) if len(found) == 1 else found or None

    @property
    def training(self) -> dict[str, Any]:
        """What the stages tell of their training, by name."""
        return {
            stage.name: told for stage in self.stages if (told := getattr(stage, "training", {}))
        }

    def save(self, folder: str | Path) -> None:
        """Write each stage into a folder of its own."""
        folder = Path(folder)
        for place, stage in enumerate(self.stages):
            stage.save(folder / f"stage-{place}")
        record = {"stages": self.settings, "keep": self.keep, "seed": self.seed}
        write_text(json.dumps(record, indent=2) + "\n", folder / "cascade.json")

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        folder = Path(folder)
        try:
            record = json.loads((folder / "cascade.json").read_text("utf-8"))
            model = cls(record["stages"], record["keep"], int(record["seed"]), quiet=True)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise OnomaError(
                f"cannot read the cascade ({error})", where=str(folder), fix="Fit it again"
            ) from error
        model.stages = [
            type(stage).load(folder / f"stage-{place}", dataset)
            for place, stage in enumerate(model.stages)
        ]
        model._n_items = dataset.n_items
        return model


def _completed(found: NDArray[np.int32], shown: NDArray[np.int32]) -> NDArray[np.int32]:
    """int32[n, c]: what was found, then what was shown and not found, in its old order."""
    named = (shown[:, :, None] == found[:, None, :]).any(axis=2) | (shown < 0)
    both = np.concatenate([found, np.where(named, -1, shown)], axis=1)
    order = np.argsort(both < 0, axis=1, kind="stable")
    return np.take_along_axis(both, order, axis=1)[:, : shown.shape[1]]
