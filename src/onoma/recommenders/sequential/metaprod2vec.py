"""Items as words of a sequence, with what the catalogue says of them as further words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma.dataset import Dataset, Split
from onoma.encoding.cooccurrence import steps, windowed
from onoma.errors import OnomaError
from onoma.neural.device import device
from onoma.neural.noise import Noise
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.baselines.sparse import dense, last_items, query, tie_breaker
from onoma.recommenders.sequential.side import Side
from onoma.recommenders.storage import load_model, save_model
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuning import choose, grid, validation_ndcg

_START = 0.1  # standard deviation of fresh vectors
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of counts in the mixture, chosen on validation
_DECAYS = (0.0, 0.3, 0.5, 0.7, 0.9)  # of a history, chosen on validation
_NEAR = "co-occurrences"


class MetaProd2VecSettings(BaseModel):
    """The words, their neighbours and the loss.

    Attributes:
        width: dimensions d of a vector.
        window: places apart that items are neighbours; a pair at distance c counts with
            probability (window - c + 1) / window.
        weight: of the four losses with side information; 0 is Prod2Vec, which reads none.
        fields: columns that are side information, lists value by value; of ``title`` the first
            word, which is often a brand. Those the catalogue lacks are skipped.
        negatives: of each pair.
        pool: words drawn a step, which stand for the negatives of all its pairs.
        popularity: the power of its count that a word is drawn by.
        batch: pairs a training step.
        decay: of a history's items, per place from the end; 0 asks with the last item alone, None
            is chosen on validation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=50, ge=1)
    window: int = Field(default=3, ge=1)
    weight: float = Field(default=1.0, ge=0)
    fields: tuple[str, ...] = ("brand", "categories", "genres", "title")
    negatives: int = Field(default=10, ge=1)
    pool: int = Field(default=64, ge=1)
    popularity: float = Field(default=0.75, ge=0)
    batch: int = Field(default=1024, ge=1)
    decay: float | None = Field(default=0.0, ge=0, le=1)


