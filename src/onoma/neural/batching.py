"""Batches of sequences with next to no padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged


@dataclass(frozen=True)
class SequenceBatches:
    """Training sequences cut into batches of about ``tokens`` positions.

    Sequences are sorted by length with a little noise, cut so that rows x longest row stays under
    ``tokens``, and the batches are shuffled; every epoch's plan is a function of (seed, epoch).

    Attributes:
        sequences: n rows of item codes; rows of fewer than two items are skipped.
        tokens: positions a batch, padding included.
        length: longest input kept (the end of the row).
    """

    sequences: Ragged
    tokens: int = 2048
    length: int = 50

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Row numbers of each batch of one epoch."""
        rng = np.random.default_rng([seed, epoch])
        rows = np.flatnonzero(self.sequences.lengths >= 2)
        lengths = np.minimum(self.sequences.lengths[rows] - 1, self.length)
        order = np.argsort(lengths + 2 * rng.random(len(rows)), kind="stable")
        rows, lengths = rows[order], np.maximum.accumulate(lengths[order])
        batches, start = [], 0
        while start < len(rows):
            stop = start + max(1, self.tokens // int(lengths[start]))
            stop = min(stop, len(rows))
            while stop > start + 1 and lengths[stop - 1] * (stop - start) > self.tokens:
                stop = start + max(1, self.tokens // int(lengths[stop - 1]))
            batches.append(rows[start:stop])
            start = stop
        return [batches[i] for i in rng.permutation(len(batches))]

    def tensors(self, rows: NDArray[np.int64], pad: int) -> tuple[Tensor, Tensor]:
        """Inputs int64[b, l] and next items int64[b, l], left aligned, ``pad`` behind."""
        cut = self.sequences.take(rows).last(self.length + 1)
        table = torch.from_numpy(cut.padded(fill=pad))
        inputs = table[:, :-1].clone()
        inputs[table[:, 1:] == pad] = pad
        return inputs, table[:, 1:]
