"""Short lists for systems that cannot rank a whole catalogue: the targets and drawn negatives."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Cases, Dataset, Ragged, Split
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
    drawn: Literal["uniform", "popularity"] | Ragged = "uniform",
    seed: int = 0,
) -> NDArray[np.int32]:
    """The targets of each case and items that its user did not take, in the order of their codes.

    Figures over short lists are not those over a catalogue (Krichene and Rendle, KDD 2020): they
    compare systems on the same lists and nothing else.

    Args:
        cases: n cases.
        split: its catalogue and training counts.
        negatives: drawn for each case, without repeats.
        drawn: ``uniform`` over the catalogue, by ``popularity`` in training, or from a row of item
            codes a user code, uniformly.
        seed: of the draw. A user's draw depends on nothing else.

    Returns:
        int32[n, c], -1 as padding at the end.

    Raises:
        OnomaError: the catalogue, or a user's row, is too small.
    """
    if isinstance(drawn, Ragged):
        return _of_rows(cases, negatives, drawn, seed)
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
    return _padded(rows)


def of_ratings(whole: Dataset, dataset: Dataset, largest: float) -> Ragged:
    """What users of a data set rated at most ``largest`` in the whole that it was filtered from.

    Args:
        whole: with ratings and the owner's own ids.
        dataset: whose codes are wanted; items that it lacks are left out.
        largest: a rating.

    Returns:
        A row of item codes a user code, none twice, those rated better another time left out.

    Raises:
        OnomaError: no ratings.
    """
    if "rating" not in whole.interactions.columns:
        raise OnomaError(
            "nobody knows what users dislike: the interactions have no ratings",
            where=whole.name,
            fix="Draw candidates by evaluate.candidates.drawn=uniform",
        )
    best = whole.with_ids(whole.interactions).group_by("user_id", "item_id", maintain_order=True)
    low = best.agg(pl.col("rating").max()).filter(pl.col("rating") <= largest)
    codes = [
        frame.with_row_index(name).select(f"{name}_id", pl.col(name).cast(pl.Int32))
        for frame, name in ((dataset.users, "user"), (dataset.items, "item"))
    ]
    low = low.join(codes[0], on="user_id", how="inner").join(codes[1], on="item_id", how="inner")
    low = low.sort("user", "item")
    return Ragged.from_groups(low["user"].to_numpy(), low["item"].to_numpy(), dataset.n_users)


def _of_rows(cases: Cases, negatives: int, rows: Ragged, seed: int) -> NDArray[np.int32]:
    out = []
    for place, user in enumerate(cases.users.tolist()):
        pool = np.setdiff1d(rows[user], cases.targets[place])
        pool = pool[~np.isin(pool, cases.history[place])]
        if len(pool) < negatives:
            raise OnomaError(
                f"{negatives} negatives a case, but a user has only {len(pool)}",
                where="evaluate.candidates",
                fix="Lower evaluate.candidates.negatives",
            )
        drawn = np.random.default_rng([seed, user]).permutation(pool)[:negatives]
        out.append(np.sort(np.concatenate([cases.targets[place], drawn])))
    return _padded(out)


def _padded(rows: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    out = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int32)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out
