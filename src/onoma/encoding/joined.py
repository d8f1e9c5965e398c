"""Several views of an item side by side."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import Encoder, LogEncoder, unit_rows
from onoma.encoding.svd import truncated_svd
from onoma.errors import OnomaError


class Composite(Encoder):
    """Made of other encoders' vectors, which a cache may hold.

    Attributes:
        parts: the others.
    """

    parts: list[Encoder]

    @abstractmethod
    def join(self, views: Sequence[NDArray[np.float32]], split: Split) -> NDArray[np.float32]:
        """float32[n_items, dim] from one float32[n_items, d] a part."""

    def encode(self, split: Split) -> NDArray[np.float32]:
        """Encode by every part and join."""
        return self.join([part.encode(split) for part in self.parts], split)

    def fingerprint(self, split: Split) -> str:
        """A hash of the parts' own."""
        prints = " ".join(part.fingerprint(split) for part in self.parts)
        return hashlib.sha256(prints.encode()).hexdigest()


class Joined(Composite):
    """Concatenates the unit vectors of other encoders, each times its weight.

    An item that one part knows nothing about keeps the other parts; rows have unit length again
    at the end.

    Args:
        parts: descriptions that :func:`onoma.encoding.build` understands, or encoders.
        weights: one positive number a part; default all one.
        dim: principal directions kept, or None for the plain concatenation.
    """

    name = "joined"

    def __init__(
        self, parts: Sequence[Any], weights: Sequence[float] | None = None, dim: int | None = None
    ) -> None:
        from onoma.encoding import build

        if not parts:
            raise ValueError("parts is empty")
        self.parts = [build(part) for part in parts]
        self.weights = [1.0] * len(parts) if weights is None else [float(w) for w in weights]
        if len(self.weights) != len(self.parts) or min(self.weights) <= 0:
            raise ValueError(f"weights must be {len(self.parts)} positive numbers")
        if dim is not None and dim < 1:
            raise ValueError("dim must be at least 1")
        self.dim = dim

    def settings(self) -> dict[str, Any]:
        """The parts with their settings, the weights, and ``dim``."""
        parts = [{"name": part.name, **part.settings()} for part in self.parts]
        return {"parts": parts, "weights": self.weights, "dim": self.dim}

    def join(self, views: Sequence[NDArray[np.float32]], split: Split) -> NDArray[np.float32]:
        """Side by side, then the principal directions."""
        return self._beside(views)

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """Join what the parts make of the new items.

        Raises:
            OnomaError: as a part says; or the views were folded into ``dim`` directions, which
                are not kept; or two parts read the log, so that neither's width is known.
        """
        silent = [part for part in self.parts if isinstance(part, LogEncoder)]
        if self.dim is not None or len(silent) > 1:
            raise OnomaError("joined views have no place for new items", where="encoder joined")
        views = {
            part: part.encode_new(catalogue, items) for part in self.parts if part not in silent
        }
        told = sum(view.shape[1] for view in views.values())
        for part in silent:
            views[part] = part.encode_new(catalogue, items, None if width is None else width - told)
        return self._beside([views[part] for part in self.parts])

    def _beside(self, views: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        weighted = [unit_rows(v) * np.float32(w) for v, w in zip(views, self.weights, strict=True)]
        side = np.concatenate(weighted, axis=1)
        if self.dim is None or self.dim >= side.shape[1]:
            return unit_rows(side)
        known = np.flatnonzero(side.any(axis=1))
        out = np.zeros((len(side), self.dim), dtype=np.float32)
        if len(known):
            centred = side[known] - side[known].mean(axis=0)
            u, s, _ = truncated_svd(centred, self.dim)
            out[known, : len(s)] = u * s
        return unit_rows(out)
