"""SASRec with a softmax over the whole catalogue at every position."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from onoma.dataset import Dataset, Split
from onoma.neural.blocks import SequenceEncoder
from onoma.neural.loss import full_softmax, sampled_softmax
from onoma.neural.noise import Noise
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    TransformerRecommender,
    TransformerSettings,
)


class SASRecSettings(TransformerSettings):
    """The trunk and the loss.

    Attributes:
        loss: ``full`` softmax, or ``sampled`` with ``negatives`` uniform items a batch.
        negatives: size of the sample.
    """

    loss: Literal["full", "sampled"] = "full"
    negatives: int = Field(default=256, ge=1)


class SASRecModule(ItemSequenceModule):
    """Item ids in, causal blocks, the same table out."""

    settings: SASRecSettings

    def __init__(self, n_items: int, settings: SASRecSettings) -> None:
        super().__init__()
        self.n_items, self.settings, self.noise = n_items, settings, Noise()
        self.ids = nn.Parameter(torch.randn(n_items + 1, settings.width) * 0.02)
        self.encoder = SequenceEncoder(
            settings.width,
            settings.blocks,
            settings.heads,
            settings.length,
            settings.dropout,
            settings.input_dropout,
            self.noise,
        )

    def table(self) -> Tensor:
        """float32[n_items + 1, d]."""
        return self.ids

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.encoder(vectors)
        return out

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Mean cross-entropy over the catalogue or a sample of it."""
        states, items = self.query(states, table)
        if self.settings.loss == "full":
            return full_softmax(states, items, targets)
        sample = self.settings.negatives
        negatives = self.noise.integers(self.n_items, sample).to(states.device)
        log_count = torch.full((sample,), math.log(sample / self.n_items), device=states.device)
        return sampled_softmax(states, items, targets, negatives, log_count)


class SASRec(TransformerRecommender):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018), trained well.

    The published model's binary loss with one negative loses to the same network under a softmax
    over the catalogue by a wide margin (Klenitskiy and Vasilev, RecSys 2023); this is the latter.
    """

    name = "sasrec"

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            SASRecSettings(**settings),
            TrainSettings.model_validate(train or {}),
            seed,
            folder,
            quiet,
        )

    def _build(self, split: Split) -> ItemSequenceModule:
        assert isinstance(self.settings, SASRecSettings)
        return SASRecModule(split.dataset.n_items, self.settings)

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        assert isinstance(self.settings, SASRecSettings)
        return SASRecModule(dataset.n_items, self.settings)
