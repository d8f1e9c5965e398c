"""Interests and tags in words as a third tower beside users and items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from onoma import encoding
from onoma.dataset import Dataset, Ragged, Split
from onoma.dataset.files import write_parquet
from onoma.encoding.base import TextEncoder
from onoma.encoding.cache import cached_texts
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.language.logs import saving
from onoma.neural.batching import PrefixBatches
from onoma.neural.device import device
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval import spoken
from onoma.recommenders.retrieval.interests import Facets, Miner, RuleMiner, Tags
from onoma.recommenders.retrieval.towers import Step, Towers, TowerSettings, features
from onoma.recommenders.trained import TrainedRecommender
from onoma.recommenders.tuning import validation_ndcg

_TABLE = "explanations.parquet"
_LOGS = 500  # users whose logs are compressed to see what is kept
_STRANGERS = 0.1  # share of training clicks whose user is not told


class RecGPTSettings(TowerSettings):
    """The towers, and what speaks for a user.

    Attributes:
        by: what mines interests and tags: ``rule``, or a language model as ``onoma models`` names
            it.
        encoder: a text encoder of single words.
        beta: share of the user tower in the answer; the rest is that of the tags.
        pool: whether an item is held against the mean of the tags or the best of them.
        interests: at most, of a history.
        siblings: categories that are added to each interest.
        tags: at most.
        words: of a history that may stand in a tag.
        explore: share of the weight of the tags that those of further categories have.
        domain: how one speaks of the items.
        explained: most popular items of the table of explanations.
    """

    by: Any = "rule"
    encoder: Any = "sentence"
    beta: float = Field(default=0.7, ge=0, le=1)
    pool: Literal["mean", "max"] = "mean"
    interests: int = Field(default=16, ge=1)
    siblings: int = Field(default=8, ge=0)
    tags: int = Field(default=120, ge=1)
    words: int = Field(default=12, ge=1)
    explore: float = Field(default=1.0, ge=0, le=1)
    domain: Any = "products"
    explained: int = Field(default=1000, ge=0)


class RecGPT(TrainedRecommender):
    """RecGPT (S006): interests, tags made of them, three towers, and a table of explanations.

    RecGPT Technical Report, 2025. The user tower reads the id and the mean of the history, the
    item tower ids, category, brand and price, the tag tower the mean of a tag's word vectors. They
    learn that users meet the items they took, a tag its item, and a tag other items of the
    category. An answer is ``beta`` times the user's product and the rest that of the tags mined
    from the history; in training a tag is a category and a word of the item itself, so no user's
    tags are needed there.

    We depart from it where interests and tags come from a rule unless ``by`` names a language
    model, which is not tuned; and where in-batch negatives are corrected for popularity.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights and batches.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`RecGPTSettings`.

    Attributes:
        beta: share of the user tower in the answer; may be changed at any time.
        miner: what finds interests and tags.
        explanations: columns ``item``, ``interest``, ``text``, ``by``; None before fitting.
    """

    name = "recgpt"
    reads = frozenset({"history", "users"})
    module: Towers
    settings_type = RecGPTSettings
    settings: RecGPTSettings
    miner: Miner
    explanations: pl.DataFrame | None = None

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
        self.beta = self.settings.beta
        self._items: Tensor | None = None

    def fit(self, split: Split) -> Self:
        """Train; then write explanations of the most popular items, and measure compression."""
        super().fit(split)
        popular = np.argsort(-split.train_counts, kind="stable")[: self.settings.explained]
        self.explanations, judged = spoken.table(
            split.dataset, self.facets, popular.tolist(), self._model(), self.settings.domain
        )
        self.training["explanations"] = {"rows": self.explanations.height, **dict(judged)}
        users = np.unique(np.linspace(0, len(split.train) - 1, _LOGS).astype(np.int64))
        told = item_texts(split.dataset.items, ("title", "brand", "categories", "genres"))
        self.training["logs"] = saving(split, users.tolist(), told)
        return self

    def _model(self) -> Any:
        """The language model that is named, if one is."""
        if self.settings.by == "rule":
            return None
        from onoma.language.opening import open_model

        return open_model(self.settings.by)

    def _mining(self, facets: Facets, dataset: Dataset) -> None:
        settings = self.settings
        self.facets = facets
        rule = RuleMiner(
            facets,
            settings.interests,
            settings.siblings,
            settings.tags,
            settings.words,
            settings.explore,
        )
        self.miner = rule
        if (model := self._model()) is not None:
            from onoma.recommenders.retrieval.asked import ModelMiner

            self.miner = ModelMiner(model, rule, dataset, settings.domain)

    def language_report(self) -> dict[str, Any]:
        """Who mined, and what was asked and turned down since."""
        report: dict[str, Any] = {"model": "none: interests and tags by rule", "usage": {}}
        if (model := getattr(self.miner, "model", None)) is not None:
            meter = getattr(model, "recorded", model.meter)
            report = {"model": model.identity, "usage": meter.report()}
        report["note"] = "Where no answer is of use, the tags of the rule stand in its place."
        return {**report, "answers": dict(sorted(self.miner.answers.items()))}

    def _build(self, split: Split) -> Towers:
        began = time.monotonic()
        self._mining(Facets.of(split), split.dataset)
        encoder = encoding.build(self.settings.encoder)
        if not isinstance(encoder, TextEncoder):
            raise OnomaError(f"{encoder.name} reads no texts", where=f"{self.name}: encoder")
        names = [*self.facets.kinds, *self.facets.words]
        terms = cached_texts(encoder, names or [""])
        self.seconds["encode"] = time.monotonic() - began
        counts = split.train_counts.astype(np.float32) + 1
        return Towers(
            split.dataset.n_users,
            features(split.dataset.items),
            torch.from_numpy(terms),
            len(self.facets.kinds),
            torch.from_numpy(np.log(counts / counts.sum())),
            self.settings,
        )

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> Towers:
        facets = Facets.load(folder / "facets", dataset)
        self._mining(facets, dataset)
        if (folder / _TABLE).is_file():
            self.explanations = pl.read_parquet(folder / _TABLE)
        table: NDArray[np.int64] = weights["features"][:-1].numpy()
        return Towers(
            len(weights["user.weight"]) - 1,
            table,
            torch.zeros_like(weights["terms"]),
            len(facets.kinds),
            torch.zeros_like(weights["popularity"]),
            self.settings,
        )

    def save(self, folder: str | Path) -> None:
        """Write the weights, what items are in words, and the table of explanations."""
        super().save(folder)
        self.facets.save(Path(folder) / "facets")
        if self.explanations is not None:
            write_parquet(self.explanations, Path(folder) / _TABLE)

    def _task(self, split: Split) -> Task:
        return _Clicks(self, split)

    def forget(self) -> None:
        """Drop the items' vectors."""
        self._items = None

    @torch.no_grad()
    def items(self) -> Tensor:
        """float32[n_items, d], computed once after training."""
        if self.module.training:
            self.module.eval()
        if self._items is None:
            self._items = self.module.items(self.module.inputs()[:-1])
        return self._items

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], cosines of users and tags with items, mixed by ``beta``."""
        return self.mixed(requests, self.beta)

    @torch.no_grad()
    def mixed(self, requests: Requests, beta: float, told: Ragged | None = None) -> Tensor:
        """float32[n, n_items] at any share of the user tower.

        Args:
            requests: n requests.
            beta: share of the user tower.
            told: n histories that the tags are mined from; those of the requests where None.
        """
        users, tags = self.parts_of(requests, told, beta)
        return beta * users + (1 - beta) * tags

    @torch.no_grad()
    def parts_of(
        self, requests: Requests, told: Ragged | None = None, beta: float = 0.5
    ) -> tuple[Tensor, Tensor]:
        """float32[n, n_items] of the user tower and of the tags; 0 where beta leaves one out."""
        items, where = self.items(), device()
        nothing = torch.zeros(len(requests), self.module.n_items)
        users = tags = nothing
        if beta > 0:
            history = requests.history.last(self.settings.length)
            table = torch.from_numpy(history.padded(self.module.n_items)).to(where)
            codes = np.full(len(requests), -1) if requests.users is None else requests.users
            known = (codes >= 0) & (codes < self.module.n_users)
            who = torch.from_numpy(np.where(known, codes, self.module.n_users).astype(np.int64))
            states = self.module.users(who.to(where), table, self.module.inputs())
            users = (states @ items.T).cpu()
        if beta < 1:
            mined = self.miner.mine(requests.history if told is None else told)
            tags = self._tagged(mined, items).cpu()
        return users, tags

    def _tagged(self, mined: Tags, items: Tensor) -> Tensor:
        where = items.device
        kinds, words = (torch.from_numpy(part).to(where) for part in (mined.kinds, mined.words))
        weights = torch.from_numpy(mined.weights).to(where)
        vectors = self.module.tags(kinds, words)
        if self.settings.pool == "mean":
            mean = (vectors * weights[:, :, None]).sum(1)
            return torch.nn.functional.normalize(mean, dim=1) @ items.T
        out = torch.empty(len(kinds), len(items), device=where)
        for row in range(len(kinds)):  # all tags of all rows at once would be very wide
            kept = weights[row] > 0
            out[row] = (vectors[row][kept] @ items.T).amax(0) if bool(kept.any()) else 0
        return out

    def why(self, request: Requests, items: NDArray[np.integer]) -> list[str]:
        """What the table says of items to the one user of a request; empty where it is silent."""
        if self.explanations is None:
            return [""] * len(items)
        liked = self.miner.mine(request.history.slice(0, 1)).interests[0]
        order = {int(kind): place for place, kind in enumerate(liked) if kind >= 0}
        rows = self.explanations.filter(pl.col("item").is_in([int(item) for item in items]))
        best: dict[int, tuple[int, str]] = {}
        for item, kind, text in rows.select("item", "interest", "text").iter_rows():
            if kind in order:
                best[item] = min(best.get(item, (len(order), "")), (order[kind], text))
        return [best.get(int(item), (0, ""))[1] for item in items]

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d]."""
        vectors: NDArray[np.float32] = self.items().cpu().numpy()
        return vectors


