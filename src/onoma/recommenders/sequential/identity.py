"""What sequence models over bare item ids share: one table in and out, and the choice of loss."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from onoma.dataset import Dataset, Split
from onoma.neural.blocks import SequenceEncoder, Trunk
from onoma.neural.loss import full_softmax, sampled_softmax
from onoma.neural.noise import Noise
from onoma.neural.pairwise import pairwise
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    TransformerRecommender,
    TransformerSettings,
)


class IdSettings(TransformerSettings):
    """The trunk and the loss.

    Attributes:
        loss: ``full`` softmax, ``sampled`` softmax, or GRU4Rec's ``bpr``, ``bpr-max``, ``top1``,
            ``top1-max``; all but the first against ``negatives`` items a batch.
        negatives: size of the sample.
        popularity: negatives are drawn by training count to this power; 0 is uniform.
        in_batch: negatives are drawn among the batch's own targets instead.
    """

    loss: Literal["full", "sampled", "bpr", "bpr-max", "top1", "top1-max"] = "full"
    negatives: int = Field(default=256, ge=1)
    popularity: float = Field(default=0.0, ge=0)
    in_batch: bool = False


class HeadlessSettings(IdSettings):
    """Those of a trunk without attention; ``heads`` is not read."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        return self


class IdModule(ItemSequenceModule):
    """Item ids in, a trunk, the same table out.

    Args:
        n_items: size of the catalogue.
        settings: the trunk and the loss.
        counts: int64[n_items] training interactions, for samples by popularity.
    """

    settings: IdSettings

    def __init__(
        self, n_items: int, settings: IdSettings, counts: NDArray[np.int64] | None = None
    ) -> None:
        super().__init__()
        self.n_items, self.settings, self.noise = n_items, settings, Noise()
        self.ids = nn.Parameter(torch.randn(n_items + 1, settings.width) * 0.02)
        self.encoder = self.trunk()
        weights = np.ones(n_items) if counts is None else np.maximum(counts, 1.0)
        weights = weights**settings.popularity
        self.share = torch.from_numpy(weights / weights.sum())

    @abstractmethod
    def trunk(self) -> Trunk:
        """What stands between the vectors of the items and the states."""

    def sequence_encoder(self, **choices: Any) -> SequenceEncoder:
        """Transformer blocks of the settings' size."""
        s = self.settings
        return SequenceEncoder(
            s.width, s.blocks, s.heads, s.length, s.dropout, s.input_dropout, self.noise, **choices
        )

    def table(self) -> Tensor:
        """float32[n_items + 1, d]."""
        return self.ids

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.encoder(vectors)
        return out

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Mean loss over the catalogue or a sample of it."""
        states, items = self.query(states, table)
        kind = self.settings.loss
        if kind == "full":
            return full_softmax(states, items, targets)
        negatives, log_count = self._sample(targets)
        if kind == "sampled":
            return sampled_softmax(states, items, targets, negatives, log_count)
        return pairwise(kind, states, items, targets, negatives)

    def _sample(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """int64[s] items and the float32[s] logarithms of how often each was expected."""
        size, where = self.settings.negatives, targets.device
        if self.settings.in_batch:
            known = targets[targets >= 0]
            drawn = known[self.noise.integers(max(len(known), 1), size).to(where)]
            counts = torch.bincount(known, minlength=self.n_items)
            return drawn, (counts[drawn] * size / max(len(known), 1)).log()
        if self.settings.popularity == 0:
            drawn = self.noise.integers(self.n_items, size).to(where)
            return drawn, torch.full((size,), math.log(size / self.n_items), device=where)
        edges = self.share.cumsum(0)
        drawn = torch.searchsorted(edges, self.noise.uniform(size).double(), right=True)
        drawn = drawn.clamp(max=self.n_items - 1)
        return drawn.to(where), (self.share[drawn] * size).log().float().to(where)


class IdRecommender(TransformerRecommender):
    """A recommender with an :class:`IdModule`; subclasses name its class and its settings."""

    settings_type: ClassVar[type[IdSettings]] = IdSettings
    module_type: ClassVar[type[IdModule]]

    def _build(self, split: Split) -> ItemSequenceModule:
        assert isinstance(self.settings, IdSettings)
        return self.module_type(split.dataset.n_items, self.settings, split.train_counts)

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        assert isinstance(self.settings, IdSettings)
        return self.module_type(dataset.n_items, self.settings)
