"""A map of item texts, original and generated, against a table of users."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.dataset.files import write_text
from onoma.encoding.augmented import Augmented
from onoma.encoding.cooccurrence import interactions
from onoma.neural.device import device
from onoma.neural.noise import Dropout, Noise
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.collaborative.lightgcn import mean_rows
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuning import validation_ndcg

_START = 0.1  # standard deviation of fresh user vectors


class AugmentedSettings(BaseModel):
    """What is read, and the map from it.

    Attributes:
        encoder: what turns items into vectors; anything ``encoding.build`` takes.
        hidden: units of the map's middle.
        width: dimensions of a user and of a mapped item.
        dropout: rate in the middle.
        batch: interactions a training step, each with one negative.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Any = "augmented"
    hidden: int = Field(default=128, ge=1)
    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    batch: int = Field(default=1024, ge=1)


class AugmentedModule(TrainedModule):
    """A table of users and a tower of items.

    Attributes:
        content: float32[n_items, D], frozen.
        out: float32[n_items, d], the tower's items, which answers are read from.
    """

    content: Tensor
    out: Tensor

    def __init__(self, users: int, content: Tensor, settings: AugmentedSettings) -> None:
        super().__init__()
        self.n_items, self.noise = len(content), Noise()
        self.users = nn.Parameter(torch.randn(users, settings.width) * _START)
        # Unit rows of many dimensions are small numbers for a layer.
        self.register_buffer("content", content)
        self.tower = nn.Sequential(
            nn.Linear(content.shape[1], settings.hidden),
            nn.ReLU(),
            Dropout(settings.dropout, self.noise),
            nn.Linear(settings.hidden, settings.width),
        )
        self.register_buffer("out", torch.zeros(self.n_items, settings.width))

    def items(self, codes: Tensor) -> Tensor:
        """int64[b] item codes to float32[b, d]."""
        out: Tensor = self.tower(self.content[codes] * self.content.shape[1] ** 0.5)
        return out

    def settle(self) -> None:
        """Compute the items' vectors from the weights as they are."""
        with torch.no_grad():
            self.out.copy_(self.items(torch.arange(self.n_items, device=self.content.device)))


class AugmentedMLP(TrainedRecommender):
    """LLM-Rec (S047): an ordinary recommender whose items are texts that a language model enriched.

    Lyu et al., NAACL Findings 2024. Items are the vectors of their texts, through two layers; users
    are a table; the score is their product, trained by binary cross-entropy with one uniform
    negative for every interaction. A negative that its user has in training does not count. A
    stranger stands where the items of the history do on average.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, batches and negatives.
        folder: where checkpoints, the log and ``written.json`` go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`AugmentedSettings`.
    """

    name = "augmented-mlp"
    reads = frozenset({"history", "users"})
    module: AugmentedModule
    settings_type = AugmentedSettings
    settings: AugmentedSettings

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(train=train, seed=seed, folder=folder, quiet=quiet, **settings)
        self._report: dict[str, Any] = {}

    def language_report(self) -> dict[str, Any]:
        """The cost sheet of the generated texts; empty where there are none."""
        return self._report

    def _build(self, split: Split) -> AugmentedModule:
        began = time.monotonic()
        encoder = encoding.build(self.settings.encoder)
        content = encoding.cached(encoder, split)
        if isinstance(encoder, Augmented):
            self._report = encoder.report(split)
            self._keep(encoder, split)
        self.seconds["encode"] = time.monotonic() - began
        return AugmentedModule(split.dataset.n_users, torch.from_numpy(content), self.settings)

    def _keep(self, encoder: Augmented, split: Split) -> None:
        """Write the generated texts down for people to read."""
        if self.folder is None:
            return
        ids = split.dataset.item_ids
        told = {
            part.prompt: {str(ids[row]): text for row, text in enumerate(part.texts(split)) if text}
            for part in encoder.written
        }
        write_text(
            json.dumps(told, indent=1, ensure_ascii=False) + "\n", self.folder / "written.json"
        )

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> AugmentedModule:
        return AugmentedModule(
            len(weights["users"]), torch.zeros_like(weights["content"]), self.settings
        )

    def _task(self, split: Split) -> Task:
        return _Pairs(self, split)

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], products of users and items."""
        module = self.module
        codes = np.full(len(requests), -1) if requests.users is None else requests.users
        users = torch.from_numpy(codes.astype(np.int64)).to(module.users.device)
        known = (users >= 0) & (users < len(module.users))
        held = interactions(requests.history, module.n_items)
        filled = torch.from_numpy(held.sum(axis=1) > 0).to(users.device)
        guess = torch.where(filled[:, None], mean_rows(held, module.out), module.users.mean(0))
        vectors = torch.where(
            known[:, None], module.users[users.clamp(0, len(module.users) - 1)], guess
        )
        return (vectors @ module.out.T).cpu()

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what users are multiplied with."""
        vectors: NDArray[np.float32] = self.module.out.cpu().numpy()
        return vectors


class _Pairs:
    """The trainer's view: interactions, shuffled every epoch, each with a negative."""

    def __init__(self, owner: AugmentedMLP, split: Split) -> None:
        self.owner, self.split = owner, split
        held = interactions(split.train, split.dataset.n_items).tocoo()
        self.users, self.items = (axis.astype(np.int64) for axis in held.coords)
        self.taken = np.sort(self.users * split.dataset.n_items + self.items)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.users))
        return np.array_split(order, max(1, -(-len(order) // self.owner.settings.batch)))

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        users, items = self.users[batch], self.items[batch]
        others = module.noise.integers(module.n_items, len(batch)).numpy()
        keys = users * module.n_items + others
        place = np.minimum(np.searchsorted(self.taken, keys), len(self.taken) - 1)
        free = torch.from_numpy(self.taken[place] != keys).to(where)
        states = module.users[torch.from_numpy(users).to(where)]
        # An item goes through the tower once, however often the batch has it.
        codes, place = np.unique(np.concatenate([items, others]), return_inverse=True)
        found = module.items(torch.from_numpy(codes).to(where))
        both = found[torch.from_numpy(place).to(where)]
        right, wrong = ((states * part).sum(1) for part in both.chunk(2))
        ones, zeros = torch.ones_like(right), torch.zeros_like(wrong)
        entropy = nn.functional.binary_cross_entropy_with_logits
        missed = entropy(wrong, zeros, reduction="none") * free
        return entropy(right, ones) + missed.sum() / free.sum().clamp(min=1)

    def validate(self) -> float:
        self.owner.module.settle()
        return validation_ndcg(self.owner, self.split.valid)
