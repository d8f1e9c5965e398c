"""Products with eight-bit item vectors, and how far from the exact ones they can be."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import torch
from torch import Tensor

ROWS = 128  # the most for which eight bits are read faster than they are multiplied
_WORTH = 1 << 20  # numbers in a table that does not stay in a cache
_ENGINES = ("fbgemm", "x86", "onednn")
_STEPS = 127  # seven bits of a query: sums of two products fit sixteen
_SPARE = 1e-5  # relative, for sums of float32


class Coarse:
    """An eight-bit copy of item vectors.

    A few queries against a large catalogue take as long as its vectors take to be read. A quarter
    of the bytes says well enough which items cannot be among the best: those whose product is
    below that of the k-th by more than twice the error. Only the rest need the exact vectors.

    Args:
        packed: the vectors as torch's engine wants them.
        rounding: the largest distance of a vector to its copy.
        longest: the largest length of a copy.
        width: d of the vectors.
    """

    def __init__(self, packed: object, rounding: float, longest: float, width: int) -> None:
        self._packed, self._rounding, self._longest = packed, rounding, longest
        self._width = width

    @classmethod
    def of(cls, items: Tensor) -> Self | None:
        """The copy of float32[n, d]; None where it would not help, or torch has no engine for it.

        The engine is asked for products and their errors before it is trusted.
        """
        if items.numel() < _WORTH or torch.backends.quantized.engine not in _ENGINES:
            return None
        steps = items.abs().amax(dim=1).clamp(min=1e-12) / 127
        zero = torch.zeros(len(items), dtype=torch.int64)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch means to replace these functions one day
                eight = torch.quantize_per_channel(items, steps.double(), zero, 0, torch.qint8)
                packed = torch.ops.quantized.linear_prepack(eight, None)
        except (AttributeError, RuntimeError):
            return None
        copies = eight.dequantize()
        rounding = float((items - copies).norm(dim=1).max())
        made = cls(packed, rounding, float(copies.norm(dim=1).max()), items.shape[1])
        asked = items[:: max(1, len(items) // 32)]
        products, error = made.products(asked)
        near = (products - asked @ items.T).abs().amax(dim=1) <= error
        return made if bool(near.all()) else None

    def products(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """What ``query @ items.T`` is about.

        Args:
            query: float32[b, d].

        Returns:
            float32[b, n], and float32[b], no less than the distance to the exact products.
        """
        # Rows share one step; as large as one another, none of them loses by it.
        size = query.abs().amax(dim=1, keepdim=True)
        even = query / size.clamp(min=1e-30)
        found = torch.ops.quantized.linear_dynamic(even, self._packed, reduce_range=True)
        lengths = query.norm(dim=1)
        # A step is at most 2 / 127 of the size, an entry half of one off.
        moved = size[:, 0] * (float(np.sqrt(self._width)) / _STEPS * (1 + _SPARE))
        error = lengths * self._rounding + (moved + _SPARE * lengths) * self._longest
        return found.mul_(size), error
