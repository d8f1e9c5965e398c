"""The models of ``onoma study placements``: towers over a log of channels, and boosted trees."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.neural.batching import SequenceBatches
from onoma.neural.lowrank import adapt
from onoma.neural.noise import Noise
from onoma.neural.trainer import Trainer, TrainSettings
from onoma.recommenders.ranking.clicks import auc
from onoma.recommenders.ranking.events import Asked, Events, Tower, TowerSettings
from onoma.study.channels import CONTEXT, PRODUCTS, SIZES, STATICS, Log

_SLICE = 512  # requests read at a time
_ASKED = [SIZES[0], *CONTEXT]
# The rows of products in the table of entities, and the last line of the head.
_FREE = ("tower.fields.0", "tower.head.6")


@dataclass(frozen=True)
class Part:
    """Events of a log that are examples.

    Attributes:
        rows: int64[m], ascending.
        labels: bool[m].
        product: int64[m].
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.bool_]
    product: NDArray[np.int64]

    def of(self, product: int) -> Part:
        """Those of one product."""
        mine = self.product == product
        return Part(self.rows[mine], self.labels[mine], self.product[mine])


class Reader:
    """A log as towers read it.

    Args:
        log: the events.
        activity: float32[total, m], vectors of users' whole activity as of the midnight before.
        length: events of a history.
    """

    def __init__(self, log: Log, activity: NDArray[np.float32], length: int) -> None:
        self.log, self.length = log, length
        self.fields, self.times = torch.from_numpy(log.fields), torch.from_numpy(log.times)
        self.users = torch.from_numpy(log.users)
        self.starts = torch.from_numpy(log.offsets)[self.users]
        told = [F.one_hot(torch.from_numpy(column), size)
                for column, size in zip(log.statics.T, STATICS, strict=True)]  # fmt: skip
        self.statics = torch.cat(told, dim=1).float()
        self.activity = torch.from_numpy(activity)
        self.context = torch.from_numpy(np.concatenate([log.product[:, None] + 1, log.context], 1))
        self.dense = self.statics.shape[1] + activity.shape[1]

    def events(self, rows: Tensor) -> Events:
        """The histories before int64[n] events."""
        lengths = (rows - self.starts[rows]).clamp(max=self.length)
        column = torch.arange(max(1, int(lengths.max())))
        known = column < lengths[:, None]
        at = torch.where(known, (rows - lengths)[:, None] + column, 0)
        fields = self.fields[at] * known[:, :, None]
        return Events(fields, self.times[at].masked_fill(~known, -1), known)

    def asked(self, rows: Tensor, product: int | None = None) -> Asked:
        """The requests at int64[n] events, about what was shown or another product."""
        fields = self.context[rows]
        if product is not None:
            fields = torch.cat([torch.full_like(fields[:, :1], product + 1), fields[:, 1:]], dim=1)
        dense = torch.cat([self.statics[self.users[rows]], self.activity[rows]], dim=1)
        first = rows == self.starts[rows]
        before = self.times[(rows - 1).clamp(min=0)].masked_fill(first, -1)
        return Asked(fields, dense, self.times[rows], before)


class Model(nn.Module):
    """A tower with its noise, as the trainer wants it."""

    def __init__(self, dense: int, causal: bool, settings: TowerSettings) -> None:
        super().__init__()
        self.noise = Noise()
        self.tower = Tower(list(SIZES), _ASKED, 1, dense, causal, settings, self.noise)


class Conversions:
    """The trainer's view of clicks and what came of them."""

    judged = "auc"

    def __init__(self, model: Model, reader: Reader, train: Part, valid: Part, batch: int) -> None:
        self.model, self.reader, self.train, self.valid = model, reader, train, valid
        self.batch = batch
        lengths = torch.from_numpy(train.rows) - reader.starts[torch.from_numpy(train.rows)]
        self.lengths = lengths.clamp(max=reader.length).numpy()

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([seed, epoch])
        order = np.argsort(self.lengths + 8 * rng.random(len(self.lengths)), kind="stable")
        parts = np.split(order, np.arange(self.batch, len(order), self.batch))
        return [parts[i] for i in rng.permutation(len(parts))]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(self.train.rows[batch])
        asked = self.reader.asked(rows)
        states = self.model.tower.states(self.reader.events(rows), asked.now)
        labels = torch.from_numpy(self.train.labels[batch]).float()
        return F.binary_cross_entropy_with_logits(self.model.tower.logits(states, asked), labels)

    def validate(self) -> float:
        return auc(conversion_logits(self.model, self.reader, self.valid.rows), self.valid.labels)


