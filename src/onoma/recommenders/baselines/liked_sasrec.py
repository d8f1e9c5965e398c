"""SASRec trained on the few questions that a language model is tuned on."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from onoma.dataset import Cases, Dataset, Ragged, Split
from onoma.neural.blocks import SequenceEncoder, check_heads
from onoma.neural.device import device
from onoma.neural.noise import Noise
from onoma.neural.trainer import Task
from onoma.recommenders.base import Requests
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuned.questions import Questions


class LikedSASRecSettings(BaseModel):
    """The network and the questions it learns from.

    Attributes:
        shots: training questions, drawn as :class:`onoma.recommenders.tuned.tallrec.TALLRec` draws
            them for the same seed; None takes all.
        width: model width d.
        blocks: transformer blocks.
        heads: attention heads; they divide ``width``.
        length: items of a history that are read, the last ones.
        dropout: rate inside the blocks.
        input_dropout: rate on the vectors that enter.
        batch: questions a training step.
        validated: validation questions that pick the epoch, evenly spaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shots: int | None = Field(default=64, ge=1)
    width: int = Field(default=64, ge=4)
    blocks: int = Field(default=1, ge=1)
    heads: int = Field(default=2, ge=1)
    length: int = Field(default=10, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    input_dropout: float = Field(default=0.2, ge=0, lt=1)
    batch: int = Field(default=16, ge=1)
    validated: int = Field(default=200, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.width, self.heads)
        return self


class LikedSASRecModule(TrainedModule):
    """Causal blocks over items with whether they were liked; items answer by their product.

    Args:
        n_items: of the catalogue; the row behind them pads.
        settings: the network.
    """

    def __init__(self, n_items: int, settings: LikedSASRecSettings) -> None:
        super().__init__()
        self.n_items, self.noise = n_items, Noise()
        self.items = nn.Parameter(torch.randn(n_items + 1, settings.width) * 0.02)
        self.said = nn.Parameter(torch.randn(2, settings.width) * 0.02)
        self.worth = nn.Parameter(torch.zeros(n_items))
        self.encoder = SequenceEncoder(
            settings.width,
            settings.blocks,
            settings.heads,
            settings.length,
            settings.dropout,
            settings.input_dropout,
            self.noise,
        )

    def states(self, items: Tensor, liked: Tensor, ends: Tensor) -> Tensor:
        """float32[n, d] of int64[n, l] items, bool[n, l] likes and int64[n] last places."""
        out: Tensor = self.encoder.last(self.items[items] + self.said[liked.long()], ends)
        return out

    def logits(self, states: Tensor, targets: Tensor) -> Tensor:
        """float32[n], of a like of int64[n] targets."""
        return (states * self.items[targets]).sum(1) + self.worth[targets]


class LikedSASRec(TrainedRecommender):
    """SASRec (Kang and McAuley, ICDM 2018) as TALLRec's baseline has it (S060, section 4.1).

    It reads what was liked and what was not and learns, by a binary loss, the answers of as few
    questions as the language model beside it; it knows items by their ids alone.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, the questions drawn, batches and noise.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`LikedSASRecSettings`.
    """

    name = "liked-sasrec"
    settings_type = LikedSASRecSettings
    settings: LikedSASRecSettings
    module: LikedSASRecModule
    reads = frozenset({"history", "candidates", "liked"})

    def _build(self, split: Split) -> LikedSASRecModule:
        return LikedSASRecModule(split.dataset.n_items, self.settings)

    def _task(self, split: Split) -> Task:
        return Questions(self, split, self.settings.shots, self.modes[0])

    def missed(self, cases: Cases, mode: str) -> Tensor:
        """The mean binary cross-entropy of n answered cases."""
        assert cases.labels is not None
        wanted = torch.from_numpy(cases.labels.astype(np.float32)).to(device())
        return nn.functional.binary_cross_entropy_with_logits(self._said(cases), wanted)

    @torch.no_grad()
    def judge(self, cases: Cases, mode: str) -> NDArray[np.float64]:
        """float64[n], the logit of a like of each case's one target."""
        self.module.eval()
        return self._said(cases).double().cpu().numpy()

    def _said(self, cases: Cases) -> Tensor:
        targets = torch.from_numpy(cases.targets.values.astype(np.int64)).to(device())
        return self.module.logits(self._states(cases.history, cases.liked), targets)

    def _states(self, history: Ragged, liked: Ragged | None) -> Tensor:
        """float32[n, d]; an empty history reads one padding item."""
        short = history.last(self.settings.length)
        wide = max(1, int(short.lengths.max(initial=1)))
        items = short.padded(self.module.n_items, width=wide).astype(np.int64)
        flags = np.ones(items.shape, dtype=bool)
        if liked is not None:
            flags = liked.last(self.settings.length).padded(1, width=wide) > 0
        ends = np.maximum(short.lengths, 1) - 1
        told = (torch.from_numpy(part).to(device()) for part in (items, flags, ends))
        return self.module.states(*told)

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], logits of a like."""
        self.module.eval()
        states = self._states(requests.history, requests.liked)
        return (states @ self.module.items[:-1].T + self.module.worth).cpu()

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> LikedSASRecModule:
        return LikedSASRecModule(dataset.n_items, self.settings)
