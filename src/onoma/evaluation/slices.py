"""Parts of a test set that ask different things of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged, Split

DESCRIPTIONS = {
    "cold": "the target never occurs in training",
    "head": "the target is among the most popular items that make 80 % of training interactions",
    "tail": "the target occurs in training but is not head",
    "memorised": "the step from the last item to the target occurs in training",
    "generalised": "it does not (arXiv 2603.19809)",
    "repeated": "the target is in the history: unreachable where seen items are masked",
    "history": "number of items in the history",
}
_LENGTHS = (5, 10, 20, 50)


class Transitions:
    """The item-to-item steps of a log, for questions in bulk.

    Args:
        sequences: rows of item codes, oldest first.
        n_items: catalogue size.
        lag: 1 for neighbours, 2 for one item between, ...
    """

    def __init__(self, sequences: Ragged, n_items: int, lag: int = 1) -> None:
        self.n_items = n_items
        self.sources, self.targets = steps(sequences, lag)
        keys = self.sources.astype(np.int64) * n_items + self.targets
        self.keys, self.counts = np.unique(keys, return_counts=True)

    def seen(self, source: NDArray[np.integer], target: NDArray[np.integer]) -> NDArray[np.bool_]:
        """bool[n]: whether each step occurs; negative codes never do."""
        asked = np.asarray(source, dtype=np.int64) * self.n_items + target
        if not len(self.keys):
            return np.zeros(len(asked), dtype=bool)
        place = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
        return (self.keys[place] == asked) & (np.asarray(source) >= 0)


def steps(sequences: Ragged, lag: int = 1) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """All (item, item ``lag`` places later) pairs inside rows, two arrays of item codes."""
    values, rows = sequences.values, sequences.rows()
    together = rows[lag:] == rows[:-lag]
    return values[:-lag][together], values[lag:][together]


def back(sequences: Ragged, lag: int = 1) -> NDArray[np.int64]:
    """int64[n], the item ``lag`` places from the end of each row; -1 where the row is shorter."""
    where = sequences.offsets[1:] - lag
    inside = where >= sequences.offsets[:-1]
    out = np.full(len(sequences), -1, dtype=np.int64)
    out[inside] = sequences.values[where[inside]]
    return out


def slices(
    cases: Cases, split: Split, *, transitions: Transitions | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Which cases belong to which slice; a case with several targets goes by its first.

    Args:
        cases: the cases.
        split: whose training part says what is cold, popular and memorised.
        transitions: of ``split.train``, when already at hand.

    Returns:
        ``{"cold": bool[n], "tail": ..., "head": ..., "memorised": ..., "generalised": ...,
        "repeated": ..., "history 1-4": ...}``; ``cold``, ``tail`` and ``head`` cover all cases
        once, and so do the history lengths.
    """
    transitions = transitions or Transitions(split.train, split.dataset.n_items)
    target = first_targets(cases)
    counts = split.train_counts
    head = head_items(counts)[target]
    cold = counts[target] == 0
    memorised = transitions.seen(back(cases.history), target)
    out = {
        "cold": cold,
        "tail": ~cold & ~head,
        "head": head,
        "memorised": memorised,
        "generalised": ~memorised,
        "repeated": repeated(cases),
    }
    lengths, low = cases.history.lengths, 1
    for high in (*_LENGTHS, None):
        name = f"history {low}+" if high is None else f"history {low}-{high - 1}"
        out[name] = (lengths >= (low if low > 1 else 0)) & (high is None or lengths < high)
        low = high or low
    return out


def first_targets(cases: Cases) -> NDArray[np.int64]:
    """int64[n], the first target of each case."""
    return cases.targets.values[cases.targets.offsets[:-1]].astype(np.int64)


def head_items(counts: NDArray[np.integer], share: float = 0.8) -> NDArray[np.bool_]:
    """bool[n_items]: the fewest items that make ``share`` of the interactions."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    out = np.zeros(len(counts), dtype=bool)
    out[order] = (before < share * counts.sum()) & (counts[order] > 0)
    return out


def repeated(cases: Cases) -> NDArray[np.bool_]:
    """bool[n]: the first target already stands in the history."""
    target = first_targets(cases)
    rows = cases.history.rows()
    same = cases.history.values == target[rows]
    return np.bincount(rows[same], minlength=len(cases)) > 0
