"""What recommenders that speak to a frozen language model in vectors share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset, Ragged, Split
from onoma.language.templates import domain
from onoma.neural.frozen import Composer, FrozenModule, LoraSettings
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.language.likelihood import spoken
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.storage import trained_around
from onoma.recommenders.trained import TrainedModule, TrainedRecommender

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

Pieces = list[int | None]  # tokens, and None where a vector stands
_ROUNDS = 50  # draws after which a negative that cannot be found is left out


class SoftSettings(BaseModel):
    """The language model, the sequence model, and what is told.

    Attributes:
        model: a language model whose weights are here, as ``onoma models`` names it.
        layers: its first layers are kept; all where not given.
        sequence: settings of the SASRec that is fitted first, ``train`` among them; or the folder
            of a fitted one.
        domain: how one speaks of the items; a name of ``onoma.language.templates.DOMAINS``.
        history: items of a history that are told, the last ones.
        title: tokens of a title, the first ones.
        users: training users at most, drawn by the seed; all where not given.
        batch: users a training step.
        checked: validation cases at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Any = "smollm2"
    layers: int | None = Field(default=None, ge=1)
    sequence: dict[str, Any] | str = {}
    domain: Any = "products"
    history: int = Field(default=10, ge=1)
    title: int = Field(default=10, ge=1)
    users: int | None = Field(default=None, ge=1)
    batch: int = Field(default=20, ge=1)
    checked: int = Field(default=500, ge=1)


class SoftModule(FrozenModule, TrainedModule):
    """A frozen language model, the titles as it reads them, and the sequence model's items.

    Args:
        model: the language model.
        titles: n_items titles.
        ids: float32[n_items, d], of mean square 1.
        settings: how much is told.
        lora: updates inside the language model; None leaves it as it is.

    Attributes:
        titles: tokens of each title, a space in front.
        names: int64[n_items], equal where titles are read alike.
    """

    ids: Tensor

    def __init__(
        self,
        model: TorchModel,
        titles: Sequence[str],
        ids: Tensor,
        settings: SoftSettings,
        lora: LoraSettings | None = None,
    ) -> None:
        super().__init__(model, layers=settings.layers, lora=lora)
        self.n_items, self.settings = len(ids), settings
        self.words = domain(settings.domain).words()
        self.composer = Composer(model.tokenizer)
        bos = model.tokenizer.bos_token_id
        adds = getattr(model.tokenizer, "add_bos_token", False) and bos is not None
        self.start: Pieces = [bos] if adds else []
        read = model.tokenizer([f" {spoken(title)}" for title in titles], add_special_tokens=False)
        # An empty title would leave nothing to say or to weigh.
        self.titles = [ids_[: settings.title] or self.composer.tokens(" -")
                       for ids_ in read.input_ids]  # fmt: skip
        known: dict[tuple[int, ...], int] = {}
        named = [known.setdefault(tuple(title), len(known)) for title in self.titles]
        self.names: NDArray[np.int64] = np.array(named, dtype=np.int64)
        self.register_buffer("ids", ids)

    def tokens(self, text: str) -> list[int]:
        """A piece of a prompt with the words of the domain in their places."""
        return self.composer.tokens(text.format(**self.words))


@dataclass(frozen=True)
class Drawn:
    """A batch of places in training histories.

    Attributes:
        users: int64[b], rows of the training log.
        ends: int64[b], place of the target; what stands before it is the history.
        targets: int64[b].
        negatives: int64[b, m], -1 where none was found.
        order: int64[b, 1 + m], a permutation of each row's target (0) and negatives.
    """

    users: NDArray[np.int64]
    ends: NDArray[np.int64]
    targets: NDArray[np.int64]
    negatives: NDArray[np.int64]
    order: NDArray[np.int64]