class MetaProd2VecModule(TrainedModule):
    """Vectors of items and values as centres, and as neighbours.

    Args:
        side: what items have; no values for Prod2Vec.
        counts: int64[n_items] training interactions.
        settings: the words, their neighbours and the loss.

    Attributes:
        vectors: float32[n_items, d], unit, what answers are made of.
        share: float32[], of the counts in the mixture.
        decay: float32[], of a history.
    """

    vectors: Tensor
    popularity: Tensor
    share: Tensor
    decay: Tensor
    edges: Tensor
    drawn: Tensor
    told: Tensor

    def __init__(
        self, side: sp.csr_array, counts: NDArray[np.int64], settings: MetaProd2VecSettings
    ) -> None:
        super().__init__()
        (self.n_items, self.n_values), self.settings = side.shape, settings
        self.noise, self.side, width = Noise(), side, settings.width
        self.items = nn.Parameter(torch.randn(self.n_items, width) * _START)
        self.values = nn.Parameter(torch.randn(self.n_values, width) * _START)
        self.items_near = nn.Parameter(torch.zeros(self.n_items, width))
        self.values_near = nn.Parameter(torch.zeros(self.n_values, width))
        self.register_buffer("vectors", torch.zeros(self.n_items, width))
        self.register_buffer("popularity", torch.from_numpy(tie_breaker(counts)))
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("decay", torch.tensor(settings.decay or 0.0))
        rows = np.repeat(np.arange(self.n_items), np.diff(side.indptr))
        # Entry by entry, the row plus the share of it so far: one search draws a value of a row.
        so_far = np.cumsum(side.data, dtype=np.float64)
        before = np.concatenate([[0.0], so_far])[side.indptr[:-1]]
        edges = np.minimum(so_far - before[rows], 1.0) + rows
        ends = side.indptr[1:][np.diff(side.indptr) > 0] - 1
        edges[ends] = rows[ends] + 1.0
        for key, value in (
            ("edges", torch.from_numpy(edges)),
            ("drawn", torch.from_numpy(side.indices.astype(np.int64))),
            ("told", torch.from_numpy((np.diff(side.indptr) > 0).astype(np.float32))),
        ):
            self.register_buffer(key, value, persistent=False)
        self.seen = counts > 0
        powers = (np.maximum(counts, 1.0), np.maximum(side.T @ counts.astype(np.float64), 1.0))
        self._bounds = [np.cumsum(power**settings.popularity) for power in powers]

    def loss(self, centres: Tensor, others: Tensor) -> Tensor:
        """Mean loss of int64[b] items and int64[b] neighbours.

        One value of each item, drawn anew, stands for all: in the mean that is all of them with
        weights that sum to one, whatever their number.
        """
        items = self._negatives(0, self.items_near)
        near, goal = self.items[centres], self.items_near[others]
        even = torch.ones(len(centres), device=centres.device)
        total = self._pairs(near, goal, items, even)
        if not self.settings.weight or not self.n_values:
            return total
        values = self._negatives(1, self.values_near)
        mine, theirs = self._value_of(centres), self._value_of(others)
        known, both = self.told[centres], self.told[centres] * self.told[others]
        meta = self.values[mine]
        side = (
            self._pairs(near, self.values_near[theirs], values, self.told[others])
            + self._pairs(meta, goal, items, known)
            + self._pairs(meta, self.values_near[theirs], values, both)
            + self._pairs(meta, self.items_near[centres], items, known)
        )
        return total + self.settings.weight * side

    def _pairs(self, near: Tensor, goal: Tensor, others: Tensor, weight: Tensor) -> Tensor:
        """Mean skip-gram loss with negatives of float[b, d] rows, weighed by float[b]."""
        own = nn.functional.softplus(-(near * goal).sum(1))
        apart = nn.functional.softplus(near @ others.T).mean(1) * self.settings.negatives
        return (weight * (own + apart)).mean()

    def _negatives(self, kind: int, table: Tensor) -> Tensor:
        """float32[pool, d], rows of a table drawn by count."""
        bounds = self._bounds[kind]
        at = self.noise.uniform(self.settings.pool).numpy().astype(np.float64) * bounds[-1]
        found = np.minimum(np.searchsorted(bounds, at, side="right"), len(bounds) - 1)
        return table[torch.from_numpy(found).to(table.device)]

    def _value_of(self, items: Tensor) -> Tensor:
        """int64[b], a value of each item; any where it has none."""
        at = items + self.noise.uniform(len(items)).double().to(items.device)
        place = torch.searchsorted(self.edges, at, right=True)
        return self.drawn[place.clamp(max=len(self.drawn) - 1)]

    @torch.no_grad()
    def settle(self) -> None:
        """Compute what answering reads; an item without interactions is the mean of its values."""
        vectors = self.items.clone()
        new = torch.from_numpy(~self.seen).to(vectors.device)
        vectors[new] = self.of_values(self.side)[new]
        self.vectors.copy_(nn.functional.normalize(vectors, dim=1))

    @torch.no_grad()
    def of_values(self, chance: sp.csr_array) -> Tensor:
        """float32[m, d], the mean of the values of float32[m, v] rows; zero where there is none."""
        table = self.values.detach()
        return torch.from_numpy(chance @ table.cpu().numpy()).to(table)