@torch.no_grad()
def conversion_logits(
    model: Model, reader: Reader, rows: NDArray[np.int64], product: int | None = None
) -> NDArray[np.float64]:
    """float64[m], of what was shown at int64[m] events or of one product."""
    model.eval()
    out = np.empty(len(rows))
    order = np.argsort(reader.starts[rows].numpy() - rows, kind="stable")  # alike in length
    for at in range(0, len(rows), _SLICE):
        part = order[at : at + _SLICE]
        here = torch.from_numpy(rows[part])
        asked = reader.asked(here, product)
        states = model.tower.states(reader.events(here), asked.now)
        out[part] = model.tower.logits(states, asked).double().numpy()
    return out


def train_conversions(
    reader: Reader, train: Part, valid: Part, settings: TowerSettings, schedule: TrainSettings,
    seed: int, batch: int, quiet: bool,
) -> tuple[Model, dict[str, Any]]:  # fmt: skip
    """A tower of its own for these examples, and what the trainer says."""
    torch.manual_seed(seed)
    model = Model(reader.dense, False, settings)
    task = Conversions(model, reader, train, valid, batch)
    return model, Trainer(schedule, seed, None, quiet).fit(model, model.noise, task)


def tune(
    base: Model, reader: Reader, train: Part, valid: Part, schedule: TrainSettings,
    rank: int | None, seed: int, batch: int, quiet: bool,
) -> tuple[Model, dict[str, Any]]:  # fmt: skip
    """A copy of a tower that goes on learning from one product's examples.

    Args:
        base: trained on all products; it stays as it is.
        reader: of the log.
        train: examples of the product.
        valid: examples of the product, which choose the epoch, or the base if it is no worse.
        schedule: of the training.
        rank: of the updates; None trains everything.
        seed: of updates and batches.
        batch: examples a step.
        quiet: no progress bar.

    Returns:
        The copy, and ``trained`` (numbers), ``share`` (of those of the base), ``best_epoch`` (0
        for the base) and ``seconds``.
    """
    torch.manual_seed(seed)
    model = copy.deepcopy(base)
    whole = trained = sum(value.numel() for value in model.parameters())
    if rank is not None:
        trained, whole = adapt(model, rank, free=_FREE)
    task = Conversions(model, reader, train, valid, batch)
    before = auc(conversion_logits(base, reader, valid.rows), valid.labels)
    done = Trainer(schedule, seed, None, quiet).fit(model, model.noise, task)
    told = {"trained": trained, "share": trained / whole, "seconds": done["seconds"],
            "best_epoch": done["best_epoch"]}  # fmt: skip
    if before >= done["valid_auc"]:
        return copy.deepcopy(base), told | {"best_epoch": 0}
    return model, told


class Clicks:
    """The trainer's view of impressions: every one in a window is a target.

    Args:
        model: a causal tower.
        reader: of the log.
        users: bool[n], who trains.
        valid: bool[n], who validates.
        tokens: events a batch.
        kept: share of the impressions without a click that count.
    """

    judged = "auc"

    def __init__(
        self, model: Model, reader: Reader, users: NDArray[np.bool_], valid: NDArray[np.bool_],
        tokens: int, kept: float,
    ) -> None:  # fmt: skip
        self.model, self.reader, self.kept = model, reader, kept
        self.batches = windows(reader, users, tokens)
        self.valid = np.flatnonzero((reader.log.product >= 0) & valid[reader.log.users])
        self.among = valid
        self.shown = torch.from_numpy(reader.log.product >= 0)
        self.clicked = torch.from_numpy(reader.log.clicked)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.batches.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        states, rows = _before_shown(self.model, self.reader, self.batches, batch, self.shown)
        clicked = self.clicked[rows]
        counted = clicked | (self.model.noise.uniform(len(rows)) < self.kept)
        rows, states = rows[counted], states[counted]
        logits = self.model.tower.logits(states, self.reader.asked(rows))
        # A batch without an impression teaches nothing.
        labels = clicked[counted].float()
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        return loss / max(len(rows), 1)

    def validate(self) -> float:
        logits = click_logits(self.model, self.reader, self.among)[:, 0]
        rows = self.valid[~np.isnan(logits[self.valid])]
        return auc(logits[rows], self.reader.log.clicked[rows])


