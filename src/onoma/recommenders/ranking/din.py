"""Deep interest network: the history, weighed by how it bears on the candidate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onoma.dataset import Dataset, Split
from onoma.neural.noise import Noise
from onoma.recommenders.ranking.clicks import (
    ClickModule,
    ClickSettings,
    PairRanker,
    Pairs,
    attributes,
    head,
)

_START = 0.05  # standard deviation of fresh embeddings
_ATTENTION = 36


class DINModule(ClickModule):
    """Embeddings, an attention of the candidate over the history, and a head.

    Args:
        users: that are known.
        attributes: int64[n_items, 2] category and brand codes, 0 for none.
        settings: of the model.
        more: inputs of the head besides user, history and candidate.
    """

    kinds: Tensor

    def __init__(
        self, users: int, attributes: NDArray[np.int64], settings: ClickSettings, more: int = 0
    ) -> None:
        super().__init__()
        self.n_users, self.n_items, self.noise = users, len(attributes), Noise()
        width = settings.width
        padded = np.concatenate([attributes, np.zeros((1, 2), dtype=np.int64)])
        self.register_buffer("kinds", torch.from_numpy(padded))
        self.user = nn.Embedding(users + 1, width)
        self.item = nn.Embedding(self.n_items + 1, width)
        self.category = nn.Embedding(int(padded[:, 0].max(initial=0)) + 1, width)
        self.brand = nn.Embedding(int(padded[:, 1].max(initial=0)) + 1, width)
        for table in (self.user, self.item, self.category, self.brand):
            nn.init.normal_(table.weight, std=_START)
        self.attend = nn.Sequential(
            nn.Linear(4 * width, _ATTENTION), nn.PReLU(), nn.Linear(_ATTENTION, 1)
        )
        self.head = head(3 * width + more, settings.dropout, self.noise)

    def table(self) -> Tensor:
        """float32[n_items + 1, d]: id, category and brand, added up; the last row pads."""
        category, brand = self.kinds.unbind(1)
        return self.item.weight + self.category(category) + self.brand(brand)

    def read(self, pairs: Pairs) -> Tensor:
        """float32[m, 3d]: the user, the history as it bears on the candidate, the candidate."""
        table = self.table()
        history = nn.functional.embedding(pairs.history, table)
        target = nn.functional.embedding(pairs.items, table)
        wide = target[:, None].expand_as(history)
        both = torch.cat([history, wide, history - wide, history * wide], dim=2)
        # No softmax (section 4.3): how strongly the history bears on it is kept.
        weight = self.attend(both) * (pairs.history < self.n_items)[:, :, None]
        return torch.cat([self.user(pairs.users), (weight * history).sum(1), target], dim=1)

    def logits(self, pairs: Pairs) -> Tensor:
        """float32[m]."""
        out: Tensor = self.head(self.read(pairs))[:, 0]
        return out


class DIN(PairRanker):
    """DIN (Zhou et al., KDD 2018): a click model that reads the history in view of the candidate.

    Items are the sum of vectors of id, category and brand. The attention has PReLU where the paper
    has Dice; training is on every click of every history and one uniform negative each, a tenth of
    them without the user, so that strangers are answered.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, batches and negatives.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`onoma.recommenders.ranking.clicks.ClickSettings`.
    """

    name = "din"
    module: DINModule
    settings_type = ClickSettings

    def _build(self, split: Split) -> DINModule:
        return DINModule(split.dataset.n_users, attributes(split.dataset.items), self.settings)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> DINModule:
        kinds: NDArray[np.int64] = weights["kinds"][:-1].numpy()
        if len(kinds) != dataset.n_items:
            raise ValueError(f"weights of {len(kinds)} items")
        return DINModule(len(weights["user.weight"]) - 1, kinds, self.settings)

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d]."""
        with torch.no_grad():
            table: NDArray[np.float32] = self.module.table()[:-1].cpu().numpy()
        return table
