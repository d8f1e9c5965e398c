"""Text vectors moved so that items of one history are near each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Ragged, Split
from onoma.neural.batching import PrefixBatches
from onoma.neural.device import device
from onoma.neural.noise import Dropout, Noise
from onoma.neural.trainer import Trainer, TrainSettings
from onoma.recommenders.trained import TrainedModule

_CHECKED = 2000  # validation cases


class SpaceSettings(BaseModel):
    """The map of the text vectors and how it is trained.

    Attributes:
        hidden: units in its middle.
        dropout: rate there.
        length: items before a target that are read, and items behind it where it was masked.
        negatives: items drawn for each target; all of a batch are told apart from all targets.
        temperature: what cosines are divided by at first; it is learnt, so that cosines need not
            crowd together where histories tell little.
        batch: targets a training step.
        train: the schedule; ``batch_tokens`` is not used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    length: int = Field(default=20, ge=1)
    negatives: int = Field(default=9, ge=0)
    temperature: float = Field(default=0.05, gt=0)
    batch: int = Field(default=128, ge=1)
    train: TrainSettings = TrainSettings(
        epochs=10, lr=1e-3, weight_decay=0.01, valid_every=1, patience=3
    )


class TextSpace(TrainedModule):
    """A residual map that begins as the text vectors themselves.

    Args:
        content: float32[n_items, d] unit rows; a zero row where nothing is known, which stays.
        settings: of :class:`SpaceSettings`.
    """

    content: Tensor

    def __init__(self, content: Tensor, settings: SpaceSettings) -> None:
        super().__init__()
        self.n_items, self.noise, self.settings = len(content), Noise(), settings
        width = content.shape[1]
        self.register_buffer("content", F.pad(content, (0, 0, 0, 1)))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(settings.temperature)))
        last = nn.Linear(settings.hidden, width, bias=False)
        nn.init.zeros_(last.weight)
        self.map = nn.Sequential(
            nn.Linear(width, settings.hidden),
            nn.GELU(),
            Dropout(settings.dropout, self.noise),
            last,
        )

    def items(self, codes: Tensor) -> Tensor:
        """float32[..., d] unit vectors of int64[...] codes; zeros where nothing is known."""
        told = self.content[codes]
        # Unit rows of many dimensions are small numbers for a layer.
        moved = told + self.map(told * told.shape[-1] ** 0.5) / told.shape[-1] ** 0.5
        return F.normalize(moved, dim=-1) * told.any(-1, keepdim=True)

    def scale(self) -> Tensor:
        """float32[], what cosines are multiplied with."""
        return self.log_scale.exp().clamp(max=100)

    def loss(self, around: Tensor, targets: Tensor) -> Tensor:
        """Mean InfoNCE of targets against those of others and drawn items.

        Args:
            around: int64[b, l] items that a target stands among, ``n_items`` behind them.
            targets: int64[b].
        """
        s = self.settings
        drawn = self.noise.integers(self.n_items, len(targets) * s.negatives)
        against = torch.cat([targets, drawn.to(targets.device)])
        used, place = torch.unique(torch.cat([around.flatten(), against]), return_inverse=True)
        vectors = self.items(used)
        items = vectors[place[around.numel() :]]
        query = _mean(vectors[place[: around.numel()].view(around.shape)])
        logits = query @ items.T * self.scale()
        # What the user had, or what is told itself, is no negative.
        own = (against[None, :, None] == around[:, None, :]).any(2)
        own |= against == targets[:, None]
        own[torch.arange(len(targets)), torch.arange(len(targets))] = False
        return F.cross_entropy(
            logits.masked_fill(own, -torch.inf), torch.arange(len(targets), device=logits.device)
        )

    @torch.no_grad()
    def vectors(self) -> Tensor:
        """float32[n_items, d] unit rows of the whole catalogue."""
        return self.items(torch.arange(self.n_items, device=self.content.device))

    @torch.no_grad()
    def centred(self) -> Tensor:
        """float32[n_items, d] unit rows, less what all items have in common.

        Else any two of them are alike, and no threshold tells them apart.
        """
        vectors = self.vectors()
        known = vectors.any(1, keepdim=True)
        mean = vectors.sum(0) / known.sum().clamp(min=1)
        return F.normalize((vectors - mean) * known, dim=1)


def learnt(
    content: NDArray[np.float32], split: Split, settings: SpaceSettings, seed: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Text vectors after training, and what the trainer tells.

    Every target is told twice, from the items before it (next item) and from those around it
    (masked item); a history is the mean of its items. Validation picks the weights, by the
    likelihood of its targets.

    Args:
        content: float32[n_items, d] text vectors.
        split: its training part is read, and validation.
        settings: of the map.
        seed: of weights, batches and negatives.
    """
    torch.manual_seed(seed)
    space = TextSpace(torch.from_numpy(content), settings).to(device())
    told = Trainer(settings.train, seed, None, quiet=True).fit(
        space, space.noise, _Around(space, split)
    )
    return space.eval().centred().cpu().numpy(), {**told, "scale": float(space.scale().detach())}


class _Around:
    """The trainer's view: targets with the items before and behind them."""

    judged = "likelihood"

    def __init__(self, space: TextSpace, split: Split) -> None:
        self.space, s = space, space.settings
        self.batches = PrefixBatches(split.train, s.batch, s.length, following=1 + s.length)
        rows = np.linspace(0, len(split.valid) - 1, min(_CHECKED, len(split.valid)))
        self.cases = split.valid.take(np.unique(rows.astype(np.int64)))

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.batches.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        before, _, _, following = self.batches.tensors(batch, self.space.n_items)
        where = self.space.content.device
        before, following = before.to(where), following.to(where)
        targets = following[:, 0]
        around = torch.cat([before, following[:, 1:]], dim=1)
        # A target that comes again around itself would be told by itself.
        around = around.masked_fill(around == targets[:, None], self.space.n_items)
        return self.space.loss(before, targets) + self.space.loss(around, targets)

    def validate(self) -> float:
        """The geometric mean of the chances that validation targets have in the catalogue."""
        history: Ragged = self.cases.history.last(self.space.settings.length)
        vectors = self.space.vectors()
        padded = torch.from_numpy(history.padded(self.space.n_items)).to(vectors.device)
        query = _mean(F.pad(vectors, (0, 0, 0, 1))[padded])
        logits = query @ vectors.T * self.space.scale()
        targets = self.cases.targets
        wanted = torch.from_numpy(targets.values[targets.offsets[:-1]].astype(np.int64))
        return float((-F.cross_entropy(logits, wanted.to(logits.device))).exp())


def _mean(vectors: Tensor) -> Tensor:
    """float32[b, l, d] to float32[b, d], the direction of the sum."""
    return F.normalize(vectors.sum(1), dim=1)
