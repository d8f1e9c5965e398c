"""Three towers into one space: users, items, and tags in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma.neural.noise import Dropout, Noise
from onoma.recommenders.ranking.clicks import attributes
from onoma.recommenders.trained import TrainedModule

_START = 0.1  # standard deviation of fresh embeddings
_BUCKETS = 10  # of prices


class TowerSettings(BaseModel):
    """Sizes and losses.

    Attributes:
        width: dimensions of the common space, and of every embedding.
        hidden: units in the middle of a tower.
        dropout: rate there.
        length: items of a history that are read, the last ones.
        temperature: what cosines are divided by.
        alpha: weight of tags against their item; the rest is that of tags against other items of
            the category.
        batch: clicks a training step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, ge=2)
    hidden: int = Field(default=128, ge=2)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    length: int = Field(default=50, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    alpha: float = Field(default=0.5, ge=0, le=1)
    batch: int = Field(default=512, ge=2)


@dataclass(frozen=True)
class Step:
    """What a training step reads.

    Attributes:
        history: int64[b, l], left aligned, n_items behind.
        users: int64[b], n_users where the user is not told.
        items: int64[b], what followed.
        kinds: int64[b], a category of it, -1 where it has none.
        words: int64[b], a word of it, -1 where it has none.
        others: int64[b], another item of the category, or the item itself.
    """

    history: Tensor
    users: Tensor
    items: Tensor
    kinds: Tensor
    words: Tensor
    others: Tensor

    def to(self, where: torch.device) -> Step:
        """The same on a device."""
        parts = (self.history, self.users, self.items, self.kinds, self.words, self.others)
        return Step(*(part.to(where) for part in parts))


class Towers(TrainedModule):
    """Users, items and tags as unit vectors of one space.

    Args:
        users: that are known.
        features: int64[n_items, 3] category, brand and price bucket, 0 for none.
        terms: float32[c + w, e] word vectors of categories and of words, frozen.
        kinds: c.
        popularity: float32[n_items], logarithm of each item's share of training clicks.
        settings: of :class:`TowerSettings`.
    """

    features: Tensor
    terms: Tensor
    popularity: Tensor

    def __init__(
        self,
        users: int,
        features: NDArray[np.int64],
        terms: Tensor,
        kinds: int,
        popularity: Tensor,
        settings: TowerSettings,
    ) -> None:
        super().__init__()
        self.n_users, self.n_items, self.noise = users, len(features), Noise()
        self.kinds, self.settings = kinds, settings
        width = settings.width
        padded = np.concatenate([features, np.zeros((1, features.shape[1]), dtype=np.int64)])
        self.register_buffer("features", torch.from_numpy(padded))
        self.register_buffer("terms", terms)
        self.register_buffer("popularity", popularity)
        self.user = nn.Embedding(users + 1, width)
        self.item = nn.Embedding(self.n_items + 1, width)
        sizes = (int(column.max(initial=0)) + 1 for column in padded.T)
        self.of_feature = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        for table in (self.user, self.item, *self.of_feature):
            nn.init.normal_(table.weight, std=_START)
        self.item_tower = self._tower(width)
        self.user_tower = self._tower(2 * width)
        self.tag_tower = self._tower(terms.shape[1])

    def _tower(self, before: int) -> nn.Sequential:
        settings = self.settings
        return nn.Sequential(
            nn.Linear(before, settings.hidden),
            nn.ReLU(),
            Dropout(settings.dropout, self.noise),
            nn.Linear(settings.hidden, settings.width),
        )

    def inputs(self) -> Tensor:
        """float32[n_items + 1, d]: id, category, brand and price, added up; the last row pads."""
        total = self.item.weight
        for table, column in zip(self.of_feature, self.features.unbind(1), strict=True):
            total = total + table(column)
        return total

    def items(self, inputs: Tensor) -> Tensor:
        """float32[m, d] unit vectors of rows of :meth:`inputs`."""
        return nn.functional.normalize(self.item_tower(inputs), dim=1)

    def users(self, users: Tensor, history: Tensor, inputs: Tensor) -> Tensor:
        """float32[b, d] unit vectors: the id beside the mean of the history."""
        known = (history < self.n_items)[:, :, None]
        had = (nn.functional.embedding(history, inputs) * known).sum(1)
        mean = had / known.sum(1).clamp(min=1)
        return nn.functional.normalize(
            self.user_tower(torch.cat([self.user(users), mean], dim=1)), dim=1
        )

    def tags(self, kinds: Tensor, words: Tensor) -> Tensor:
        """float32[..., d] unit vectors: the mean of the words of each tag.

        Args:
            kinds: int64[...] categories; -1 for a tag without.
            words: int64[...] words; -1 for a tag without.
        """
        parts = torch.stack([kinds, torch.where(words >= 0, words + self.kinds, -1)], dim=-1)
        there = (parts >= 0)[..., None]
        told = nn.functional.embedding(parts.clamp(min=0), self.terms) * there
        mean = told.sum(-2) / there.sum(-2).clamp(min=1)
        scaled = mean * self.terms.shape[1] ** 0.5  # unit vectors are small numbers for a layer
        return nn.functional.normalize(self.tag_tower(scaled), dim=-1)

    def loss(self, step: Step) -> Tensor:
        """Users against items, tags against their item and against others of its category."""
        inputs, alpha = self.inputs(), self.settings.alpha
        items = self.items(inputs[step.items])
        users = self.users(step.users, step.history, inputs)
        clicks = self._contrast(users, items, step.items, self.popularity[step.items])
        told = (step.kinds >= 0) | (step.words >= 0)
        if not bool(told.any()):
            return clicks
        tags = self.tags(step.kinds[told], step.words[told])
        even = torch.zeros(int(told.sum()), device=tags.device)
        own = self._contrast(tags, items[told], step.items[told], even)
        others = step.others[told]
        company = self._contrast(tags, self.items(inputs[others]), others, even)
        return clicks + alpha * own + (1 - alpha) * company

    def _contrast(self, states: Tensor, items: Tensor, codes: Tensor, offset: Tensor) -> Tensor:
        """Softmax over the items of the batch, corrected by ``offset``; an item twice counts once.

        Bengio and Senecal's correction (2008) takes from in-batch negatives their popularity.
        """
        logits = states @ items.T / self.settings.temperature - offset
        rows = torch.arange(len(codes), device=codes.device)
        again = (codes[:, None] == codes) & (rows[:, None] != rows)
        logits = logits.masked_fill(again, -torch.inf)
        return nn.functional.cross_entropy(logits, rows)


def features(items: pl.DataFrame) -> NDArray[np.int64]:
    """int64[n_items, 3]: category, brand and price bucket of each item, 0 for none."""
    price = np.zeros(items.height, dtype=np.int64)
    if "price" in items.columns and items.schema["price"].is_numeric():
        told = items["price"].cast(pl.Float64).fill_nan(None)
        known = told.is_not_null().to_numpy()
        if known.any():
            values = told.drop_nulls().to_numpy()
            edges = np.quantile(values, np.linspace(0, 1, _BUCKETS + 1)[1:-1])
            price[known] = 1 + np.searchsorted(edges, values, side="right")
    return np.concatenate([attributes(items), price[:, None]], axis=1)
