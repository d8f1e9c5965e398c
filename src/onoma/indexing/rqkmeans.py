"""Method ``rqkmeans``: names by residual k-means, and a code that tells equals apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.disambiguation import disambiguate, place
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.kmeans import kmeans, nearest

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_CHOICES = 32


class RQKMeans(IndexMethod):
    """Each level is the nearest centroid of what the levels before left over.

    The codes of RQ-VAE (Rajput et al., TIGER, NeurIPS 2023, section 3.1) with k-means in place
    of the autoencoder, as in OneRec (2025). Items with no signal (zero vectors) share their first
    code, the centroid nearest to nothing, and are spread at random below it.

    Args:
        levels: codes before disambiguation.
        size: centroids a level; at most a quarter of the items with a signal.
        iterations: most rounds of Lloyd's algorithm a level.
    """

    name = "rqkmeans"

    def __init__(self, levels: int = 3, size: int = 256, iterations: int = 20) -> None:
        if levels < 1 or size < 1:
            raise OnomaError(f"levels is {levels} and size {size}; both must be at least 1")
        self.levels, self.size, self.iterations = levels, size, iterations

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Name the catalogue by its vectors; see :meth:`IndexMethod.build`."""
        if vectors is None:
            raise OnomaError("rqkmeans names items by vectors", fix="Give the index an encoder")
        if len(vectors) != split.dataset.n_items:
            raise OnomaError(f"{len(vectors)} vectors for {split.dataset.n_items} items")
        return self.name_vectors(vectors, seed)

    def name_vectors(self, vectors: NDArray[np.float32], seed: int = 0) -> ItemIndex:
        """Name one item for each row of float32[n, dim]; no data set needed."""
        points = _checked(vectors)
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
        return ItemIndex(
            np.concatenate([codes, last[:, None]], axis=1),
            (*sizes, last_size),
            self.name,
            {"codebooks": np.stack(books)},
            {
                "levels": self.levels, "size": size, "iterations": self.iterations, "seed": seed,
                "disambiguated": True, "without_signal": int(silent.sum()),
                "unexplained": [round(share, 6) for share in left],
            },
        )  # fmt: skip

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Nearest centroids, then the first free code; see :meth:`ItemIndex.assign`."""
        points = _checked(vectors).clone()
        books = torch.from_numpy(index.tensors["codebooks"])
        if points.shape[1] != books.shape[2]:
            raise OnomaError(f"vectors of width {points.shape[1]}, named with {books.shape[2]}")
        silent = (~points.any(dim=1)).numpy()
        codes = np.zeros((len(points), len(books)), dtype=np.int32)
        for level, book in enumerate(books):
            if level == len(books) - 1:
                square = torch.addmm(book.square().sum(1), points, book.T, alpha=-2)
                choices = square.topk(min(_CHOICES, len(book)), largest=False).indices.numpy()
            found, _ = nearest(points, book)
            codes[:, level] = found.numpy()
            _subtract(points, book, found)
        if silent.any():
            seed = int(index.meta.get("seed", 0)) + index.n_items
            codes[silent] = self._spread(list(books.numpy()), int(silent.sum()), seed)
        choices = choices.astype(np.int32)
        choices[:, 0] = codes[:, -1]
        return place(codes, choices, index.codes, index.sizes)

    @staticmethod
    def _spread(books: list[NDArray[np.float32]], n: int, seed: int) -> NDArray[np.int32]:
        size = len(books[0])
        codes = np.random.default_rng([seed, 1]).integers(0, size, (n, len(books)), dtype=np.int32)
        codes[:, 0] = np.square(books[0]).sum(axis=1).argmin()
        return codes


def _checked(vectors: NDArray[np.float32]) -> torch.Tensor:
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or not array.size:
        raise OnomaError(f"item vectors of shape {array.shape}; one row for each item is needed")
    points = torch.from_numpy(array)
    if not bool(torch.isfinite(points.sum(dim=1)).all()):
        bad = int((~torch.isfinite(points).all(dim=1)).float().argmax())
        raise OnomaError("a vector is not finite or too large", where=f"item {bad}")
    return points


def _subtract(points: torch.Tensor, book: torch.Tensor, found: torch.Tensor) -> None:
    """Leave the residual in place, a block at a time: a second copy of 2 million rows is 1 GB."""
    for start in range(0, len(points), 1 << 16):
        points[start : start + (1 << 16)] -= book[found[start : start + (1 << 16)]]
