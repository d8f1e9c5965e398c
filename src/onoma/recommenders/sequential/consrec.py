"""ConsRec: histories without what does not hang together with the rest."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.errors import OnomaError
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.registry import recommender
from onoma.recommenders.sequential.consistent import consistent
from onoma.recommenders.sequential.textspace import SpaceSettings, learnt
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.tuning import choose, grid


class ConsRecSettings(BaseModel):
    """The filter, and what learns from filtered histories.

    Attributes:
        of: the recommender: ``name`` and settings.
        encoder: what gives the items vectors; anything ``encoding.build`` takes.
        space: how these vectors learn from histories which items go together; null leaves them.
        thresholds: cosines above which items are linked, of which validation picks one; null
            among them keeps histories whole.
        answering: whether the histories of requests are filtered, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: dict[str, Any] = {"name": "sasrec"}
    encoder: Any = "sentence"
    space: SpaceSettings | None = SpaceSettings()
    thresholds: tuple[float | None, ...] = Field(default=(0.02, 0.05, 0.1), min_length=1)
    answering: bool = True


class ConsRec(Recommender):
    """ConsRec (S090): any recommender on histories cleaned of what does not fit their user.

    Xin et al., 2025. Items of a history are linked where their vectors are alike, in a space of
    texts that has learnt from histories which items go together; the largest connected part is
    kept, in its order, and a recommender is trained on the kept parts. Only training histories
    and what is read to answer are filtered: targets and what was seen stay as they are. The
    threshold is picked on validation, with a recommender trained for each.

    We depart from it where the space is a map of frozen text vectors and reads a history by the
    mean of its items, in place of a T5 that reads it as one text; where that space learns its
    temperature and is centred; and where a history without a link is kept whole.

    Args:
        seed: of the space and the recommender.
        folder: where the recommenders keep checkpoints and logs.
        quiet: no progress bar.
        settings: of :class:`ConsRecSettings`.

    Attributes:
        inner: the recommender.
        vectors: float32[n_items, d], by which items are linked.
        threshold: the one picked.
    """

    name = "consrec"
    takes = frozenset({"seed", "folder", "quiet"})
    inner: Recommender
    vectors: NDArray[np.float32]

    def __init__(
        self,
        *,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        self.settings = ConsRecSettings(**settings)
        self.seed, self.quiet = seed, quiet
        self.folder = Path(folder) if folder else None
        self.training: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.threshold = self.settings.thresholds[0]
        name = str(self.settings.of.get("name"))
        if name == self.name:
            raise OnomaError("consrec filters once", where="recommender.of", fix="Take sasrec")
        self._class = recommender(name)
        self.inner = self._fresh(self.threshold)  # wrong settings are told before anything is done

    def _fresh(self, threshold: float | None) -> Recommender:
        beside = self.folder and self.folder / f"above-{threshold}"
        given = {key: value for key, value in self.settings.of.items() if key != "name"}
        return self._class.create(given, seed=self.seed, folder=beside, quiet=self.quiet)

    def fit(self, split: Split) -> Self:
        """Learn the space, filter, and train a recommender for each threshold."""
        began = time.monotonic()
        content = encoding.cached(encoding.build(self.settings.encoder), split)
        self.seconds["encode"] = time.monotonic() - began
        began = time.monotonic()
        self.vectors = content
        told: dict[str, Any] = {}
        if self.settings.space is not None:
            self.vectors, told = learnt(content, split, self.settings.space, self.seed)
        made: dict[float | None, tuple[Recommender, float]] = {}

        def apply(option: dict[str, Any]) -> Recommender:
            self.threshold = threshold = option["threshold"]
            if threshold not in made:
                kept = consistent(split.train, self.vectors, threshold)
                inner = self._fresh(threshold).fit(self.filtered(split, kept))
                made[threshold] = inner, float(kept.mean())
            self.inner = made[threshold][0]
            return self

        found = choose(grid(threshold=self.settings.thresholds), apply, split.valid)
        if self.folder is not None:  # kept till now, for a run that is broken off and goes on
            for beside in self.folder.glob("above-*"):
                (beside / "checkpoint.safetensors").unlink(missing_ok=True)
        self.seconds["train"] = time.monotonic() - began
        shares = {str(threshold): round(share, 4) for threshold, (_, share) in made.items()}
        self.training = {
            **getattr(self.inner, "training", {}),
            "space": told,
            "filter": {**found.describe(), "kept": shares},
        }
        return self

    def filtered(self, split: Split, kept: NDArray[np.bool_]) -> Split:
        """A split whose training histories, and those of validation, are filtered.

        Args:
            split: the data.
            kept: bool[total], aligned with ``split.train.values``.
        """
        valid = split.valid
        if self.settings.answering:
            asked = self._cleaned(Requests.of(valid))
            valid = replace(valid, history=asked.history, times=asked.times, liked=asked.liked)
        return replace(
            split, train=split.train.where(kept), train_times=split.train_times[kept], valid=valid
        )

    def _cleaned(self, requests: Requests) -> Requests:
        history = requests.history
        kept = consistent(history, self.vectors, self.threshold)
        beside = {
            name: aligned.where(kept)
            for name in ("times", "liked")
            if (aligned := getattr(requests, name)) is not None
        }
        return replace(requests, history=history.where(kept), **beside)

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the recommender's scores of filtered histories.

        What may not be answered is read off the whole history.
        """
        return self.inner.score(self._cleaned(requests) if self.settings.answering else requests)

    def item_vectors(self) -> NDArray[np.float32] | None:
        """Those of the recommender."""
        return self.inner.item_vectors()

    def save(self, folder: str | Path) -> None:
        """Write the recommender, the vectors and the threshold."""
        self.inner.save(Path(folder) / "inner")
        settings = {**self.settings.model_dump(mode="json"), "thresholds": [self.threshold]}
        save_model(
            folder, self.name, {"settings": settings, "seed": self.seed}, {"vectors": self.vectors}
        )

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: a file is missing, damaged or of another catalogue.
        """
        record, arrays = load_model(folder, cls.name, dataset)
        try:
            model = cls(**record["settings"], seed=record["seed"], quiet=True)
            model.vectors = arrays["vectors"]
        except (KeyError, TypeError, ValueError) as error:
            raise OnomaError(
                f"cannot read the filter ({error})", where=str(folder), fix="Fit it again"
            ) from error
        model.inner = model._class.load(Path(folder) / "inner", dataset)
        return model
