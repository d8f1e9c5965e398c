"""A short walk from the last items over training steps, ranked by content."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma import encoding
from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.cooccurrence import transitions
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.baselines.sparse import dense, query, tie_breaker
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.tuning import choose, grid
from onoma.recommenders.walk import walkable

_CROWDED = 0.1  # share of non-zeros


class GraphWalk(Recommender):
    """Candidates a few hops from the last one or two items, ranked by content and walk weight.

    The graph joins items that followed one another in training (both directions, the backward one
    at half weight), rows summing to one. A candidate's score is
    ``(1 - walk) * similarity + walk * reach``: ``similarity`` is the cosine to the start items,
    ``reach`` the walk's weight divided by the largest of the request. Items that no walk reaches
    come after all candidates, by similarity; an empty history is answered by popularity. Nothing
    is trained; a setting left at None is chosen on validation NDCG@10.

    Args:
        encoder: what gives the content vectors; anything :func:`onoma.encoding.build` takes.
        hops: longest walk.
        last: start items, 1 or 2.
        walk: share of the walk's weight in the score, 0 for content alone.
        edges: steps kept from each item, the most frequent.
        cache: folder for content vectors.

    After arXiv 2605.07125.
    """

    name = "graph"

    def __init__(
        self,
        encoder: Any = "tfidf",
        hops: int | None = None,
        last: int | None = None,
        walk: float | None = None,
        edges: int = 100,
        cache: str | Path | None = None,
    ) -> None:
        if hops is not None and not 1 <= hops <= 4:
            raise ValueError("hops must be between 1 and 4")
        if last is not None and not 1 <= last <= 2:
            raise ValueError("last must be 1 or 2")
        if walk is not None and not 0 <= walk <= 1:
            raise ValueError("walk must be between 0 and 1")
        if edges < 1:
            raise ValueError("edges must be at least 1")
        self.encoder, self.edges = encoding.build(encoder), edges
        self.hops, self.last, self.walk = hops, last, walk
        self.training: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self._steps = sp.csr_array((0, 0), dtype=np.float32)
        self._vectors: NDArray[np.float32] = np.zeros((0, 1), dtype=np.float32)
        self._popularity: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._chosen: dict[str, Any] = {}

    def fit(self, split: Split) -> Self:
        """Build the graph, encode the catalogue, choose what is open on ``split.valid``."""
        began = time.monotonic()
        self._vectors = encoding.cached(self.encoder, split)
        self.seconds["encode"] = time.monotonic() - began
        forward = transitions(split.train, split.dataset.n_items)
        self._steps = walkable(forward, self.edges)
        self._popularity = tie_breaker(split.train_counts)
        options = grid(
            hops=[1, 2, 3] if self.hops is None else [self.hops],
            last=[1, 2] if self.last is None else [self.last],
            walk=[0.0, 0.3, 0.6, 0.9] if self.walk is None else [self.walk],
        )

        def apply(option: dict[str, Any]) -> Recommender:
            self._chosen = option
            return self

        self.training = choose(options, apply, split.valid).describe()
        return self

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: in [-1, 1] for candidates, lower for the rest."""
        chosen = self._chosen
        start = query(requests.history, len(self._vectors), 0.5, last=chosen["last"])
        mean = sp.csr_array(start / np.maximum(start.sum(axis=1), 1e-6)[:, None])
        similar = torch.from_numpy(mean @ self._vectors) @ torch.from_numpy(self._vectors).T
        walked = self._walk(mean, chosen["hops"])
        found = walked > 0
        walked /= walked.amax(dim=1, keepdim=True).clamp(min=1e-12)
        out = (1 - chosen["walk"]) * similar + chosen["walk"] * walked
        out = torch.where(found, out, similar - 4)
        strangers = torch.from_numpy(requests.history.lengths == 0)
        return torch.where(strangers[:, None], torch.from_numpy(self._popularity) - 4, out)

    def parts(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[total], similarity and walk of each start item to its row's target.

        The walks of a history are divided by their common maximum, which is held fixed.
        """
        chosen, n = self._chosen, len(self._vectors)
        shares = query(history, n, 0.5, last=chosen["last"])
        shares = sp.csr_array(shares / np.maximum(shares.sum(axis=1), 1e-6)[:, None])
        largest = self._walk(shares, chosen["hops"]).amax(dim=1).clamp(min=1e-12).numpy()
        out = np.zeros(len(history.values), dtype=np.float32)
        place = np.arange(len(out)) - np.repeat(history.offsets[1:], history.lengths)
        read = np.flatnonzero(place >= -chosen["last"])
        items, rows = history.values[read], history.rows()[read]
        weight = np.float32(0.5) ** (-1 - place[read])
        weight /= np.bincount(rows, weight, minlength=len(history))[rows]
        alone = sp.csr_array((np.ones(len(items), np.float32), (range(len(items)), items)),
                             shape=(len(items), n))  # fmt: skip
        goal = targets[rows]
        walked = self._walk(alone, chosen["hops"]).numpy()[np.arange(len(items)), goal]
        similar = (self._vectors[items] * self._vectors[goal]).sum(axis=1)
        walk = np.where(_reached(walked, rows, len(history)), chosen["walk"], 0)
        out[read] = weight * ((1 - walk) * similar + walk * walked / largest[rows])
        return out

    def _walk(self, start: sp.csr_array, hops: int) -> Tensor:
        """float32[n, n_items], weight of walks of up to ``hops`` steps, halved with each step."""
        here: Any = start
        total = torch.zeros(start.shape)
        for hop in range(hops):
            here = here @ self._steps
            # A crowded walk is cheaper as a dense array.
            if sp.issparse(here) and here.nnz > _CROWDED * start.shape[0] * start.shape[1]:
                here = here.toarray()
            now = dense(here) if sp.issparse(here) else torch.from_numpy(here)
            total += now * 0.5**hop
        return total

    def save(self, folder: str | Path) -> None:
        """Write graph, vectors and the chosen settings."""
        arrays = {
            "steps": self._steps,
            "vectors": self._vectors,
            "popularity": self._popularity,
        }
        save_model(folder, self.name, self._chosen, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read graph, vectors and settings; the encoder is not needed any more."""
        settings, arrays = load_model(folder, cls.name, dataset)
        model = cls(hops=settings["hops"], last=settings["last"], walk=settings["walk"])
        model._steps, model._vectors = arrays["steps"], arrays["vectors"]
        model._popularity, model._chosen = arrays["popularity"], settings
        return model


def _reached(walked: NDArray[np.float32], rows: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """bool[total], whether any start item of the row walks to the target."""
    out: NDArray[np.bool_] = np.bincount(rows, walked, minlength=n)[rows] > 0
    return out
