"""Collaborative filtering on text vectors alone: no table of users or items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.encoding.cooccurrence import interactions
from onoma.recommenders.collaborative.lightgcn import (
    GraphModule,
    GraphSettings,
    LightGCN,
    mean_rows,
)


class AlphaSettings(GraphSettings):
    """What is read, and the map from it.

    Attributes:
        encoder: what turns item texts into vectors; anything ``encoding.build`` takes.
        hidden: units of the map's middle; None: one linear map without bias, the probe.
    """

    encoder: Any = "sentence"
    hidden: int | None = Field(default=128, ge=1)


class AlphaModule(GraphModule):
    """One map for users and items.

    Attributes:
        content: float32[n_items, D] text vectors, frozen.
    """

    settings: AlphaSettings
    content: Tensor
    profiles: Tensor
    # A rate that moves a table of fresh vectors in time is too high for the weights of a map.
    rates: ClassVar[dict[str, float]] = {"map": 0.5}

    def __init__(
        self,
        held: sp.csr_array | None,
        shape: tuple[int, int],
        settings: AlphaSettings,
        content: Tensor,
    ) -> None:
        self._content = content
        super().__init__(held, shape, settings)

    def tables(self) -> None:
        """Content, and the map."""
        content, hidden = self._content, self.settings.hidden
        self.register_buffer("content", content)
        profiles = content[:0] if self.held is None else mean_rows(self.held, content)
        self.register_buffer("profiles", profiles, persistent=False)
        del self._content
        wide, width = content.shape[1], self.settings.width
        self.map: nn.Module
        if hidden is None:
            self.map = nn.Linear(wide, width, bias=False)
        else:
            layers = nn.Linear(wide, hidden), nn.LeakyReLU(), nn.Linear(hidden, width)
            self.map = nn.Sequential(*layers)

    def inputs(self) -> tuple[Tensor, Tensor]:
        """The map of the users' mean contents and of the items' contents."""
        return self.map(self.profiles), self.map(self.content)

    def start(self, history: sp.csr_array, users: Tensor) -> Tensor:
        """The map of the mean content of the history, whoever the user is."""
        out: Tensor = self.map(mean_rows(history, self.content))
        return out

    def remember(self) -> None:
        """Nobody has a place of their own."""


class AlphaRec(LightGCN):
    """AlphaRec (S044): a small map of frozen text vectors, a walk along the graph, InfoNCE.

    Sheng et al., ICLR 2025. An item is the vector of its text, a user the mean of the items in
    training; two layers map both, and everything after that is :class:`LightGCN`. Nobody has a
    vector of their own, so strangers are answered like anybody else.

    We depart from it where negatives are shared by the rows of a batch; in the recipe the text
    vectors are all-MiniLM-L6-v2's in their leading principal directions.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights and batches.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`AlphaSettings`.
    """

    name = "alpharec"
    reads = frozenset({"history"})
    settings_type = AlphaSettings
    settings: AlphaSettings

    def _build(self, split: Split) -> GraphModule:
        began = time.monotonic()
        content = encoding.cached(encoding.build(self.settings.encoder), split)
        self.seconds["encode"] = time.monotonic() - began
        held = interactions(split.train, split.dataset.n_items)
        return AlphaModule(held, held.shape, self.settings, torch.from_numpy(content))

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> GraphModule:
        content = torch.zeros_like(weights["content"])
        return AlphaModule(None, (0, dataset.n_items), self.settings, content)