class MetaProd2Vec(TrainedRecommender):
    """Meta-Prod2Vec (S106): skip-grams over items and what the catalogue says of them.

    Vasile, Smirnova and Conneau, RecSys 2016, equation 4: an item foretells its neighbours
    (Prod2Vec), and with ``weight`` also their side information, while its own side information
    foretells the neighbours, theirs, and the item. So items that were hardly seen stand where
    their brand and categories stand. Answers are the items whose vectors are nearest to the last
    one's by cosine; in the mode ``mix`` counts of what stood near the last item have a share that
    validation chooses.

    We depart from it where negatives are shared by the pairs of a step, Adam trains in place of
    plain descent, one value an item is drawn for each pair, rare ones oftener, and values that a
    single item has are left out.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, pairs and draws.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`MetaProd2VecSettings`.
    """

    name = "meta-prod2vec"
    modes = ("rank", "mix")
    module: MetaProd2VecModule
    settings_type = MetaProd2VecSettings
    settings: MetaProd2VecSettings

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(train=train, seed=seed, folder=folder, quiet=quiet, **settings)
        self._near = sp.csr_array((0, 0), dtype=np.float32)

    def _build(self, split: Split) -> MetaProd2VecModule:
        return self._made(split.dataset, split.train_counts)

    def _made(self, dataset: Dataset, counts: NDArray[np.int64]) -> MetaProd2VecModule:
        fields = self.settings.fields if self.settings.weight else ()
        self.side = Side(dataset.items, fields)
        if fields and not self.side.names:
            raise OnomaError(
                f"no two items share a value of {', '.join(fields)}",
                where=self.name,
                fix="Name columns of the catalogue in recommender.fields, or set weight to 0",
            )
        return MetaProd2VecModule(self.side.chance, counts, self.settings)

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> MetaProd2VecModule:
        return self._made(dataset, np.ones(dataset.n_items, dtype=np.int64))

    def _task(self, split: Split) -> Task:
        return SkipGrams(self, split)

    def fit(self, split: Split) -> Self:
        """Train; validation picks the weights, the share of counts and an open decay."""
        super().fit(split)
        self._near = _scaled(windowed(split.train, split.dataset.n_items, self.settings.window))
        if self.settings.decay is None:
            found = choose(grid(decay=_DECAYS), self._with_decay, split.valid)
            self.training["decay"] = found.describe()
        tried = {}
        for share in _SHARES:
            self.module.share.fill_(share)
            tried[share] = validation_ndcg(self, split.valid, limit=5000, mode="mix")
        self.module.share.fill_(max(tried, key=lambda share: tried[share]))
        self.training["share"] = {"chosen": round(float(self.module.share), 6), "tried": tried}
        return self

    def _with_decay(self, option: dict[str, Any]) -> Self:
        self.module.decay.fill_(option["decay"])
        return self

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], cosines; popularity orders where nothing is known."""
        module = self.module
        asked = query(requests.history, len(module.vectors), round(float(module.decay), 6))
        table = module.vectors.cpu().numpy()
        vectors = nn.functional.normalize(torch.from_numpy(asked @ table), dim=1)
        return vectors @ torch.from_numpy(table).T + module.popularity.cpu() * 1e-6

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if mode != "mix":
            return super()._recommend(requests, k, mode)
        share, last = float(self.module.share), last_items(requests.history)
        counts = dense(self._near[np.maximum(last, 0)])
        counts[torch.from_numpy(last < 0)] = 0
        scores = (1 - share) * self.score(requests) + share * counts
        if requests.candidates is None:
            return top_k(scores, k, forbidden=requests.forbidden())
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        picked = scores.gather(1, items.clamp(min=0))
        return top_k(picked, k, forbidden=requests.forbidden(), items=items)

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], unit."""
        vectors: NDArray[np.float32] = self.module.vectors.cpu().numpy()
        return vectors

    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """New items stand at the mean of their values, as those without interactions do."""
        module, n = self.module, len(catalogue) + len(items)
        rows = nn.functional.normalize(module.of_values(self.side.of(items)), dim=1)
        tensors = {
            "vectors": torch.cat([module.vectors, rows]),
            "popularity": nn.functional.pad(module.popularity, (0, len(items))),
        }
        more = self._with_tensors(tensors, n)
        more._near = self._near.copy()
        more._near.resize((n, n))
        return more

    def save(self, folder: str | Path) -> None:
        """Write weights, settings and the counts."""
        super().save(folder)
        save_model(Path(folder) / "near", _NEAR, {}, {"near": self._near})

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        model = super().load(folder, dataset)
        _, arrays = load_model(Path(folder) / "near", _NEAR, dataset)
        model._near = arrays["near"]
        return model


def _scaled(counts: sp.csr_array) -> sp.csr_array:
    """Counts over the largest of their row."""
    largest = np.maximum(counts.max(axis=1).toarray(), 1e-12)
    return sp.csr_array(sp.diags_array((1 / largest).astype(np.float32)) @ counts)


class SkipGrams:
    """The trainer's view: items and their neighbours, both ways, shuffled every epoch."""

    def __init__(self, owner: MetaProd2Vec, split: Split) -> None:
        self.owner, self.split, window = owner, split, owner.settings.window
        lags = [steps(split.train, lag) for lag in range(1, window + 1)]
        sources, targets = (
            np.concatenate(side).astype(np.int64) for side in zip(*lags, strict=True)
        )
        self.pairs = np.stack([np.r_[sources, targets], np.r_[targets, sources]])
        kept = [(window - lag) / window for lag in range(window)]
        self.kept = np.tile(np.repeat(kept, [len(source) for source, _ in lags]), 2)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(np.flatnonzero(rng.random(len(self.kept)) < self.kept))
        return np.array_split(order, max(1, -(-len(order) // self.owner.settings.batch)))

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        centres, others = torch.from_numpy(self.pairs[:, batch]).to(device())
        return self.owner.module.loss(centres, others)

    def validate(self) -> float:
        self.owner.module.settle()
        return validation_ndcg(self.owner, self.split.valid)
