"""Ragged agrees with plain lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onoma.dataset import Ragged

Rows = st.lists(st.lists(st.integers(0, 50), max_size=8), max_size=12)


def lists(ragged: Ragged) -> list[list[int]]:
    return [list(map(int, ragged[r])) for r in range(len(ragged))]


@given(Rows, st.integers(0, 10))
def test_row_views(rows: list[list[int]], n: int) -> None:
    ragged = Ragged.from_rows(rows)
    assert lists(ragged) == rows
    assert lists(ragged.last(n)) == [row[len(row) - min(n, len(row)) :] for row in rows]
    assert lists(ragged.drop_last(n)) == [row[: max(len(row) - n, 0)] for row in rows]
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    owners = [r for r, row in enumerate(rows) for _ in row]
    assert ragged.rows().tolist() == owners
    again = Ragged.from_groups(np.array(owners, dtype=np.int64), ragged.values, len(rows))
    assert lists(again) == rows


@given(Rows, st.data())
def test_take_slice_concat(rows: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.from_rows(rows)
    n = len(rows)
    if n:
        picked = data.draw(st.lists(st.integers(0, n - 1), max_size=10))
        assert lists(ragged.take(np.array(picked, dtype=np.int64))) == [rows[p] for p in picked]
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    part = ragged.slice(start, stop)
    assert lists(part) == rows[start:stop]
    assert lists(part.concat(part)) == [row + row for row in rows[start:stop]]
    assert lists(Ragged.empty(n).concat(ragged)) == rows


@given(Rows, st.integers(1, 10), st.sampled_from(["left", "right"]))
def test_padded(rows: list[list[int]], width: int, align: str) -> None:
    out = Ragged.from_rows(rows).padded(-1, width, align)
    assert out.shape == (len(rows), width)
    for line, row in zip(out.tolist(), rows, strict=True):
        kept = row[-width:]
        gap = [-1] * (width - len(kept))
        assert line == (kept + gap if align == "left" else gap + kept)
