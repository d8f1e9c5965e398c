"""A made-up catalogue and log of any size that models can learn from."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.dataset import Dataset
from onoma.errors import OnomaError

_COLOURS = "red blue green black white amber violet grey silver golden".split()
_THINGS = (
    "lamp kettle chair novel record brush jacket bicycle camera tent guitar puzzle vase knife "
    "clock mirror basket blanket compass lantern"
).split()
_START = 1_500_000_000
_MOST_LENGTH = 400


def synthesize(
    n_users: int = 1000,
    n_items: int = 500,
    n_interactions: int = 20_000,
    *,
    clusters: int | None = None,
    skew: float = 1.0,
    follow: float = 0.4,
    noise: float = 0.1,
    seed: int = 0,
    name: str = "synthetic",
) -> Dataset:
    """Draw a log with structure: popularity by Zipf's law, taste by cluster, some fixed order.

    Every user likes two clusters of items. An event follows the last item's fixed successor with
    probability ``follow``, is any item with probability ``noise``, else a popular item of a
    liked cluster.

    Args:
        n_users: users; each has at least three events.
        n_items: items.
        n_interactions: events, approximately.
        clusters: groups of items; about the square root of ``n_items`` / 2 when None.
        skew: exponent of popularity; 0 is uniform.
        follow: share of events that follow the last item.
        noise: share of events at random.
        seed: of everything.
        name: of the data set.

    Returns:
        A data set with titles, ``categories`` (group, cluster) and increasing timestamps per
        user. Work and memory grow with the events; loops run over positions, not users.

    Raises:
        OnomaError: sizes that cannot be.
    """
    if n_users < 1 or n_items < 2 or n_interactions < 3 * n_users:
        raise OnomaError(
            f"{n_users} users, {n_items} items, {n_interactions} interactions",
            where="synthetic data",
            fix="Use at least 1 user, 2 items, 3 interactions a user",
        )
    if not (0 <= follow and 0 <= noise and follow + noise <= 1 and 0 <= skew < 10):
        raise OnomaError(
            f"follow={follow}, noise={noise}, skew={skew}",
            where="synthetic data",
            fix="follow + noise is at most 1, skew between 0 and 10",
        )
    rng = np.random.default_rng(seed)
    clusters = max(1, round((n_items / 2) ** 0.5)) if clusters is None else clusters
    clusters = max(1, min(clusters, n_items))
    cluster_of = np.sort(rng.integers(0, clusters, n_items).astype(np.int32))
    starts = np.searchsorted(cluster_of, np.arange(clusters + 1))
    weight = (np.arange(n_items) - starts[cluster_of] + 1.0) ** -skew
    mass = np.concatenate([[0.0], np.cumsum(weight)])
    liked = _pick(rng, np.diff(mass[starts]), 2 * n_users).reshape(n_users, 2).astype(np.int32)
    successor = _successors(rng, starts, cluster_of)
    lengths = _lengths(rng, n_users, n_interactions)

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = np.empty(offsets[-1], dtype=np.int32)
    # Longest users first: those still active at a position are a prefix.
    order = np.argsort(-lengths, kind="stable")
    active = np.searchsorted(-lengths[order], -np.arange(lengths.max()), side="left")
    last = np.full(n_users, -1, dtype=np.int32)
    for position, count in enumerate(active):
        who = order[:count]
        kind = rng.random(count)
        cluster = liked[who, rng.integers(0, 2, count)]
        low, high = mass[starts[cluster]], mass[starts[cluster + 1]]
        drawn = np.searchsorted(mass, low + rng.random(count) * (high - low), side="right") - 1
        drawn = np.clip(drawn, starts[cluster], starts[cluster + 1] - 1).astype(np.int32)
        if position:
            chained = kind < follow
            drawn[chained] = successor[last[who[chained]]]
        random = kind > 1 - noise
        drawn[random] = rng.integers(0, n_items, int(random.sum()))
        items[offsets[who] + position] = drawn
        last[who] = drawn
    users = np.repeat(np.arange(n_users, dtype=np.int32), lengths)
    gaps = rng.integers(60, 86_400, len(items), dtype=np.int64)
    times = np.cumsum(gaps)
    times += np.repeat(rng.integers(0, 10**7, n_users) - times[offsets[:-1]], lengths) + _START
    return _named(users, items, times, cluster_of, clusters, n_users, name, seed)


def _pick(rng: np.random.Generator, weight: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    mass = np.cumsum(weight)
    found = np.searchsorted(mass, rng.random(n) * mass[-1], side="right")
    return np.asarray(np.minimum(found, len(weight) - 1), dtype=np.int64)


def _successors(
    rng: np.random.Generator, starts: NDArray[np.int64], cluster_of: NDArray[np.int32]
) -> NDArray[np.int32]:
    """int32[n_items]: a shuffled cycle through each cluster."""
    shuffled = np.lexsort((rng.random(len(cluster_of)), cluster_of)).astype(np.int32)
    following = np.roll(shuffled, -1)
    filled = starts[:-1] < starts[1:]
    following[starts[1:][filled] - 1] = shuffled[starts[:-1][filled]]
    successor = np.empty_like(shuffled)
    successor[shuffled] = following
    return successor


def _lengths(rng: np.random.Generator, n_users: int, total: int) -> NDArray[np.int64]:
    """int64[n_users]: three and more, geometric, close to ``total`` in sum."""
    extra = total / n_users - 3
    if extra <= 0:
        return np.full(n_users, 3, dtype=np.int64)
    longest = max(_MOST_LENGTH, int(2 * (extra + 3)))
    drawn = np.minimum(rng.geometric(1 / (extra + 1), n_users) - 1, longest)
    scaled = np.round(drawn * (total - 3 * n_users) / max(1, drawn.sum()))
    return np.asarray(3 + np.minimum(scaled, longest), dtype=np.int64)


def _named(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    cluster_of: NDArray[np.int32],
    clusters: int,
    n_users: int,
    name: str,
    seed: int,
) -> Dataset:
    number = pl.int_range(len(cluster_of), eager=True).alias("number")
    things, colours = pl.Series(_THINGS), pl.Series(_COLOURS)
    group = pl.Series("cluster", cluster_of.astype(np.int64))
    catalogue = pl.DataFrame(
        {
            "number": number,
            "cluster": group,
            "thing": things.gather(group % len(_THINGS)),
            "colour": colours.gather(number % len(_COLOURS)),
        }
    ).select(
        pl.format("i{}", "number").alias("item_id"),
        pl.format("{} {} {}", "colour", "thing", "number").alias("title"),
        pl.concat_list("thing", pl.format("{} {}", "thing", "cluster")).alias("categories"),
    )
    # The same seeded order as for any other data, then the log is renamed by its codes.
    people = pl.DataFrame({"user_id": pl.int_range(n_users, eager=True)}).select(
        pl.format("u{}", "user_id").alias("user_id")
    )
    return Dataset.coded(
        users,
        items,
        pl.DataFrame({"timestamp": times}),
        catalogue,
        people,
        name=name,
        notes={"form": "synthetic", "seed": seed, "clusters": clusters},
    )