def windows(reader: Reader, users: NDArray[np.bool_], tokens: int) -> SequenceBatches:
    """Windows of places in the log, of some users."""
    offsets = reader.log.offsets
    rows = Ragged(offsets, np.arange(offsets[-1])).take(np.flatnonzero(users))
    return SequenceBatches(rows, tokens, reader.length)


def _before_shown(
    model: Model, reader: Reader, batches: SequenceBatches, batch: NDArray[np.int64], shown: Tensor
) -> tuple[Tensor, Tensor]:
    """float32[m, d] states before the impressions of a batch, and int64[m] their places."""
    places, following = batches.tensors(batch, -1)
    known = places >= 0
    at = places.clamp(min=0)
    events = Events(reader.fields[at] * known[:, :, None],
                    reader.times[at].masked_fill(~known, -1), known)  # fmt: skip
    rows, columns = (known & shown[following.clamp(min=0)]).nonzero(as_tuple=True)
    return model.tower.states(events)[rows, columns + 1], following[rows, columns]


@torch.no_grad()
def click_logits(
    model: Model, reader: Reader, users: NDArray[np.bool_], every: bool = False
) -> NDArray[np.float64]:
    """Logits of a click at all impressions of some users.

    Args:
        model: a causal tower.
        reader: of the log.
        users: bool[n].
        every: of each product; else of what was shown.

    Returns:
        float64[total, products] or float64[total, 1], NaN elsewhere and at a user's first event.
    """
    model.eval()
    wanted: list[int | None] = [*range(len(PRODUCTS))] if every else [None]
    out = np.full((len(reader.users), len(wanted)), np.nan)
    batches = windows(reader, users, 16 * _SLICE)
    shown = torch.from_numpy(reader.log.product >= 0)
    for batch in batches.plan(0, 0):
        states, rows = _before_shown(model, reader, batches, batch, shown)
        for column, product in enumerate(wanted):
            logits = model.tower.logits(states, reader.asked(rows, product))
            out[rows.numpy(), column] = logits.double().numpy()
    return out


def train_clicks(
    reader: Reader, users: NDArray[np.bool_], valid: NDArray[np.bool_], settings: TowerSettings,
    schedule: TrainSettings, kept: float, seed: int, quiet: bool,
) -> tuple[Model, dict[str, Any]]:  # fmt: skip
    """A causal tower for the impressions of some users, and what the trainer says."""
    torch.manual_seed(seed)
    model = Model(reader.dense, True, settings)
    task = Clicks(model, reader, users, valid, schedule.batch_tokens, kept)
    return model, Trainer(schedule, seed, None, quiet).fit(model, model.noise, task)


class Trees:
    """Boosted trees whose number validation chooses.

    Args:
        seed: of the trees.
        most: trees at most.

    Raises:
        OnomaError: scikit-learn is not installed.
    """

    def __init__(self, seed: int, most: int = 250) -> None:
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
        except ImportError as error:
            raise OnomaError("boosted trees need scikit-learn",
                             fix="pip install 'onoma[llm]'") from error  # fmt: skip
        self.model: Any = HistGradientBoostingClassifier(
            learning_rate=0.05, max_iter=most, max_leaf_nodes=15, min_samples_leaf=40,
            l2_regularization=1.0, early_stopping=False, random_state=seed,
        )  # fmt: skip
        self.best = 0

    def fit(
        self, table: NDArray[np.float32], labels: NDArray[np.bool_],
        other: NDArray[np.float32], truth: NDArray[np.bool_],
    ) -> Trees:  # fmt: skip
        """Learn from a table; the other one chooses how many trees are used."""
        self.model.fit(table, labels)
        found = [auc(said, truth) for said in self.model.staged_decision_function(other)]
        self.best = int(np.argmax(found))
        return self

    def logits(self, table: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64[m]."""
        for step, said in enumerate(self.model.staged_decision_function(table)):
            if step == self.best:
                return np.asarray(said, dtype=np.float64).reshape(-1)
        raise ValueError("the trees are not fitted")
