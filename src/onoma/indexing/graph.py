"""Method ``graph``: an RQ-VAE of item vectors that have walked along the interaction graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma import encoding
from onoma.encoding.base import unit_rows
from onoma.encoding.smoothed import mixed
from onoma.errors import OnomaError
from onoma.indexing.disambiguation import disambiguate
from onoma.indexing.index import ItemIndex
from onoma.indexing.quantised import checked
from onoma.indexing.rqvae import RQVAE

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_RIDGE = 1.0


class GraphNames(RQVAE):
    """Residual codes of content and behaviour mixed along the graph of users and items.

    After the graph RQ-VAE of MMGRec (2024): what an item's users hold flows into its vector before
    it is quantised, and among items of equal codes the one most bought in training comes first.
    The walk is :func:`onoma.encoding.smoothed.mixed`, which has no weights, in place of a trained
    graph network. Items without a training history, and new ones, stand where a linear map from
    content to mixed vectors, fitted by ridge regression on the others, puts them.

    Args:
        behaviour: the encoder of collaborative vectors that walk beside the content; None for
            content alone.
        hops: walks from items to users to items.
        own: share of an item's own vector in each mixture.

    The rest as for :class:`onoma.indexing.rqvae.RQVAE`.
    """

    name = "graph"

    def __init__(
        self, *, behaviour: Any = "collaborative", hops: int = 2, own: float = 0.5, **rest: Any
    ) -> None:
        super().__init__(**rest)
        if hops < 1 or not 0 < own < 1:
            raise OnomaError(f"hops is {hops} and own {own}; at least 1, and between 0 and 1")
        self.behaviour, self.hops, self.own = behaviour, hops, own

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            **super().settings(), "behaviour": self.behaviour, "hops": self.hops, "own": self.own,
        }  # fmt: skip

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Mix along ``split.train``, then quantise; see :meth:`IndexMethod.build`."""
        if vectors is None:
            raise OnomaError("graph names items by vectors", fix="Give the index an encoder")
        content = unit_rows(checked(vectors).numpy())
        if len(content) != split.dataset.n_items:
            raise OnomaError(f"{len(content)} vectors for {split.dataset.n_items} items")
        views = content
        if self.behaviour is not None:
            views = np.concatenate([content, encoding.build(self.behaviour).encode(split)], axis=1)
        points = mixed(views, split, self.hops, self.own)
        known = split.train_counts > 0
        into = _linear(content[known], points[known])
        points[~known] = _mapped(content[~known], into)
        index = super().name_vectors(points, seed)
        popular = -split.train_counts.astype(np.float64)
        last, _ = disambiguate(index.codes[:, :-1], index.sizes[:-1], popular, seed)
        codes = np.concatenate([index.codes[:, :-1], last[:, None]], axis=1)
        return replace(index, codes=codes, tensors={**index.tensors, "into": into})

    def name_vectors(self, vectors: NDArray[np.float32], seed: int = 0) -> ItemIndex:
        """Not without a log.

        Raises:
            OnomaError: always.
        """
        raise OnomaError("graph reads the log", fix="Build it with a data set")

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Through the linear map, then as all quantisers; see :meth:`ItemIndex.assign`."""
        into = index.tensors["into"]
        content = unit_rows(checked(vectors).numpy())
        if content.shape[1] != len(into) - 1:
            raise OnomaError(f"vectors of width {content.shape[1]}, named with {len(into) - 1}")
        return super().assign(index, _mapped(content, into))

    def reconstruct(self, index: ItemIndex) -> NDArray[np.float32] | None:
        """None: the codes stand for mixed vectors, not for those of the items."""
        return None


def _linear(content: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[dim + 1, width], a ridge regression; the last row is the offset."""
    if not len(content):
        return np.zeros((content.shape[1] + 1, points.shape[1]), dtype=np.float32)
    middle, goal = content.mean(axis=0), points.mean(axis=0)
    centred = (content - middle).astype(np.float64)
    gram = centred.T @ centred + _RIDGE * np.eye(content.shape[1])
    slope = np.linalg.solve(gram, centred.T @ (points - goal))
    return np.concatenate([slope, (goal - middle @ slope)[None]]).astype(np.float32)


def _mapped(content: NDArray[np.float32], into: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit rows; an item without content stays without."""
    placed = unit_rows(content @ into[:-1] + into[-1])
    placed[~content.any(axis=1)] = 0
    return placed