class _Clicks:
    """The trainer's view: what followed each history, and a tag and a like item of it."""

    def __init__(self, owner: RecGPT, split: Split) -> None:
        self.owner, self.split = owner, split
        settings = owner.settings
        self.batches = PrefixBatches(split.train, settings.batch, settings.length)
        facets = owner.facets
        self.of_kind, self.of_word = facets.of_kind, facets.of_word
        by_kind = facets.of_kind.T.tocsr()
        self.members = Ragged(by_kind.indptr.astype(np.int64), by_kind.indices)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        # A batch of one has nothing to tell an item from.
        return [batch for batch in self.batches.plan(seed, epoch) if len(batch) > 1]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module = self.owner.module
        history, _, users, following = self.batches.tensors(batch, module.n_items)
        items = following[:, 0].numpy()
        draw = [module.noise.uniform(len(batch)).numpy() for _ in range(4)]
        kinds, words = (
            _drawn(table.indptr, table.indices, items, chance)
            for table, chance in ((self.of_kind, draw[0]), (self.of_word, draw[1]))
        )
        company = _drawn(self.members.offsets, self.members.values, np.maximum(kinds, 0), draw[2])
        others = np.where((kinds >= 0) & (company >= 0), company, items)
        users = torch.where(torch.from_numpy(draw[3]) >= _STRANGERS, users, module.n_users)
        step = Step(
            history, users, following[:, 0], *(torch.from_numpy(x) for x in (kinds, words, others))
        )
        return module.loss(step.to(device()))

    def validate(self) -> float:
        owner = self.owner
        owner.forget()
        # A language model would be asked of every case of every epoch: the user tower alone.
        beta, owner.beta = owner.beta, 1.0
        try:
            return validation_ndcg(owner, self.split.valid)
        finally:
            owner.beta = beta


def _drawn(
    offsets: NDArray[np.integer],
    values: NDArray[np.integer],
    rows: NDArray[np.integer],
    chance: NDArray[np.float32],
) -> NDArray[np.int64]:
    """int64[m], a value of each named row by its number in [0, 1); -1 of an empty one."""
    if len(offsets) < 2:
        return np.full(len(rows), -1, dtype=np.int64)
    start, size = offsets[rows], offsets[rows + 1] - offsets[rows]
    at = start + np.minimum((chance * size).astype(np.int64), np.maximum(size - 1, 0))
    if not len(values):
        return np.full(len(rows), -1, dtype=np.int64)
    return np.where(size > 0, values[np.minimum(at, len(values) - 1)], -1).astype(np.int64)
