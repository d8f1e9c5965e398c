"""Short lists for systems that cannot rank a whole catalogue: the targets and drawn negatives."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Split
from onoma.errors import OnomaError


def sampled(cases: Cases, count: int | None, seed: int = 0) -> Cases:
    """At most ``count`` of the cases, drawn by seed, in their order."""
    if count is None or count >= len(cases):
        return cases
    return cases.take(np.sort(np.random.default_rng(seed).permutation(len(cases))[:count]))


def short_lists(
    cases: Cases,
    split: Split,
    negatives: int,
    drawn: Literal["uniform", "popularity"] = "uniform",
    seed: int = 0,
) -> NDArray[np.int32]:
    """The targets of each case and items that its user never took, in the order of their codes.

    Figures over short lists are not those over a catalogue (Krichene and Rendle, KDD 2020): they
    compare systems on the same lists and nothing else.

    Args:
        cases: n cases.
        split: its catalogue and training counts.
        negatives: drawn for each case, without repeats.
        drawn: ``uniform`` over the catalogue, or by ``popularity`` in training.
        seed: of the draw. A user's draw depends on nothing else.

    Returns:
        int32[n, c], -1 as padding at the end.

    Raises:
        OnomaError: the catalogue is too small.
    """
    n_items = split.dataset.n_items
    weights = np.ones(n_items) if drawn == "uniform" else split.train_counts.astype(np.float64)
    taken = cases.history.concat(cases.targets)
    possible = int((weights > 0).sum()) - int(taken.lengths.max(initial=0))
    if possible < negatives:
        raise OnomaError(
            f"{negatives} negatives a case, but a user leaves only {max(possible, 0)} items",
            where="evaluate.candidates",
            fix="Lower evaluate.candidates.negatives",
        )
    edges = np.cumsum(weights / weights.sum())
    edges[-1] = 1.0
    rows = []
    for place in range(len(cases)):
        draw = np.random.default_rng([seed, int(cases.users[place])])
        found = np.zeros(0, dtype=np.int32)
        while len(found) < negatives:
            more = np.searchsorted(edges, draw.random(2 * negatives + 8), side="right")
            more = more[~np.isin(more, taken[place])]
            both = np.concatenate([found, more.astype(np.int32)])
            found = both[np.sort(np.unique(both, return_index=True)[1])]
        rows.append(np.sort(np.concatenate([cases.targets[place], found[:negatives]])))
    out = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int32)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out
