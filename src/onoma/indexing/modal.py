"""Method ``modal``: one code a view of the item, each by k-means of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma import encoding
from onoma.errors import OnomaError
from onoma.indexing.index import ItemIndex
from onoma.indexing.kmeans import kmeans, nearest
from onoma.indexing.quantised import QuantisedNames

if TYPE_CHECKING:
    from onoma.dataset.split import Split

VIEWS: tuple[Any, ...] = (
    "collaborative",
    {"name": "tfidf", "fields": ["categories", "genres"]},
    {"name": "tfidf", "fields": ["title", "brand"]},
    {"name": "tfidf", "fields": ["description"]},
)


class ModalNames(QuantisedNames):
    """Parallel k-means, a code for each modality (TalkPlay, Doh et al., 2025).

    An item that a view knows nothing about gets the centroid of that view nearest to nothing.

    Args:
        views: encoders, in the order of the codes.
        size: centroids a view; at most a quarter of the items.
        iterations: most rounds of Lloyd's algorithm a view.
    """

    name = "modal"
    needs_vectors = False

    def __init__(self, views: Sequence[Any] = VIEWS, size: int = 256, iterations: int = 20) -> None:
        if not views or size < 1 or iterations < 1:
            raise OnomaError(
                f"{len(views)} views, size {size} and iterations {iterations}; "
                "all must be at least 1"
            )
        self.views, self.size, self.iterations = list(views), size, iterations
        self._widths: list[int] = []

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"views": self.views, "size": self.size, "iterations": self.iterations}

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Name the catalogue by its views; ``vectors`` are not read.

        Views that the catalogue has no words for are left out.
        """
        views = [encoding.build(view).encode(split) for view in self.views]
        views = [view for view in views if view.any()]
        if not views:
            raise OnomaError("no view knows anything of this catalogue", where="index modal")
        method = ModalNames(self.views, self.size, self.iterations)
        method._widths = [view.shape[1] for view in views]
        return method.name_vectors(np.concatenate(views, axis=1), seed)

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """A codebook of every view, of the items that it knows."""
        size = min(self.size, max(1, len(points) // 4))
        widths = self._widths or [points.shape[1]]
        learnt = {"size": torch.tensor(size), "widths": torch.tensor(widths)}
        for number, part in enumerate(torch.split(points, widths, dim=1)):
            known = part[part.any(dim=1)]
            learnt[f"book.{number}"] = (
                kmeans(known.contiguous(), size, generator, iterations=self.iterations)
                if len(known)
                else torch.zeros(size, part.shape[1])
            )
        return learnt

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """The nearest centroid of every view."""
        pairs = [
            nearest(part.contiguous(), learnt[f"book.{number}"])
            for number, part in enumerate(torch.split(points, learnt["widths"].tolist(), dim=1))
        ]
        codes = torch.stack([code for code, _ in pairs], 1)
        return codes.numpy().astype(np.int32), torch.stack([d for _, d in pairs]).sum(0).numpy()

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """As many codes as centroids, at most."""
        return (int(learnt["size"]),) * len(learnt["widths"])
