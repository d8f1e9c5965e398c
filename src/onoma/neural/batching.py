"""Batches of sequences with next to no padding."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged


class SequenceBatches:
    """Training sequences cut into batches of about ``tokens`` positions.

    A sequence longer than ``length`` becomes windows that overlap by one item, from its end to
    its start, so every interaction but the first is a target once an epoch. Windows are sorted by
    length with a little noise, cut so that rows x longest row stays under ``tokens``, and the
    batches are shuffled; every epoch's plan is a function of (seed, epoch).

    Args:
        sequences: n rows of item codes; rows of fewer than two items are skipped.
        tokens: positions a batch, padding included.
        length: longest input.
        times: int64[total] aligned with ``sequences.values``, for models that read them.
    """

    def __init__(
        self,
        sequences: Ragged,
        tokens: int = 2048,
        length: int = 50,
        times: NDArray[np.int64] | None = None,
    ) -> None:
        self.tokens, self.length = tokens, length
        places = windows(Ragged(sequences.offsets, np.arange(len(sequences.values))), length)
        self.windows = Ragged(places.offsets, sequences.values[places.values])
        self.owners = sequences.rows()[places.values[places.offsets[:-1]]]  # of every window
        self.when = None if times is None else Ragged(places.offsets, times[places.values])

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Window numbers of each batch of one epoch."""
        rng = np.random.default_rng([seed, epoch])
        lengths = self.windows.lengths - 1
        order = np.argsort(lengths + 2 * rng.random(len(lengths)), kind="stable")
        longest = np.maximum.accumulate(lengths[order])
        batches, start = [], 0
        while start < len(order):
            stop = min(start + max(1, self.tokens // int(longest[start])), len(order))
            while stop > start + 1 and longest[stop - 1] * (stop - start) > self.tokens:
                stop = start + max(1, self.tokens // int(longest[stop - 1]))
            batches.append(order[start:stop])
            start = stop
        return [batches[i] for i in rng.permutation(len(batches))]

    def tensors(self, rows: NDArray[np.int64], pad: int) -> tuple[Tensor, Tensor]:
        """Inputs int64[b, l] and next items int64[b, l], left aligned, ``pad`` behind."""
        table = torch.from_numpy(self.windows.take(rows).padded(fill=pad))
        following = table[:, 1:]
        return table[:, :-1].masked_fill(following == pad, pad), following

    def times(self, rows: NDArray[np.int64]) -> Tensor:
        """int64[b, l] seconds of the inputs, -1 behind them and where unknown."""
        if self.when is None:
            raise ValueError("the sequences have no times")
        return torch.from_numpy(self.when.take(rows).padded(fill=-1))[:, :-1]


def windows(sequences: Ragged, length: int) -> Ragged:
    """Rows of at most ``length + 1`` items that hold every (item, next item) pair once."""
    rows = np.flatnonzero(sequences.lengths >= 2)
    pieces = -(-(sequences.lengths[rows] - 1) // length)
    owner = np.repeat(rows, pieces)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    stop = sequences.offsets[owner + 1] - nth * length
    start = np.maximum(sequences.offsets[owner], stop - length - 1)
    sizes = stop - start
    offsets = np.zeros(len(owner) + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    where = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], sizes)
    return Ragged(offsets, sequences.values[where])


class PrefixBatches:
    """Every history up to a point with what follows it, for models that read no other targets.

    Histories of about equal length share a batch, so next to nothing is padded; every epoch's
    plan is a function of (seed, epoch).

    Args:
        sequences: n rows of item codes; the first of a row is no target.
        rows: targets a batch.
        length: items of a history that are read, the last ones.
        following: items that follow, at most.
    """

    def __init__(
        self, sequences: Ragged, rows: int = 256, length: int = 20, following: int = 1
    ) -> None:
        self.rows, self.length, self.sequences = rows, length, sequences
        self.following = following
        owner = sequences.rows()
        place = np.arange(len(owner)) - sequences.offsets[owner]
        self.targets = np.flatnonzero(place > 0)
        self.owners = owner[self.targets]
        self.lengths = np.minimum(place[self.targets], length)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Target numbers of each batch of one epoch."""
        rng = np.random.default_rng([seed, epoch])
        order = np.lexsort((rng.random(len(self.lengths)), self.lengths))
        cuts = np.arange(self.rows, len(order), self.rows)
        batches = np.split(order, cuts)
        return [batches[i] for i in rng.permutation(len(batches)) if len(batches[i])]

    def tensors(self, batch: NDArray[np.int64], pad: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Histories int64[b, l], their lengths, rows of the sequences, what follows int64[b, f].

        Histories are left aligned; ``pad`` stands behind them and behind what follows.
        """
        here, lengths, owners = self.targets[batch], self.lengths[batch], self.owners[batch]
        items = self._cells(here - lengths, lengths, int(lengths.max(initial=0)), pad)
        left = np.minimum(self.sequences.offsets[owners + 1] - here, self.following)
        targets = self._cells(here, left, self.following, pad)
        parts = (items, lengths, owners, targets)
        a, b, c, d = (torch.from_numpy(part.astype(np.int64)) for part in parts)
        return a, b, c, d

    def _cells(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int, pad: int
    ) -> NDArray[np.integer]:
        column = np.arange(width)
        inside = column < lengths[:, None]
        at = np.where(inside, starts[:, None] + column, 0)
        return np.where(inside, self.sequences.values[at], pad)
