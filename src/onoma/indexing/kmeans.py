"""Lloyd's k-means for catalogues of millions: blocked, seeded, no cluster left empty."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 16_384  # a block's distances (16 MB at 256 centroids) stay in cache
_POINTS_PER_CENTROID = 1024  # more points move a centroid by less than its own noise


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The closest centroid of every point.

    Args:
        points: float32[n, dim].
        centroids: float32[k, dim].

    Returns:
        int64[n] the centroid, float32[n] the squared distance to it (zero or more).
    """
    found = torch.empty(len(points), dtype=torch.int64)
    distance = torch.empty(len(points), dtype=torch.float32)
    half = centroids.square().sum(1).mul_(0.5)
    across = centroids.T.contiguous()
    for start in range(0, len(points), _ROWS):
        block = points[start : start + _ROWS]
        closeness = torch.addmm(half, block, across, beta=-1)
        best, which = closeness.max(dim=1)
        found[start : start + _ROWS] = which
        distance[start : start + _ROWS] = block.square().sum(1) - 2 * best
    return found, distance.clamp_(min=0)


def kmeans(
    points: Tensor, k: int, generator: torch.Generator, *, iterations: int = 20, tol: float = 1e-4
) -> Tensor:
    """Centroids of ``points``.

    At most 1,024 points a centroid are used, drawn at random. Centroids start by k-means++
    (Arthur and Vassilvitskii, SODA 2007) on a sixteenth of those; an empty cluster restarts at
    the point worst served. Equal seeds and threads give equal centroids.

    Args:
        points: float32[n, dim], n at least 1.
        k: number of centroids; where there are fewer distinct points some repeat.
        generator: the source of randomness.
        iterations: most rounds of Lloyd's algorithm.
        tol: stop when a round lowers the distortion by less than this share.

    Returns:
        float32[k, dim].
    """
    limit = k * _POINTS_PER_CENTROID
    if len(points) > limit:
        drawn = torch.randint(len(points), (limit,), generator=generator)
        points = points[drawn]
    centroids = _plus_plus(points, k, generator)
    last = float("inf")
    for _ in range(iterations):
        found, distance = nearest(points, centroids)
        total = float(distance.sum(dtype=torch.float64))
        if total >= last * (1 - tol):
            break
        last = total
        centroids, restarted = means(points, centroids, found, distance)
        last = float("inf") if restarted else last
    return centroids


def means(points: Tensor, centroids: Tensor, found: Tensor, distance: Tensor) -> tuple[Tensor, int]:
    """Centroids amid the points they serve; those that serve none restart at the worst served.

    Args:
        points: float32[n, dim].
        centroids: float32[k, dim].
        found: int64[n], the centroid of every point.
        distance: float32[n], the squared distance to it.

    Returns:
        float32[k, dim], and how many restarted.
    """
    count = torch.bincount(found, minlength=len(centroids))
    sums = torch.zeros_like(centroids).index_add_(0, found, points)
    centroids = torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], centroids)
    empty = torch.nonzero(count == 0)[:, 0]
    worst = distance.topk(min(len(empty), len(points))).indices
    worst = worst[distance[worst] > 0]  # nothing to gain from a point served exactly
    centroids[empty[: len(worst)]] = points[worst]
    return centroids, len(worst)


def _plus_plus(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    few = max(k * _POINTS_PER_CENTROID // 16, k)
    if len(points) > few:
        points = points[torch.randperm(len(points), generator=generator)[:few]]
    centroids = torch.empty(k, points.shape[1], dtype=torch.float32)
    square = points.square().sum(1)
    pick = torch.randint(len(points), (1,), generator=generator)
    closest = torch.full((len(points),), float("inf"))
    for i in range(k):
        centroids[i] = points[pick[0]]
        distance = square - 2 * (points @ centroids[i]) + square[pick]
        closest = torch.minimum(closest, distance.clamp_(min=0))
        closest[pick] = 0
        mass = closest.cumsum(0, dtype=torch.float64)
        if float(mass[-1]) <= 0:
            pick = torch.randint(len(points), (1,), generator=generator)
            continue
        draw = torch.rand(1, dtype=torch.float64, generator=generator) * mass[-1]
        pick = torch.searchsorted(mass, draw, right=True).clamp_(max=len(points) - 1)
    return centroids
