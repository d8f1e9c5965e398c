"""New items for recommenders that cannot take any: each is treated as the items it is like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Ragged
from onoma.recommenders.base import Ranking, Recommender, Requests

_NEAREST = 10


class LikeNeighbours(Recommender):
    """Another recommender's answers over a larger catalogue.

    A new item scores as the mean of the ten items that its vector is nearest to, weighted by
    cosine; one without a vector scores as the mean of the catalogue. In a history it stands for
    the nearest item. Only the first mode of the recommender answers new items.

    Args:
        inner: a fitted recommender of n items.
        vectors: float32[n, dim], unit or zero rows, what its items are like.
        new: float32[m, dim], likewise of the new ones, whose codes follow.
    """

    name = "neighbours"

    def __init__(
        self, inner: Recommender, vectors: NDArray[np.float32], new: NDArray[np.float32]
    ) -> None:
        self.inner, self.known = inner, len(vectors)
        self.reads, self.modes, self.batch = inner.reads, inner.modes, inner.batch  # type: ignore[misc]
        alike = torch.from_numpy(new @ vectors.T)
        weights, self._nearest = alike.topk(min(_NEAREST, self.known), dim=1)
        weights = weights.clamp(min=0)
        total = weights.sum(dim=1, keepdim=True)
        self._silent = (total == 0)[:, 0]
        self._weights = weights / total.clamp(min=1e-12)

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: the recommender's own scores, then those of the new items."""
        scores = self.inner.score(self._translated(requests)).float()
        finite = scores.clamp(min=torch.finfo(torch.float32).min / 2)
        new = (finite[:, self._nearest] * self._weights).sum(dim=2)
        new[:, self._silent] = finite.mean(dim=1, keepdim=True)
        return torch.cat([scores, new], dim=1)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if mode == self.modes[0]:
            return super()._recommend(requests, k, mode)
        return self.inner.recommend(self._translated(requests), k, mode=mode)

    def _translated(self, requests: Requests) -> Requests:
        """The same questions with known items alone."""
        history, exclude, candidates = requests.history, requests.exclude, requests.candidates
        values = np.asarray(history.values)
        late = values >= self.known
        if late.any():
            nearest = self._nearest[:, 0].numpy()
            values = np.where(late, nearest[np.where(late, values - self.known, 0)], values)
            history = Ragged(history.offsets, values.astype(np.int32))
        if exclude is not None:
            kept = exclude.values < self.known
            exclude = Ragged.from_groups(exclude.rows()[kept], exclude.values[kept], len(exclude))
        if candidates is not None:
            candidates = np.where(candidates < self.known, candidates, -1)
        return replace(requests, history=history, exclude=exclude, candidates=candidates)

    def fit(self, split: object) -> Self:
        """Not there: it is made of a fitted recommender."""
        raise NotImplementedError("fit the recommender inside")

    def save(self, folder: str | Path) -> None:
        """Not there: new items live in the event store."""
        raise NotImplementedError("save the recommender inside")

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Not there."""
        raise NotImplementedError("load the recommender inside")
