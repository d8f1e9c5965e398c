"""What methods that quantise vectors share: checks, silent items, the last code, new items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.errors import OnomaError
from onoma.indexing.disambiguation import disambiguate, place
from onoma.indexing.index import IndexMethod, ItemIndex

if TYPE_CHECKING:
    from onoma.dataset.split import Split


class VectorNames(IndexMethod):
    """A method that reads one vector an item and nothing else."""

    needs_vectors = True

    @abstractmethod
    def name_vectors(self, vectors: NDArray[np.float32], seed: int = 0) -> ItemIndex:
        """Name one item for each row of float32[n, dim]; no data set needed."""

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Name the catalogue by its vectors; see :meth:`IndexMethod.build`."""
        if vectors is None:
            raise OnomaError(f"{self.name} names items by vectors", fix="Give the index an encoder")
        if len(vectors) != split.dataset.n_items:
            raise OnomaError(f"{len(vectors)} vectors for {split.dataset.n_items} items")
        return self.name_vectors(vectors, seed)


class QuantisedNames(VectorNames):
    """Codes from vectors by a learnt quantiser, then a code that tells equals apart.

    Subclasses give :meth:`learn` and :meth:`quantise`. Items with no signal (zero vectors) get
    codes drawn at random.
    """

    @abstractmethod
    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The quantiser of float32[n, dim] points (n may be 0), as tensors to keep."""

    @abstractmethod
    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """int32[n, levels] codes, and float32[n] distances that order equals (None: a shuffle)."""

    @abstractmethod
    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The vocabulary of each level."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments, for the record."""

    def name_vectors(self, vectors: NDArray[np.float32], seed: int = 0) -> ItemIndex:
        """Name one item for each row of float32[n, dim]; no data set needed."""
        points = checked(vectors)
        silent = (~points.any(dim=1)).numpy()
        learnt = self.learn(points[~silent], torch.Generator().manual_seed(seed))
        sizes = self.vocabularies(learnt)
        codes, distance = self._coded(points, silent, learnt, sizes, seed)
        last, last_size = disambiguate(codes, sizes, distance, seed)
        return ItemIndex(
            np.concatenate([codes, last[:, None]], axis=1),
            (*sizes, last_size),
            self.name,
            {key: value.numpy() for key, value in learnt.items()},
            {
                **self.settings(), "seed": seed, "disambiguated": True,
                "without_signal": int(silent.sum()), "width": points.shape[1],
            },
        )  # fmt: skip

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The codes of the quantiser, then the first free one; see :meth:`ItemIndex.assign`."""
        points = checked(vectors)
        if points.shape[1] != index.meta["width"]:
            raise OnomaError(
                f"vectors of width {points.shape[1]}, named with {index.meta['width']}"
            )
        silent = (~points.any(dim=1)).numpy()
        learnt = {key: torch.from_numpy(value) for key, value in index.tensors.items()}
        seed = int(index.meta.get("seed", 0)) + index.n_items
        codes, _ = self._maker(index)._coded(points, silent, learnt, index.sizes[:-1], seed)
        # Where a group is full the codes of its last level stand in, one after the other.
        near = np.arange(index.sizes[-2], dtype=np.int64)
        around = (codes[:, -1:].astype(np.int64) + near) % index.sizes[-2]
        names, placed = place(codes, around, index.codes, index.sizes)
        if not placed.all():
            raise OnomaError(
                f"{int((~placed).sum())} new items find no free name near them",
                fix="Build the index again with the new items in the catalogue",
            )
        return names

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor | None:
        """float32[n, dim], what int64[n, levels] codes stand for; None where that is no vector."""
        return None

    def reconstruct(self, index: ItemIndex) -> NDArray[np.float32] | None:
        """The codes but the last, decoded; see :meth:`ItemIndex.reconstruct`."""
        learnt = {key: torch.from_numpy(value) for key, value in index.tensors.items()}
        with torch.no_grad():
            points = self._maker(index).said(torch.from_numpy(index.codes[:, :-1]).long(), learnt)
        return None if points is None else points.numpy()

    def _maker(self, index: ItemIndex) -> Self:
        """The method with the settings that the index was made with."""
        return type(self)(**{key: index.meta[key] for key in self.settings()})

    def _coded(
        self,
        points: Tensor,
        silent: NDArray[np.bool_],
        learnt: Mapping[str, Tensor],
        sizes: tuple[int, ...],
        seed: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        codes, distance = self.quantise(points, learnt)
        if silent.any():
            rng = np.random.default_rng([seed, 1])
            codes[silent] = rng.integers(0, sizes, (int(silent.sum()), len(sizes)), dtype=np.int32)
        return codes, distance


def summed(codes: Tensor, books: Tensor) -> Tensor:
    """float32[n, dim], the sum of the centroids that int64[n, levels] codes name."""
    out = torch.zeros(len(codes), books.shape[2])
    for level, book in enumerate(books):
        out += book[codes[:, level]]
    return out


def checked(vectors: NDArray[np.float32]) -> Tensor:
    """Item vectors as a tensor.

    Raises:
        OnomaError: not a table, no rows, or a value that is not finite.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or not array.size:
        raise OnomaError(f"item vectors of shape {array.shape}; one row for each item is needed")
    points = torch.from_numpy(array)
    if not bool(torch.isfinite(points.sum(dim=1)).all()):
        bad = int((~torch.isfinite(points).all(dim=1)).float().argmax())
        raise OnomaError("a vector is not finite or too large", where=f"item {bad}")
    return points
