"""ReaRec: a few steps of latent reasoning between the history and the answer."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from onoma.neural.blocks import Trunk
from onoma.neural.latent import LatentEncoder, contrast, disagreement
from onoma.recommenders.sequential.identity import IdModule, IdRecommender, IdSettings

ROWS = 128  # of a batch whose steps are compared over the whole catalogue


class ReaRecSettings(IdSettings):
    """The trunk, and how its steps are trained.

    Attributes:
        steps: K, reasoning steps.
        learning: ``erl`` averages the steps and rewards those that disagree; ``prl`` answers from
            the last, with flatter targets for the steps before it and a contrast to steps shaken
            by noise; ``plain`` trains the last step alone.
        diversity: weight of the disagreement in ``erl``.
        flatten: the temperature of a step grows by this factor for each step after it in ``prl``.
        contrast: weight of the contrast in ``prl``.
        shake: standard deviation of its noise.
    """

    steps: int = Field(default=2, ge=0)
    learning: Literal["erl", "prl", "plain"] = "prl"
    diversity: float = Field(default=0.01, ge=0)
    flatten: float = Field(default=2.0, ge=1)
    contrast: float = Field(default=0.1, ge=0)
    shake: float = Field(default=0.01, ge=0)


class ReaRecModule(IdModule):
    """A latent encoder over item vectors."""

    encoder: LatentEncoder

    @property
    def how(self) -> ReaRecSettings:
        """The settings."""
        assert isinstance(self.settings, ReaRecSettings)
        return self.settings

    def trunk(self) -> Trunk:
        """Blocks that can go on in their own states."""
        s = self.how
        return LatentEncoder(
            s.width, s.blocks, s.heads, s.length, s.input_dropout,
            steps=s.steps, noise=self.noise, dropout=s.dropout,
        )  # fmt: skip

    def states(self, items: Tensor, table: Tensor) -> Tensor:
        """float[b, l, p (K + 1) d]: all steps, and in ``prl`` those shaken by noise behind them."""
        s = self.how
        noisy = s.learning == "prl" and s.contrast > 0 and s.steps > 0
        shaken = (0.0, s.shake) if noisy else (0.0,)
        vectors = F.embedding(items, table)
        parts = self.encoder.think(vectors, shaken=shaken)
        return torch.cat([part.flatten(2) for part in parts], dim=2)

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d] answers."""
        return self._answer(self.encoder.think(vectors)[0])

    def last(self, items: Tensor, ends: Tensor, table: Tensor) -> Tensor:
        """int64[b, l] item codes to float[b, d] answers at int64[b] places."""
        thought = self.encoder.think(F.embedding(items, table), ends)[0]
        return self._answer(thought)[:, 0]

    def _answer(self, steps: Tensor) -> Tensor:
        """float[..., K + 1, d] to float[..., d]."""
        return steps.mean(-2) if self.how.learning == "erl" else steps[..., -1, :]

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """The loss of the answer, and what keeps the steps apart or in order."""
        s = self.how
        steps = states.view(len(states), -1, s.steps + 1, s.width)
        clean = steps[:, 0]
        loss = super().loss(self._answer(clean), targets, table)
        if s.steps == 0 or s.learning == "plain":
            return loss
        some = self.noise.integers(len(targets), ROWS).to(targets.device)
        some = some[targets[some] >= 0]
        if s.learning == "erl":
            if len(some) and s.diversity:
                query, items = self.query(clean[some].flatten(0, 1), table)
                logits = (query @ items.T).view(len(some), s.steps + 1, -1)
                loss = loss - s.diversity * disagreement(logits)
            return loss
        for step in range(s.steps):
            flat = s.flatten ** (s.steps - step)
            loss = loss + self._flattened(clean[:, step], targets, table, flat)
        if steps.shape[1] > 1 and len(some) > 1:
            some = torch.unique(some)  # a row drawn twice would be its own negative
            for step in range(1, s.steps + 1):
                near = contrast(clean[some, step], steps[some, 1, step])
                loss = loss + s.contrast * near / s.steps
        return loss

    def _flattened(self, states: Tensor, targets: Tensor, table: Tensor, flat: float) -> Tensor:
        """The loss at a temperature ``flat`` times as high."""
        self._flat = flat
        try:
            return super().loss(states, targets, table)
        finally:
            self._flat = 1.0

    _flat = 1.0

    def query(self, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """What the dense head multiplies, at the temperature asked for."""
        states, items = super().query(states, table)
        return (states if self._flat == 1.0 else states / self._flat), items


class ReaRec(IdRecommender):
    """Think before recommend (Tang et al., 2025): ERL and PRL on SASRec.

    Departs from the paper: every place of a history reasons in training, not its end alone; the
    noise is there from the first epoch; both sides of the divergence in ERL have gradients, and it
    is estimated from 128 places a batch.
    """

    name = "rearec"
    settings_type = ReaRecSettings
    module_type = ReaRecModule
