"""Item vectors mixed along the graph of users and items."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import log_fingerprint, unit_rows
from onoma.encoding.cooccurrence import interactions
from onoma.encoding.joined import Composite


class Smoothed(Composite):
    """Content that walks from items to their users and back.

    Every hop an item becomes its own content plus the mean of the items that its users hold, so
    items bought by the same people come to stand together: personalised propagation (Gasteiger et
    al., ICLR 2019, eq. 4) over the normalised graph, without weights to train. An item that no
    training history holds keeps its content.

    Args:
        of: description of the encoder of the content.
        hops: walks from items to users to items.
        own: share of an item's own content in each mixture.
    """

    name = "smoothed"

    def __init__(self, of: Any = "tfidf", hops: int = 2, own: float = 0.5) -> None:
        from onoma.encoding import build

        if hops < 1 or not 0 < own < 1:
            raise ValueError("hops must be at least 1 and own between 0 and 1")
        self.parts, self.hops, self.own = [build(of)], hops, own

    def settings(self) -> dict[str, Any]:
        """What is mixed, and how."""
        (part,) = self.parts
        return {"of": {"name": part.name, **part.settings()}, "hops": self.hops, "own": self.own}

    def fingerprint(self, split: Split) -> str:
        """A hash of the content's and of the training sequences."""
        both = super().fingerprint(split) + log_fingerprint(split)
        return hashlib.sha256(both.encode()).hexdigest()

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """Content alone: no user holds a new item."""
        (part,) = self.parts
        return unit_rows(part.encode_new(catalogue, items, width))

    def join(self, views: Sequence[NDArray[np.float32]], split: Split) -> NDArray[np.float32]:
        """The mixture."""
        return mixed(views[0], split, self.hops, self.own)


def mixed(content: NDArray[np.float32], split: Split, hops: int, own: float) -> NDArray[np.float32]:
    """Vectors that walk along ``split.train``, as :class:`Smoothed` says.

    Edges count by the inverse roots of the degrees of both ends.

    Args:
        content: float32[n_items, dim].
        split: only ``train`` is read.
        hops: walks from items to users to items.
        own: share of an item's own content in each mixture.

    Returns:
        float32[n_items, dim], unit rows; zero where neither the item nor its company has content.
    """
    held = interactions(split.train, split.dataset.n_items)
    by_user, by_item = (_inverse_root(held.sum(axis=axis)) for axis in (1, 0))
    across = sp.csr_array(by_user @ held @ by_item)
    content = walked = unit_rows(content)
    for _ in range(hops):
        near = unit_rows(across.T @ (across @ walked))
        walked = unit_rows(np.float32(own) * content + np.float32(1 - own) * near)
    return walked


def _inverse_root(degree: NDArray[np.floating]) -> sp.dia_array:
    return sp.diags_array((1 / np.sqrt(np.maximum(degree, 1))).astype(np.float32))
