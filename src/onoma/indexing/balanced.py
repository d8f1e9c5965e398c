"""Method ``balanced``: residual k-means whose centroids serve about equally many items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans
from onoma.indexing.quantised import QuantisedNames, summed

_ROWS = 1 << 14
_POINTS_PER_CENTROID = 64  # enough to tell a price
_FEWEST = 8  # with fewer a crowd of thrice the mean is left
_CELLS = 1 << 25  # distances that the transport holds at once, several times over: 128 MB each
_ROUNDS = 40
_ENTROPY = 0.02  # of the mean squared distance to the nearest centroid


class BalancedNames(QuantisedNames):
    """Residual k-means with a price on popular centroids (balanced k-means of OneRec, 2025).

    A point goes where squared distance plus price is least. The prices are the duals of the
    optimal transport of the points to centroids of equal capacity, at a small entropy (Cuturi,
    NIPS 2013); means and prices take turns. New items pay the same prices.

    Args:
        levels: codes before disambiguation.
        size: centroids a level; at most a quarter of the items, and 2,048 in large catalogues.
        iterations: turns of prices and means a level.
    """

    name = "balanced"

    def __init__(self, levels: int = 3, size: int = 256, iterations: int = 6) -> None:
        if levels < 1 or size < 1 or iterations < 1:
            raise OnomaError(
                f"levels is {levels}, size {size} and iterations {iterations}; "
                "all must be at least 1"
            )
        self.levels, self.size, self.iterations = levels, size, iterations

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"levels": self.levels, "size": self.size, "iterations": self.iterations}

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Codebooks and prices.

        Raises:
            OnomaError: more centroids than can be priced in memory.
        """
        n, width = points.shape
        size = min(self.size, max(1, n // 4))
        books = torch.zeros(self.levels, size, width)
        prices = torch.zeros(self.levels, size)
        if not n:
            return {"codebooks": books, "prices": prices}
        if size > (most := math.isqrt(_CELLS // _FEWEST)):
            raise OnomaError(
                f"size is {self.size}; balanced can give a price to at most {most:,} centroids",
                fix="Use a smaller size, or rqkmeans",
            )
        sample = min(n, size * _POINTS_PER_CENTROID, _CELLS // size)
        left = points.clone()
        for level in range(self.levels):
            book = kmeans(left, size, generator, iterations=10)
            some = torch.randperm(n, generator=generator)[:sample]
            price = torch.zeros(size)
            for _ in range(self.iterations):
                price = _prices(left[some], book, price)
                found, _ = _cheapest(left, book, price)
                count = torch.bincount(found, minlength=size)
                sums = torch.zeros_like(book).index_add_(0, found, left)
                full = count > 0
                book[full] = sums[full] / count[full, None]
            price = _prices(left[some], book, price)
            books[level], prices[level] = book, price
            left -= book[_cheapest(left, book, price)[0]]
        return {"codebooks": books, "prices": prices}

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """The cheapest centroid of every residual."""
        left, codes = points.clone(), []
        for book, price in zip(learnt["codebooks"], learnt["prices"], strict=True):
            found, _ = _cheapest(left, book, price)
            left -= book[found]
            codes.append(found)
        return torch.stack(codes, 1).numpy().astype(np.int32), left.square().sum(1).numpy()

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """As many codes as centroids."""
        return (learnt["codebooks"].shape[1],) * self.levels

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """The sum of the centroids."""
        return summed(codes, learnt["codebooks"])


def _prices(points: Tensor, book: Tensor, price: Tensor) -> Tensor:
    """float32[k], the least at zero, under which about equally many points go to each centroid."""
    far = torch.cdist(points, book).square()
    nearby = float(far.amin(1).mean()) * _ENTROPY + 1e-12
    even = math.log(len(points) / len(book))
    # From hot to cold: prices at a small entropy alone would take thousands of rounds.
    for heat in np.geomspace(max(float(far.mean()), nearby), nearby, _ROUNDS).tolist():
        share = (-(far + price) / heat).log_softmax(1).logsumexp(0)
        price = price + heat * (share - even)
    return price - price.min()


def _cheapest(points: Tensor, book: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
    """int64[n] the centroid and float32[n] the squared distance to it."""
    cost = (book.square().sum(1) + price) / 2
    across = book.T.contiguous()
    found = torch.cat(
        [
            torch.addmm(cost, block, across, alpha=-1).argmin(1)
            for block in torch.split(points, _ROWS)
        ]
    )
    return found, (points - book[found]).square().sum(1)
