"""What rankers trained on clicks share: pairs of a history and an item, labels, and figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma.dataset import Cases, Ragged, Split
from onoma.neural.batching import PrefixBatches
from onoma.neural.device import device
from onoma.neural.noise import Dropout, Noise
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.trained import TrainedModule, TrainedRecommender

_PAIRS = 4096  # scored at a time
_STRANGERS = 0.1  # share of training pairs whose user is not told
_SEED = 0  # of the negatives that validation and test are asked about
_HEAD = (200, 80)


class ClickSettings(BaseModel):
    """What every click ranker has.

    Attributes:
        width: dimensions of every embedding.
        length: items of a history that are read, the last ones.
        dropout: rate in the head.
        batch: clicks a training step, each with a negative.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=32, ge=2)
    length: int = Field(default=20, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch: int = Field(default=512, ge=1)


@dataclass(frozen=True)
class Pairs:
    """M questions: would this user, after this history, take this item?

    Attributes:
        history: int64[m, l] item codes, left aligned, n_items behind them; l is at least 1.
        users: int64[m], who is told to ask, n_users for strangers.
        items: int64[m].
        places: int64[m], items that the user had before, in all.
        owners: int64[m], whose pairs they are, though ``users`` may not tell; None: ``users``.
    """

    history: Tensor
    users: Tensor
    items: Tensor
    places: Tensor
    owners: Tensor | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: slice) -> Pairs:
        return self._each(lambda part: part[rows])

    def to(self, where: torch.device) -> Pairs:
        """The same on a device."""
        return self._each(lambda part: part.to(where))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Pairs:
        return Pairs(
            change(self.history),
            change(self.users),
            change(self.items),
            change(self.places),
            None if self.owners is None else change(self.owners),
        )


