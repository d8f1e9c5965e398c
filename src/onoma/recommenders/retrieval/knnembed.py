"""Many interests a user: clusters of items, weighed by the user and by users nearby."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.base import unit_rows
from onoma.encoding.cooccurrence import interactions
from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans
from onoma.recommenders.base import Ranking, Recommender, Requests, top_k
from onoma.recommenders.registry import recommender
from onoma.recommenders.storage import read_model, save_model
from onoma.recommenders.tuning import choose, grid

_ROUNDS = 10  # of spherical k-means behind k-means
_USERS = 4096  # whose vectors are asked for at a time
_DIGITS = 9  # of cosines, so that equal vectors tie whatever the batch


@runtime_checkable
class OneSpace(Protocol):
    """A recommender of users and items in one space."""

    def user_vectors(self, history: Ragged, users: NDArray[np.int32] | None = None) -> Tensor:
        """float32[n, d], of users as their histories are now; -1 for strangers."""
        ...

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what users are multiplied with."""
        ...


@dataclass(frozen=True)
class Interests:
    """What users have in each cluster: one cell for every cluster that a user touches.

    Attributes:
        of: float32[n, cells], one where the cell is the row's.
        cluster: int64[cells].
        share: float32[cells], of the user's items.
        vectors: float32[cells, d], unit, the mean of the user's items there.
    """

    of: sp.csr_array
    cluster: NDArray[np.int64]
    share: NDArray[np.float32]
    vectors: NDArray[np.float32]

    @classmethod
    def among(
        cls, held: sp.csr_array, cluster: NDArray[np.int64], items: NDArray[np.float32]
    ) -> Interests:
        """Of users who have float32[n, n_items], in int64[n_items] clusters of unit vectors."""
        counts = np.diff(held.indptr)
        rows = np.repeat(np.arange(held.shape[0]), counts)
        wide = int(cluster.max(initial=0)) + 1
        keys, cell = np.unique(rows * wide + cluster[held.indices], return_inverse=True)
        owner, ones = keys // wide, np.ones(len(rows), dtype=np.float32)
        shape = (len(keys), held.shape[1])
        sums = sp.coo_array((ones, (cell, held.indices)), shape=shape).tocsr() @ items
        share = np.bincount(cell, minlength=len(keys)) / np.maximum(counts[owner], 1)
        pointers = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(counts)))])
        ours = (np.ones(len(keys), dtype=np.float32), np.arange(len(keys)), pointers)
        of = sp.csr_array(ours, shape=(len(counts), len(keys)))
        return cls(of, keys % wide, share.astype(np.float32), unit_rows(np.asarray(sums)))

    def mixed(self, weights: sp.csr_array, wide: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """What rows of users, weighed by float32[b, n], have together.

        Returns:
            float32[b, wide] shares of clusters, and float32[b, wide, d] sums of the centroids of
            those who have the cluster.
        """
        cells = sp.csr_array(weights @ self.of)
        rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
        place = rows * wide + self.cluster[cells.indices]
        n, width = cells.shape[0], self.vectors.shape[1]
        share = np.bincount(place, cells.data * self.share[cells.indices], minlength=n * wide)
        spread = sp.coo_array(
            (cells.data, (place, cells.indices)), shape=(n * wide, len(self.share))
        )
        sums = np.asarray(spread.tocsr() @ self.vectors, dtype=np.float32)
        return share.reshape(n, wide).astype(np.float32), sums.reshape(n, wide, width)


class KNNEmbed(Recommender):
    """kNN-Embed (S042): a mixture of interests in place of one vector, smoothed by neighbours.

    El-Kishky et al., 2022. Items are clustered (spherical k-means); a user is the share of each
    cluster among the items that he has, and the mean of his items there. Both are smoothed
    with those of the users whose vectors are nearest, so that clusters he never touched are asked
    with his neighbours' centroids. Answers are shared out among the clusters by these
    weights, and each cluster gives its items in order of their cosine to the centroid.

    The r-th item of a cluster of weight w scores w / (r - 1/2): the first k answers are then the
    seats that Webster's method gives k, so counts are rounded fairly, add up to k whatever k is,
    and a cluster that runs out hands its seats on. Items that may not be answered take no seat.
    What no weight reaches follows in order of the user's own vector.

    Modes:
        smoothed: the mixture with neighbours.
        mixture: that of the user alone.
        single: the recommender underneath, one vector a user.
        mean: one vector a user, the mean of the items that he has.

    Args:
        of: the recommender that gives the vectors: ``name`` and settings, ``lightgcn`` and those
            made of it.
        clusters: of items; chosen on validation around the root of the catalogue where None.
        neighbours: users who smooth; chosen on validation where None.
        smoothing: the user's own share of the mixture, 1 for no smoothing; chosen on validation
            where None.
        seed: of the vectors and the clusters.
        folder: where the recommender underneath keeps checkpoints.
        quiet: no progress bar.

    Raises:
        OnomaError: the recommender underneath has no vectors of users and items in one space.
        ValueError: a setting out of range.
    """

    name = "knn-embed"
    takes = frozenset({"seed", "folder", "quiet"})
    reads = frozenset({"history", "users"})
    modes = ("smoothed", "mixture", "single", "mean")
    batch = 256

    def __init__(
        self,
        of: Mapping[str, Any] | None = None,
        clusters: int | None = None,
        neighbours: int | None = None,
        smoothing: float | None = None,
        seed: int = 0,
        folder: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self.of = dict(of or {"name": "lightgcn"})
        for key, value in (("clusters", clusters), ("neighbours", neighbours)):
            if value is not None and value < 1:
                raise ValueError(f"{key} must be at least 1")
        if smoothing is not None and not 0 <= smoothing <= 1:
            raise ValueError("smoothing must be between 0 and 1")
        self.clusters, self.neighbours, self.smoothing = clusters, neighbours, smoothing
        self.seed = seed
        inner = recommender(str(self.of.get("name")))
        if not issubclass(inner, OneSpace):
            raise OnomaError(
                f"{inner.name} has no vectors of users and items in one space",
                where=f"{self.name}: of",
                fix="Use lightgcn, or one that is made of it",
            )
        self.inner: Recommender = inner.create(
            {key: value for key, value in self.of.items() if key != "name"},
            seed=seed,
            folder=None if folder is None else folder / "inner",
            quiet=quiet,
        )
        self.training: dict[str, Any] = {}
        self._neighbours, self._smoothing = neighbours or 1, 1.0 if smoothing is None else smoothing

    @property
    def seconds(self) -> dict[str, float]:
        """What the recommender underneath took."""
        return getattr(self.inner, "seconds", {})

    def fit(self, split: Split) -> Self:
        """Fit the recommender underneath; validation then picks what is open."""
        self.inner.fit(split)
        n = split.dataset.n_items
        self._know(interactions(split.train, n))
        root = max(2, isqrt(n))
        sizes = [root // 2, root, 2 * root] if self.clusters is None else [self.clusters]
        made: dict[int, NDArray[np.int64]] = {}

        def apply(option: dict[str, Any]) -> Recommender:
            size = min(option["clusters"], n)
            if size not in made:
                made[size] = spherical(self._items, size, self.seed)
            if getattr(self, "_cluster", None) is not made[size]:
                self._arrange(made[size])
            self._neighbours, self._smoothing = option["neighbours"], option["smoothing"]
            return self

        around = grid(
            clusters=[sizes[len(sizes) // 2]],
            neighbours=[20, 50, 100] if self.neighbours is None else [self.neighbours],
            smoothing=[0.2, 0.4, 0.6, 0.8] if self.smoothing is None else [self.smoothing],
        )
        first = choose(around, apply, split.valid, limit=2000)
        # Clusters cost the most to change: they are chosen last, with the others fixed.
        options = [{**first.settings, "clusters": max(1, size)} for size in sizes]
        second = choose(options, apply, split.valid, limit=2000)
        chosen = {**second.describe(), "tried": first.tried + second.tried}
        self.training = {**getattr(self.inner, "training", {}), "mixture": chosen}
        return self

    def _know(self, held: sp.csr_array) -> None:
        """Take the vectors of the recommender underneath, and who has what in training."""
        assert isinstance(self.inner, OneSpace)
        vectors = self.inner.item_vectors()
        assert vectors is not None
        self._items, self._held = unit_rows(vectors), held
        rows = Ragged(held.indptr.astype(np.int64), held.indices)
        parts = [
            self._user_vectors(
                rows.slice(start, min(start + _USERS, len(rows))),
                np.arange(start, min(start + _USERS, len(rows)), dtype=np.int32),
            )
            for start in range(0, len(rows), _USERS)
        ]
        self._users = np.concatenate(parts)
        self._active = np.flatnonzero(rows.lengths > 0)

    def _user_vectors(self, history: Ragged, users: NDArray[np.int32] | None) -> NDArray[Any]:
        assert isinstance(self.inner, OneSpace)
        return unit_rows(self.inner.user_vectors(history, users).cpu().numpy())

    def _arrange(self, cluster: NDArray[np.int64]) -> None:
        """Put items and the interests of training users in order of int64[n_items] clusters."""
        self._cluster, self._wide = cluster, int(cluster.max(initial=0)) + 1
        self._trained = Interests.among(self._held, cluster, self._items)
        order = np.argsort(cluster, kind="stable")
        ends = np.cumsum(np.bincount(cluster, minlength=self._wide))
        self._members = [torch.from_numpy(part) for part in np.split(order, ends[:-1])]

    def mixture(
        self, history: Ragged, users: NDArray[np.int32] | None, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """What n users are interested in.

        Args:
            history: n rows of item codes.
            users: int32[n], -1 for strangers; nobody is his own neighbour.
            smoothing: the user's own share.

        Returns:
            float32[n, clusters] weights, and float32[n, clusters, d] unit centroids, zero where
            the weight is.
        """
        held = interactions(history, len(self._items))
        own = Interests.among(held, self._cluster, self._items)
        alone = sp.csr_array(sp.eye_array(len(history), format="csr", dtype=np.float32))
        weights, centres = own.mixed(sp.csr_array(alone * np.float32(smoothing)), self._wide)
        if smoothing < 1:
            near = self._nearest(history, users) * np.float32(1 - smoothing)
            more, theirs = self._trained.mixed(sp.csr_array(near), self._wide)
            weights, centres = weights + more, centres + theirs
        units = torch.nn.functional.normalize(torch.from_numpy(centres), dim=2)
        return torch.from_numpy(weights), units

    def _nearest(self, history: Ragged, users: NDArray[np.int32] | None) -> sp.csr_array:
        """float32[n, n_users], rows of the nearest training users, summing to one."""
        mine = self._user_vectors(history, users)
        # In double precision, so that who is near does not hang on the batch.
        cosines = mine.astype(np.float64) @ self._users[self._active].astype(np.float64).T
        near = torch.from_numpy(cosines.round(_DIGITS) - np.arange(cosines.shape[1]) * 1e-13)
        if users is not None:
            place = np.searchsorted(self._active, users).clip(0, max(len(self._active) - 1, 0))
            himself = np.flatnonzero(self._active[place] == users)
            near[himself, place[himself]] = -torch.inf
        values, found = near.topk(min(self._neighbours, near.shape[1]), dim=1)
        known = (values > -torch.inf).numpy()
        rows, columns = np.nonzero(known)
        share = (1 / np.maximum(known.sum(1), 1)).astype(np.float32)[rows]
        codes = self._active[found.numpy()[rows, columns]]
        return sp.coo_array((share, (rows, codes)), shape=(len(mine), len(self._users))).tocsr()

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: places in a cluster over its weight, as the class says."""
        return self._scores(requests, self.modes[0])

    def _scores(self, requests: Requests, mode: str, depth: int | None = None) -> Tensor:
        """float32[n, n_items]; items behind the ``depth`` first of a cluster may be left out."""
        if mode == "single":
            return self.inner.score(requests)
        if mode == "mean":
            held = interactions(requests.history, len(self._items))
            return torch.from_numpy(unit_rows(held @ self._items) @ self._items.T)
        smoothing = self._smoothing if mode == "smoothed" else 1.0
        weights, centres = self.mixture(requests.history, requests.users, smoothing)
        items = torch.from_numpy(self._items)
        mine = torch.from_numpy(self._user_vectors(requests.history, requests.users))
        out = mine @ items.T - 2  # below all that a weight reaches
        barred = torch.zeros(out.shape, dtype=torch.bool)
        forbidden = requests.forbidden()
        codes = torch.from_numpy(np.asarray(forbidden.values, dtype=np.int64))
        barred[torch.from_numpy(forbidden.rows()), codes] = True
        for cluster, members in enumerate(self._members):
            rows = torch.nonzero(weights[:, cluster])[:, 0]
            if not len(rows) or not len(members):
                continue
            near = centres[rows, cluster].double() @ items[members].double().T
            near = near.round(decimals=_DIGITS) - torch.arange(len(members)) * 1e-13
            near = near.masked_fill(barred[rows[:, None], members], -torch.inf)
            deep = len(members) if depth is None else min(depth, len(members))
            found = members[near.topk(deep, dim=1).indices]
            out[rows[:, None], found] = weights[rows, cluster, None] / (torch.arange(deep) + 0.5)
        return out

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is None:
            # An item behind k others of its cluster is not among the first k.
            return top_k(self._scores(requests, mode, k), k, forbidden=requests.forbidden())
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        picked = self._scores(requests, mode).gather(1, items.clamp(min=0))
        return top_k(picked, k, forbidden=requests.forbidden(), items=items)

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], unit."""
        return self._items

    def save(self, folder: str | Path) -> None:
        """Write the recommender underneath, who has what, the clusters and what was chosen."""
        self.inner.save(Path(folder) / "inner")
        settings = {
            "of": self.of,
            "clusters": self._wide,
            "neighbours": self._neighbours,
            "smoothing": self._smoothing,
        }
        arrays = {"held": self._held, "cluster": self._cluster}
        save_model(folder, self.name, {**settings, "seed": self.seed}, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: a file is missing, damaged or of another catalogue.
        """
        settings, arrays = read_model(folder, cls.name)
        model = cls(**settings, quiet=True)
        model.inner = type(model.inner).load(Path(folder) / "inner", dataset)
        if len(arrays["cluster"]) != dataset.n_items:
            raise OnomaError(
                f"clusters of {len(arrays['cluster'])} items, the catalogue has {dataset.n_items}",
                where=str(folder),
                fix="Use the data the model was fitted on",
            )
        model._know(arrays["held"])
        model._arrange(arrays["cluster"])
        return model


def spherical(items: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int64]:
    """int64[n], the cluster of each unit vector, by the largest cosine to a unit centroid."""
    points = torch.from_numpy(items)
    centres = kmeans(points, k, torch.Generator().manual_seed(seed))
    for _ in range(_ROUNDS):
        centres = torch.nn.functional.normalize(centres, dim=1)
        found = (points @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, found, points)
        filled = torch.bincount(found, minlength=k) > 0
        centres = torch.where(filled[:, None], sums, centres)
    centres = torch.nn.functional.normalize(centres, dim=1)
    return (points @ centres.T).argmax(1).numpy().astype(np.int64)
