"""Rows of different lengths as one flat array: histories, targets, exclusions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list of integer rows stored as offsets and values.

    Attributes:
        offsets: int64[n + 1], row ``r`` is ``values[offsets[r]:offsets[r + 1]]``.
        values: int32 or int64[total].
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.integer]

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int] | NDArray[np.integer]]) -> Ragged:
        """Stack Python rows; for small inputs and requests, not for whole data sets."""
        arrays = [np.asarray(row, dtype=np.int32).reshape(-1) for row in rows]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(a) for a in arrays], out=offsets[1:])
        values = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
        return cls(offsets, values)

    @classmethod
    def from_groups(
        cls, groups: NDArray[np.integer], values: NDArray[np.integer], n: int
    ) -> Ragged:
        """Rows from (group, value) pairs already sorted by group; ``n`` rows."""
        offsets = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(groups, minlength=n), out=offsets[1:])
        return cls(offsets, values)

    @classmethod
    def empty(cls, n: int) -> Ragged:
        """``n`` rows of nothing."""
        return cls(np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.integer]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n], the number of values in each row."""
        return np.diff(self.offsets)

    def rows(self) -> NDArray[np.int64]:
        """int64[total], the row of each value."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """The named rows, in the order given; no Python loop."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        return self._gather(self.offsets[rows], lengths)

    def where(self, kept: NDArray[np.bool_]) -> Ragged:
        """The values that a bool[total] keeps, in their rows."""
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return Ragged(offsets.astype(np.int64), self.values[kept])

    def slice(self, start: int, stop: int) -> Ragged:
        """Rows ``start`` to ``stop`` as a view."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(offsets - offsets[0], self.values[offsets[0] : offsets[-1]])

    def last(self, n: int) -> Ragged:
        """The last ``n`` values of every row."""
        lengths = np.minimum(self.lengths, n)
        return self._gather(self.offsets[1:] - lengths, lengths)

    def drop_last(self, n: int) -> Ragged:
        """Every row without its last ``n`` values."""
        return self._gather(self.offsets[:-1], np.maximum(self.lengths - n, 0))

    def concat(self, other: Ragged) -> Ragged:
        """Row by row, this row followed by the other's."""
        if len(self) != len(other):
            raise ValueError(f"{len(self)} rows against {len(other)}")
        lengths = self.lengths + other.lengths
        offsets = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        values = np.empty(offsets[-1], dtype=np.result_type(self.values, other.values))
        mine = np.arange(len(self.values)) + np.repeat(
            offsets[:-1] - self.offsets[:-1], self.lengths
        )
        theirs = np.arange(len(other.values)) + np.repeat(
            offsets[:-1] + self.lengths - other.offsets[:-1], other.lengths
        )
        values[mine], values[theirs] = self.values, other.values
        return Ragged(offsets, values)

    def padded(
        self, fill: int = -1, width: int | None = None, align: str = "left"
    ) -> NDArray[np.int64]:
        """int64[n, width]: aligned left or right, ``fill`` elsewhere; long rows keep their end."""
        rows = self if width is None else self.last(width)
        lengths = rows.lengths
        width = int(lengths.max(initial=0)) if width is None else width
        out = np.full((len(rows), width), fill, dtype=np.int64)
        column = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], lengths)
        if align == "right":
            column += np.repeat(width - lengths, lengths)
        out[rows.rows(), column] = rows.values
        return out

    def _gather(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        where = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(offsets, self.values[where])
