"""Item tables that begin as some directions of text vectors instead of at random."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from onoma import encoding
from onoma.dataset import Split
from onoma.encoding.cooccurrence import interactions
from onoma.encoding.svd import truncated_svd
from onoma.errors import OnomaError
from onoma.neural.spectrum import Spectrum
from onoma.recommenders.collaborative.lightgcn import (
    START,
    GraphModule,
    GraphSettings,
    LightGCN,
    mean_rows,
)

Rule = Literal["var", "uni", "rand", "pca", "projection"]


class LLMInitSettings(GraphSettings):
    """What the tables begin as.

    Attributes:
        encoder: what turns item texts into vectors; anything ``encoding.build`` takes.
        rule: which directions are kept: those of largest variance among the popular items
            (``var``), evenly spaced (``uni``), drawn (``rand``); and two controls that mix all
            directions: ``pca`` and a random ``projection``.
        popular: share of the items, the most popular, on which variance is measured.
        size: root mean square of the entries of the item table, that of a fresh one; None leaves
            the vectors as long as they are.
    """

    encoder: Any = "sentence"
    rule: Rule = "var"
    popular: float = Field(default=0.2, gt=0, le=1)
    size: float | None = Field(default=START, gt=0)


class LLMInit(LightGCN):
    """LLMInit (S070): a :class:`LightGCN` whose tables begin as selected text directions.

    Zhang et al., 2025. Items begin as ``width`` of the directions of their text vectors and users
    as the mean of their items in training; after that everything is trained as ever, and no text
    is needed to answer. The figures of a run have the spectrum of the item table before and after
    training (``training.spectrum``).

    We depart from it where ``rand`` draws without replacement and the table is scaled to the size
    of a fresh one, so that both learn at the same rate.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, batches and ``rand``.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`LLMInitSettings`.
    """

    name = "llminit"
    settings_type = LLMInitSettings
    settings: LLMInitSettings

    def _build(self, split: Split) -> GraphModule:
        began = time.monotonic()
        content = encoding.cached(encoding.build(self.settings.encoder), split)
        self.seconds["encode"] = time.monotonic() - began
        table = torch.from_numpy(self.first(content, split.train_counts))
        held = interactions(split.train, split.dataset.n_items)
        module = GraphModule(held, held.shape, self.settings)
        with torch.no_grad():
            told = table.any(dim=1)
            module.items[told] = table[told]
            # Users and items without anything to begin with keep their fresh vectors.
            some = torch.from_numpy(held.sum(axis=1) > 0)
            module.users[some] = mean_rows(held, table)[some]
        self._first = Spectrum.of(table.numpy()).describe()
        return module

    def _found(self) -> dict[str, Any]:
        """Also how many it used when training began."""
        ended = super()._found()["spectrum"]
        return {"spectrum": {"first": self._first, **ended}}

    def first(
        self, content: NDArray[np.float32], counts: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[n_items, width], what the item table begins as.

        Args:
            content: float32[n_items, D] text vectors.
            counts: int[n_items] training interactions.

        Raises:
            OnomaError: the vectors have fewer directions than the table.
        """
        settings, (n, wide) = self.settings, content.shape
        if wide < settings.width:
            raise OnomaError(
                f"text vectors of {wide} dimensions cannot begin a table of {settings.width}",
                where=self.name,
                fix=f"Lower recommender.width to {wide}, or take another encoder",
            )
        rng = np.random.default_rng([self.seed, 4_099])
        if settings.rule == "pca":
            centred = content - content.mean(axis=0)
            u, s, _ = truncated_svd(centred, settings.width)
            table = np.zeros((n, settings.width), dtype=np.float32)
            table[:, : len(s)] = u * s
        elif settings.rule == "projection":
            table = content @ rng.standard_normal((wide, settings.width)).astype(np.float32)
        else:
            table = content[:, chosen(settings.rule, settings.width, content, counts, rng,
                                      settings.popular)]  # fmt: skip
        if settings.size is not None:
            table = table * (settings.size / max(float(np.sqrt((table**2).mean())), 1e-12))
        return np.ascontiguousarray(table, dtype=np.float32)


def chosen(
    rule: Literal["var", "uni", "rand"],
    width: int,
    content: NDArray[np.float32],
    counts: NDArray[np.integer],
    rng: np.random.Generator,
    popular: float = 0.2,
) -> NDArray[np.int64]:
    """int64[width], the directions of text vectors that a rule of S070 keeps, ascending.

    Args:
        rule: ``var``, ``uni`` or ``rand``.
        width: how many.
        content: float32[n_items, D].
        counts: int[n_items] training interactions.
        rng: what ``rand`` draws from.
        popular: share of the items on which ``var`` measures.
    """
    wide = content.shape[1]
    if rule == "uni":
        return np.arange(width, dtype=np.int64) * (wide // width)
    if rule == "rand":
        return np.sort(rng.permutation(wide)[:width]).astype(np.int64)
    most = np.argsort(-counts, kind="stable")[: max(2, round(popular * len(counts)))]
    spread = content[most].var(axis=0)
    return np.sort(np.argsort(-spread, kind="stable")[:width]).astype(np.int64)
