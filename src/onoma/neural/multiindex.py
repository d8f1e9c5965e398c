"""Items drawn by a softmax of products without a product with every item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from onoma.indexing.kmeans import kmeans, nearest


@dataclass(frozen=True)
class MultiIndex:
    """An inverted multi-index (Babenko and Lempitsky, CVPR 2012) that items are drawn from.

    Vectors are cut in two halves and each half is replaced by the nearest of K centroids, which
    makes K x K cells. An item's chance is the softmax of the products with what stands for it, so
    it is known exactly, and drawing one costs of the order of K d + K squared, whatever the number
    of items: the first centroid, then the second, then any item of the cell.

    Attributes:
        first: float32[K, d / 2] centroids of the first halves.
        second: float32[K, d - d / 2] of the second.
        cells: int64[n], K times the first centroid plus the second, of every item.
        items: int64[n], the items in order of their cells.
        starts: int64[K * K + 1], where in ``items`` each cell begins.
    """

    first: Tensor
    second: Tensor
    cells: Tensor
    items: Tensor
    starts: Tensor

    @classmethod
    def of(cls, vectors: Tensor, size: int, seed: int) -> Self:
        """The index of float32[n, d] vectors, d at least 2, with ``size`` centroids a half."""
        where, cut = vectors.device, vectors.shape[1] // 2
        points = vectors.detach().float().cpu()
        generator = torch.Generator().manual_seed(seed)
        halves = [half.contiguous() for half in (points[:, :cut], points[:, cut:])]
        centres = [kmeans(half, size, generator) for half in halves]
        codes = [nearest(half, centre)[0] for half, centre in zip(halves, centres, strict=True)]
        parts = (*centres, codes[0] * size + codes[1])
        return cls.over(*(part.to(where) for part in parts))

    @classmethod
    def over(cls, first: Tensor, second: Tensor, cells: Tensor) -> Self:
        """The index of known centroids and cells."""
        counts = torch.bincount(cells, minlength=len(first) * len(second))
        starts = F.pad(counts.cumsum(0), (1, 0))
        return cls(first, second, cells, torch.argsort(cells, stable=True), starts)

    @torch.no_grad()
    def draw(self, query: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """Items for every query, with replacement.

        Args:
            query: float32[m, d].
            chance: float32[3, m, k] in [0, 1), what decides.

        Returns:
            int64[m, k] items, and float32[m, k] the logarithms of their chances.
        """
        size, counts = len(self.first), self.starts.diff().view(len(self.first), -1)
        left, right = self._logits(query)
        # A cell's mass is its items times both exponentials; the maxima keep these in range.
        peaks = left.amax(1, keepdim=True), right.amax(1, keepdim=True)
        a, b = (left - peaks[0]).exp(), (right - peaks[1]).exp()
        outer = a * (b @ counts.double().T)
        one = _pick(outer[:, None].expand(-1, chance.shape[2], -1), chance[0])
        inner = b[:, None] * counts.double()[one]
        two = _pick(inner, chance[1])
        cell = one * size + two
        within = (chance[2] * (self.starts[cell + 1] - self.starts[cell])).long()
        total = outer.sum(1).log() + peaks[0][:, 0] + peaks[1][:, 0]
        told = left.gather(1, one) + right.gather(1, two) - total[:, None]
        # A chance next to 1 may round up to the size of the cell.
        within = within.minimum(self.starts[cell + 1] - self.starts[cell] - 1)
        return self.items[self.starts[cell] + within], told.float()

    @torch.no_grad()
    def log_chance(self, query: Tensor) -> Tensor:
        """float64[m, n], the logarithm of every item's chance for float32[m, d] queries."""
        left, right = self._logits(query)
        size = len(self.first)
        whole = left[:, self.cells // size] + right[:, self.cells % size]
        return whole.log_softmax(1)

    def _logits(self, query: Tensor) -> tuple[Tensor, Tensor]:
        cut = self.first.shape[1]
        halves = query[:, :cut].double(), query[:, cut:].double()
        return halves[0] @ self.first.double().T, halves[1] @ self.second.double().T


def _pick(mass: Tensor, chance: Tensor) -> Tensor:
    """int64[m, k], the columns of float64[m, k, c] masses at float32[m, k] shares of their sum."""
    edges = mass.cumsum(2)
    at = chance[:, :, None].double() * edges[:, :, -1:]
    found = torch.searchsorted(edges.contiguous(), at.contiguous(), right=True)[:, :, 0]
    # Rounding must not end in a column of no mass behind the last that has some.
    last = (mass > 0).long().cumsum(2).argmax(2)
    return found.minimum(last)


@torch.no_grad()
def draw_exactly(logits: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Columns drawn by a softmax, with replacement.

    Args:
        logits: float32[m, n].
        chance: float32[m, k] in [0, 1), what decides.

    Returns:
        int64[m, k] columns, and float32[m, k] the logarithms of their chances.
    """
    told = logits.double().log_softmax(1)
    edges = told.exp().cumsum(1)
    at = chance.double() * edges[:, -1:]
    found = torch.searchsorted(edges, at.contiguous(), right=True).clamp(max=logits.shape[1] - 1)
    return found, told.gather(1, found).float()