class Places:
    """Draws users, one place in the history of each, and items that he never took.

    Args:
        split: its training part.
        users: at most so many, always the same ones.
        seed: of that choice.
        names: int64[n_items]; a negative's name is neither the target's nor another negative's.
    """

    def __init__(
        self, split: Split, users: int | None, seed: int, names: NDArray[np.int64]
    ) -> None:
        self.train, self.times, self.names = split.train, split.train_times, names
        able = np.flatnonzero(self.train.lengths >= 2)
        if users is not None and users < len(able):
            able = np.sort(np.random.default_rng(seed).permutation(able)[:users])
        self.users: NDArray[np.int64] = able.astype(np.int64)
        self.n_items = split.dataset.n_items
        self._taken = np.unique(self.train.rows() * self.n_items + self.train.values)

    def plan(self, seed: int, epoch: int, batch: int, negatives: int) -> list[Drawn]:
        """One epoch: each user once, at a place drawn anew."""
        rng = np.random.default_rng([seed, epoch])
        users = rng.permutation(self.users)
        lengths = self.train.lengths[users]
        ends = 1 + (rng.random(len(users)) * (lengths - 1)).astype(np.int64)
        targets = self.train.values[self.train.offsets[users] + ends].astype(np.int64)
        drawn = self.others(users, targets, negatives, rng)
        order = rng.permuted(np.tile(np.arange(1 + negatives), (len(users), 1)), axis=1)
        cuts = [slice(at, at + batch) for at in range(0, len(users), batch)]
        return [Drawn(users[c], ends[c], targets[c], drawn[c], order[c]) for c in cuts]

    def others(
        self,
        users: NDArray[np.integer],
        targets: NDArray[np.integer],
        count: int,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """int64[n, count], uniform over what a user has not in training, -1 where all is taken.

        Args:
            users: int[n].
            targets: int[n], never drawn, nor what is called the same.
            count: of each row, all called differently.
            rng: the draw.
        """
        out: NDArray[np.int64] = np.full((len(users), count), -1, dtype=np.int64)
        base = np.asarray(users, dtype=np.int64)[:, None] * self.n_items
        earlier = np.tri(count, k=-1, dtype=bool)
        missing = np.ones_like(out, dtype=bool)
        for _ in range(_ROUNDS):
            out[missing] = rng.integers(0, self.n_items, int(missing.sum()))
            called = self.names[out]
            alike = (called[:, :, None] == called[:, None, :]) & earlier
            missing = (
                alike.any(axis=2)
                | (called == self.names[targets][:, None])
                | np.isin(base + out, self._taken)
            )
            if not missing.any():
                return out
        out[missing] = -1
        return out

    def took(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.bool_]:
        """bool[n, m], whether each of int[n] users has each of int[m] items in training."""
        keys = np.asarray(users, dtype=np.int64)[:, None] * self.n_items + items
        found = np.searchsorted(self._taken, keys).clip(max=max(len(self._taken) - 1, 0))
        took: NDArray[np.bool_] = self._taken[found] == keys
        return took

    def before(self, drawn: Drawn, last: int) -> tuple[Ragged, Ragged]:
        """The last items before each place, and their times."""
        begins = self.train.offsets[drawn.users]
        spans = [
            (int(begin + max(end - last, 0)), int(begin + end))
            for begin, end in zip(begins, drawn.ends, strict=True)
        ]
        items = Ragged.from_rows([self.train.values[a:b] for a, b in spans])
        return items, Ragged(items.offsets, np.concatenate([self.times[a:b] for a, b in spans]))


class SoftRecommender(TrainedRecommender):
    """Fits a SASRec first, then what stands between it and a frozen language model.

    Args:
        train: the schedule.
        seed: of everything random, the SASRec's too.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of the class's ``settings_type``.

    Attributes:
        sequence: the SASRec; after loading only where answers need it.
    """

    settings_type: ClassVar[type[SoftSettings]]
    settings: SoftSettings
    module: SoftModule
    sequence: SASRec
    around_weights = True

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
        self.forget()
        given = self.settings.sequence
        if isinstance(given, dict):  # wrong settings are told before anything is fitted
            beside = self.folder and self.folder / "sequence"
            self.sequence = SASRec.create(given, seed=seed, folder=beside, quiet=quiet)

    @property
    def window(self) -> int | None:
        """The larger of what is told and what the SASRec reads, whose scores count too."""
        read = self.sequence.window
        return None if read is None else max(self.settings.history, read)

    @cached_property
    def source(self) -> TorchModel:
        """The language model whose weights are read."""
        from onoma.language.opening import torch_model

        return torch_model(self.settings.model)

    def fit(self, split: Split) -> Self:
        """Fit the SASRec, then train; validation picks the weights of both."""
        given = self.settings.sequence
        if isinstance(given, str):
            self.sequence = SASRec.load(given, split.dataset)
        else:
            self.sequence.fit(split)
        self.learn(split)
        if isinstance(given, dict):
            told = {k: v for k, v in self.sequence.training.items() if k != "history"}
            self.training["sequence"] = told
            self.seconds["train"] += told["seconds"]
        if self.folder is not None:  # kept till now, for a run that is broken off and goes on
            (self.folder / "sequence" / "checkpoint.safetensors").unlink(missing_ok=True)
        return self

    def learn(self, split: Split) -> None:
        """Train what stands around the language model."""
        super().fit(split)

    def item_ids(self) -> Tensor:
        """float32[n_items, d]: :func:`mean_square_one` of the SASRec."""
        return mean_square_one(self.sequence)

    def states(self, history: Ragged) -> Tensor:
        """float32[n, d], the directions of the SASRec's last states, of mean square 1."""
        states = self.sequence.last_states(history)
        return F.normalize(states, dim=1) * states.shape[1] ** 0.5

    def titles(self, dataset: Dataset) -> list[str]:
        """What the items are called."""
        return dataset.titles(np.arange(dataset.n_items))

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "language": self.module.source}

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: as for other recommenders, or the language model is another one.
        """
        model = super().load(folder, dataset)
        trained_around(folder, cls.name, model.module.source)
        return model


def mlp(sizes: Sequence[int], between: Iterable[nn.Module]) -> nn.Sequential:
    """A linear layer, what stands between, and a linear layer."""
    into, middle, out = sizes
    return nn.Sequential(nn.Linear(into, middle), *between, nn.Linear(middle, out))


def mean_square_one(sequence: SASRec) -> Tensor:
    """float32[n_items, d], a fitted SASRec's items, brought to a mean square of 1.

    What a layer's bias would drown otherwise.
    """
    vectors = sequence.item_vectors()
    assert vectors is not None
    return torch.from_numpy(vectors / max(float(np.sqrt((vectors**2).mean())), 1e-12))
