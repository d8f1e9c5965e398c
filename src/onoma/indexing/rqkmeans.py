"""Method ``rqkmeans``: names by residual k-means, and a code that tells equals apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.disambiguation import SPARE, disambiguate, place
from onoma.indexing.index import ItemIndex
from onoma.indexing.kmeans import kmeans, nearest
from onoma.indexing.quantised import VectorNames, checked, summed

_CHOICES = 32


class RQKMeans(VectorNames):
    """Each level is the nearest centroid of what the levels before left over.

    The codes of RQ-VAE (Rajput et al., TIGER, NeurIPS 2023, section 3.1) with k-means in place
    of the autoencoder, as in OneRec (2025). Items with no signal (zero vectors) share their first
    code, the centroid nearest to nothing, and are spread at random below it.

    Args:
        levels: codes before disambiguation.
        size: centroids a level; at most a quarter of the items with a signal.
        iterations: most rounds of Lloyd's algorithm a level.
        group: most items that share all codes but the last. The farthest of a larger group move
            to the next nearest centroid of their last level (the uniform mapping of LC-Rec, Zheng
            et al., ICDE 2024, without its transport problem); the last vocabulary grows beyond
            this only where every near prefix is full.
    """

    name = "rqkmeans"

    def __init__(
        self, levels: int = 3, size: int = 256, iterations: int = 20, group: int = 256
    ) -> None:
        if levels < 1 or size < 1 or group < 1:
            raise OnomaError(
                f"levels is {levels}, size {size} and group {group}; all must be at least 1"
            )
        self.levels, self.size, self.iterations, self.group = levels, size, iterations, group

    def name_vectors(self, vectors: NDArray[np.float32], seed: int = 0) -> ItemIndex:
        """Name one item for each row of float32[n, dim]; no data set needed."""
        points = checked(vectors)
        n = len(points)
        generator = torch.Generator().manual_seed(seed)
        silent = ~points.any(dim=1)
        # Rows without signal stay zero: they are named apart and must not draw a centroid.
        known = points[~silent] if bool(silent.any()) else points.clone()
        size = min(self.size, max(1, len(known) // 4))
        codes = np.zeros((n, self.levels), dtype=np.int32)
        books, left = [], []
        total = max(float(known.square().sum(dtype=torch.float64)), 1e-30)
        distance = torch.zeros(len(known))
        rows = (~silent).numpy()
        for level in range(self.levels):
            if len(known):
                book = kmeans(known, size, generator, iterations=self.iterations)
                found, distance = nearest(known, book)
                if level < self.levels - 1:
                    _subtract(known, book, found)
                codes[rows, level] = found.numpy()
            else:
                book = torch.zeros(size, points.shape[1])
            books.append(book.numpy())
            left.append(float(distance.sum(dtype=torch.float64)) / total)
        if bool(silent.any()):
            codes[~rows] = self._spread(books, int(silent.sum()), seed)
        far = np.zeros(n, dtype=np.float32)
        far[rows] = distance.numpy()
        sizes = (size,) * self.levels
        last, last_size = disambiguate(codes, sizes, far, seed)
        names = np.concatenate([codes, last[:, None]], axis=1)
        crowded = (last[rows] >= self.group).nonzero()[0]
        if len(crowded):
            names, last_size = self._move(names, rows.nonzero()[0], crowded, known, books[-1])
        return ItemIndex(
            names,
            (*sizes, last_size),
            self.name,
            {"codebooks": np.stack(books)},
            {
                "levels": self.levels, "size": size, "iterations": self.iterations,
                "group": self.group, "seed": seed, "moved": len(crowded),
                "disambiguated": True, "without_signal": int(silent.sum()),
                "unexplained": [round(share, 6) for share in left],
            },
        )  # fmt: skip

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Nearest centroids, then the first free code; see :meth:`ItemIndex.assign`."""
        points = checked(vectors).clone()
        books = torch.from_numpy(index.tensors["codebooks"])
        if points.shape[1] != books.shape[2]:
            raise OnomaError(f"vectors of width {points.shape[1]}, named with {books.shape[2]}")
        silent = (~points.any(dim=1)).numpy()
        codes = np.zeros((len(points), len(books)), dtype=np.int32)
        for level, book in enumerate(books):
            if level == len(books) - 1:
                choices = _choices(points, book)
            found, _ = nearest(points, book)
            codes[:, level] = found.numpy()
            _subtract(points, book, found)
        if silent.any():
            seed = int(index.meta.get("seed", 0)) + index.n_items
            codes[silent] = self._spread(list(books.numpy()), int(silent.sum()), seed)
        choices[silent] = codes[silent, -1:]
        names, placed = place(codes, choices, index.codes, index.sizes)
        if not placed.all():
            raise OnomaError(
                f"{(~placed).sum()} new items find no free name near them",
                fix="Build the index again with the new items in the catalogue",
            )
        return names

    def reconstruct(self, index: ItemIndex) -> NDArray[np.float32] | None:
        """The sum of the centroids; see :meth:`ItemIndex.reconstruct`."""
        books = torch.from_numpy(index.tensors["codebooks"])
        return summed(torch.from_numpy(index.codes).long(), books).numpy()

    def _move(
        self,
        names: NDArray[np.int32],
        items: NDArray[np.int64],
        crowded: NDArray[np.int64],
        residuals: torch.Tensor,
        book: NDArray[np.float32],
    ) -> tuple[NDArray[np.int32], int]:
        """Names with the ``crowded`` rows of ``residuals`` (of ``items``) moved, and their size."""
        moving = items[crowded]
        choices = _choices(residuals[torch.from_numpy(crowded)], torch.from_numpy(book))
        staying = np.delete(names, moving, axis=0)
        sizes = (*[len(book)] * self.levels, self.group)
        moved, found = place(names[moving, :-1], choices, staying, sizes)
        names = names.copy()
        names[moving[found]] = moved[found]
        return names, int(names[:, -1].max()) + 1 + SPARE

    @staticmethod
    def _spread(books: list[NDArray[np.float32]], n: int, seed: int) -> NDArray[np.int32]:
        size = len(books[0])
        codes = np.random.default_rng([seed, 1]).integers(0, size, (n, len(books)), dtype=np.int32)
        codes[:, 0] = np.square(books[0]).sum(axis=1).argmin()
        return codes


def _choices(points: torch.Tensor, book: torch.Tensor) -> NDArray[np.int32]:
    """int32[m, choices], the nearest centroids of every point, nearest first."""
    square = book.square().sum(1)
    count = min(_CHOICES, len(book))
    nearest_first = [
        torch.addmm(square, points[start : start + (1 << 16)], book.T, alpha=-2)
        .topk(count, largest=False)
        .indices
        for start in range(0, len(points), 1 << 16)
    ]
    return torch.cat(nearest_first).numpy().astype(np.int32)


def _subtract(points: torch.Tensor, book: torch.Tensor, found: torch.Tensor) -> None:
    """Leave the residual in place, a block at a time: a second copy of 2 million rows is 1 GB."""
    for start in range(0, len(points), 1 << 16):
        points[start : start + (1 << 16)] -= book[found[start : start + (1 << 16)]]