class ClickModule(TrainedModule):
    """Gives the logit of a click.

    Attributes:
        n_users: users that it knows; one row more stands for strangers.
    """

    n_users: int

    @abstractmethod
    def logits(self, pairs: Pairs) -> Tensor:
        """float32[m]."""

    def loss(self, pairs: Pairs, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy against float32[m] labels."""
        return nn.functional.binary_cross_entropy_with_logits(self.logits(pairs), labels)


def head(inputs: int, dropout: float, noise: Noise) -> nn.Sequential:
    """Layers of 200 and 80 with PReLU and dropout, then one logit."""
    layers: list[nn.Module] = []
    for units in _HEAD:
        layers += [nn.Linear(inputs, units), nn.PReLU(), Dropout(dropout, noise)]
        inputs = units
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


class ClickRanker(TrainedRecommender):
    """Says how likely clicks are and is judged by AUC; given candidates, scores nothing else."""

    settings: ClickSettings
    settings_type: ClassVar[type[ClickSettings]]
    reads = frozenset({"history", "users", "candidates"})

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], logits of a click."""
        every = torch.arange(self.module.n_items).expand(len(requests), -1)
        return self._scored(requests, every)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is None:
            return super()._recommend(requests, k, mode)
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        scores = self._scored(requests, items.clamp(min=0))
        return top_k(scores, k, forbidden=requests.forbidden(), items=items)

    @abstractmethod
    def _scored(self, requests: Requests, items: Tensor) -> Tensor:
        """float32[n, c], the logits of int64[n, c] items."""

    def figures(self, split: Split) -> dict[str, dict[str, float]]:
        """What the report shows of validation and test, see :meth:`click_figures`."""
        return {"valid": self.click_figures(split.valid), "test": self.click_figures(split.test)}

    def click_figures(self, cases: Cases) -> dict[str, float]:
        """AUC and log-loss over the first target of every case and one item its user never took.

        The negatives are uniform and drawn by the user's code alone, so that every model and seed
        is asked the same.

        Args:
            cases: n cases.

        Returns:
            ``auc``, ``logloss`` and ``pairs``.
        """
        if not len(cases):
            return {"auc": 0.5, "logloss": float(np.log(2)), "pairs": 0}
        others = negatives(cases, self.module.n_items)
        targets = cases.targets.values[cases.targets.offsets[:-1]].astype(np.int64)
        items = torch.from_numpy(np.stack([targets, others], axis=1))
        asked = Requests(cases.history, cases.users, times=cases.times, liked=cases.liked)
        found = self._scored(asked, items).double().numpy()
        labels = np.tile([1.0, 0.0], len(found))
        return {
            "auc": auc(found.reshape(-1), labels > 0),
            "logloss": logloss(found.reshape(-1), labels),
            "pairs": int(found.size),
        }


class PairRanker(ClickRanker):
    """Trained on clicks against uniform negatives; scores one pair at a time."""

    module: ClickModule

    def _task(self, split: Split) -> Task:
        return _Clicks(self, split)

    def _scored(self, requests: Requests, items: Tensor) -> Tensor:
        """float32[n, c], the logits of int64[n, c] items."""
        out = torch.empty(items.shape)
        wide = items.shape[1]
        step = max(1, _PAIRS // max(wide, 1))
        for start in range(0, len(requests), step):
            part = requests.slice(start, min(start + step, len(requests)))
            asked = self.pairs(part.history, part.users, items[start : start + step])
            out[start : start + step] = self.logits(asked).view(-1, wide)
        return out

    def pairs(self, history: Ragged, users: NDArray[np.int32] | None, items: Tensor) -> Pairs:
        """The questions of n rows with c items each, row by row.

        Args:
            history: n rows of item codes.
            users: int32[n], -1 for strangers.
            items: int64[n, c].
        """
        module, wide = self.module, items.shape[1]
        short = history.last(self.settings.length)
        table = torch.from_numpy(
            short.padded(module.n_items, width=max(1, int(short.lengths.max(initial=0))))
        )
        codes = np.full(len(history), -1) if users is None else users
        known = (codes >= 0) & (codes < module.n_users)
        who = torch.from_numpy(np.where(known, codes, module.n_users).astype(np.int64))
        places = torch.from_numpy(history.lengths)
        return Pairs(
            table.repeat_interleave(wide, 0),
            who.repeat_interleave(wide),
            items.reshape(-1),
            places.repeat_interleave(wide),
        )

    @torch.no_grad()
    def logits(self, pairs: Pairs) -> Tensor:
        """float32[m] on the processor."""
        if self.module.training:
            self.module.eval()
        parts = [
            self.module.logits(pairs[slice(start, start + _PAIRS)].to(device())).cpu()
            for start in range(0, len(pairs), _PAIRS)
        ]
        return torch.cat(parts) if parts else torch.zeros(0)


def negatives(cases: Cases, n_items: int) -> NDArray[np.int64]:
    """int64[n], a uniform item for every case that is neither in its history nor a target."""
    taken = cases.history.concat(cases.targets)
    out = np.empty(len(cases), dtype=np.int64)
    for row in range(len(cases)):
        draw = np.random.default_rng([_SEED, int(cases.users[row]), len(taken[row])])
        order = draw.integers(0, n_items, 64)
        free = order[~np.isin(order, taken[row])]
        if not len(free):
            free = np.setdiff1d(np.arange(n_items), taken[row])
        out[row] = free[0] if len(free) else order[0]
    return out


def held(keys: NDArray[np.integer], taken: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which keys are among sorted ones."""
    if not len(taken):
        return np.zeros(keys.shape, dtype=bool)
    found: NDArray[np.bool_] = taken[np.searchsorted(taken, keys).clip(max=len(taken) - 1)] == keys
    return found


def auc(scores: NDArray[np.floating], clicked: NDArray[np.bool_]) -> float:
    """Chance that a click scores above a negative; equal scores count a half."""
    from scipy.stats import rankdata

    right = int(clicked.sum())
    wrong = len(clicked) - right
    if not right or not wrong:
        return 0.5
    ranks = rankdata(scores)[clicked].sum()
    return float((ranks - right * (right + 1) / 2) / (right * wrong))


def logloss(logits: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """Mean binary cross-entropy of float64[m] logits against labels in [0, 1], in nats."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def attributes(items: pl.DataFrame) -> NDArray[np.int64]:
    """int64[n_items, 2]: the code of each item's most specific category and of its brand.

    Codes begin at 1 and are given to sorted names; 0 is an item without.
    """
    kinds = next((name for name in ("categories", "genres") if name in items.columns), None)
    columns = []
    for name in (kinds, "brand"):
        if name is None or name not in items.columns:
            columns.append(np.zeros(items.height, dtype=np.int64))
            continue
        told = items[name]
        if isinstance(told.dtype, pl.List):
            told = told.list.drop_nulls().list.last()
        told = told.cast(pl.String)
        names = told.drop_nulls().unique().sort()
        code = pl.DataFrame({"name": names, "code": np.arange(1, len(names) + 1)})
        found = pl.DataFrame({"name": told}).join(
            code, on="name", how="left", maintain_order="left"
        )
        columns.append(found["code"].fill_null(0).to_numpy().astype(np.int64))
    return np.stack(columns, axis=1)


class _Clicks:
    """The trainer's view: what every training history was followed by, and a negative each."""

    judged = "auc"

    def __init__(self, owner: PairRanker, split: Split) -> None:
        self.owner, self.split = owner, split
        settings = owner.settings
        self.batches = PrefixBatches(split.train, settings.batch, settings.length)
        rows = split.train.rows()
        self.place = np.arange(len(rows)) - split.train.offsets[rows]
        self.taken = np.unique(rows * split.dataset.n_items + split.train.values)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.batches.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module = self.owner.module
        history, _, users, following = self.batches.tensors(batch, module.n_items)
        right = following[:, 0]
        wrong = module.noise.integers(module.n_items, len(batch))
        keys = (users * module.n_items + wrong).numpy()
        free = torch.from_numpy(~held(keys, self.taken))
        told = module.noise.uniform(len(batch)) >= _STRANGERS
        owners, users = users, torch.where(told, users, module.n_users)
        places = torch.from_numpy(self.place[self.batches.targets[batch]])
        pairs = Pairs(
            torch.cat([history, history[free]]),
            torch.cat([users, users[free]]),
            torch.cat([right, wrong[free]]),
            torch.cat([places, places[free]]),
            torch.cat([owners, owners[free]]),
        )
        labels = torch.zeros(len(pairs))
        labels[: len(right)] = 1
        return module.loss(pairs.to(device()), labels.to(device()))

    def validate(self) -> float:
        return self.owner.click_figures(self.split.valid)["auc"]
