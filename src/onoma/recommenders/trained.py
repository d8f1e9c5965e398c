"""What recommenders with a torch module and the trainer share: fitting and storage."""

from __future__ import annotations

import copy
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from onoma.dataset import Dataset, Split
from onoma.errors import OnomaError
from onoma.neural.device import device
from onoma.neural.noise import Noise
from onoma.neural.trainer import Task, Trainer, TrainSettings
from onoma.recommenders.base import Recommender
from onoma.recommenders.storage import read_model, save_model


class TrainedModule(nn.Module):
    """A module whose randomness comes from one stream.

    Attributes:
        noise: the stream.
        n_items: items that it knows.
    """

    noise: Noise
    n_items: int


class TrainedRecommender(Recommender):
    """Fits a :class:`TrainedModule` with the trainer and keeps it.

    Args:
        train: the schedule.
        seed: of weights, batches and noise.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of the class's ``settings_type``.
    """

    module: TrainedModule
    settings_type: ClassVar[type[BaseModel]]
    settings: BaseModel
    takes = frozenset({"seed", "folder", "quiet"})
    # Whether it trains around or inside the weights of a language model, which no service gives.
    around_weights: ClassVar[bool] = False

    @property
    def window(self) -> int | None:
        """The number ``history`` where a class has it, else the setting ``length``."""
        for said in (getattr(self, "history", None), getattr(self.settings, "length", None)):
            if isinstance(said, int):
                return said
        return None

    @property
    def judged_in(self) -> str:
        """The mode whose validation NDCG@10 picks the weights."""
        return self.modes[0]

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        self.settings = self.settings_type(**settings)
        self.train = TrainSettings.model_validate(train or {})
        self.seed, self.quiet = seed, quiet
        self.folder = Path(folder) if folder else None
        self.training: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    @abstractmethod
    def _build(self, split: Split) -> TrainedModule:
        """A fresh module for this data; the seed is already set."""

    @abstractmethod
    def _task(self, split: Split) -> Task:
        """What the trainer is to do with the module, which is built."""

    def fit(self, split: Split) -> Self:
        """Train; validation picks the weights."""
        torch.manual_seed(self.seed)
        self.forget()
        self.module = self._build(split).to(device())
        trainer = Trainer(self.train, self.seed, self.folder, self.quiet)
        self.training = trainer.fit(self.module, self.module.noise, self._task(split))
        self.training["history"] = trainer.history
        self.training |= self._found()
        self.seconds["train"] = self.training["seconds"]
        self.forget()
        return self

    def _found(self) -> dict[str, Any]:
        """What training came to, beside the trainer's own figures; the module stays as it is."""
        return {}

    def forget(self) -> None:  # noqa: B027 - most keep nothing
        """Drop what was computed once from weights that have changed since."""

    def _with_tensors(self, tensors: dict[str, Tensor], items: int) -> Self:
        """A copy whose module has other parameters and buffers, by name; this one stays.

        Args:
            tensors: the parameters and buffers.
            items: that the copy knows.
        """
        more, module = copy.copy(self), copy.copy(self.module)
        # A copied module still shares the dictionaries that its parameters lie in.
        module._parameters = dict(module._parameters)
        module._buffers = dict(module._buffers)
        for name, value in tensors.items():
            if name in module._parameters:
                module._parameters[name] = nn.Parameter(value, requires_grad=False)
            else:
                module._buffers[name] = value
        module.n_items = items
        more.module = module
        return more

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``model.json``."""
        weights = self.module.state_dict().items()
        arrays = {key.replace(".", "/"): value.cpu().numpy() for key, value in weights}
        save_model(folder, self.name, self._describe(), arrays)

    def _describe(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(),
            "train": self.train.model_dump(mode="json"),
            "seed": self.seed,
        }

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: a file is missing, damaged, of another recommender or of another catalogue.
        """
        record, arrays = read_model(folder, cls.name)
        weights = {key.replace("/", "."): torch.from_numpy(v) for key, v in arrays.items()}
        try:
            model = cls.create(
                {**record["settings"], "train": record["train"]}, seed=record["seed"], quiet=True
            )
            model.module = model._rebuild(Path(folder), dataset, weights)
            model.module.load_state_dict(weights)
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise OnomaError(
                "the weights do not fit the settings or this catalogue",
                where=str(folder),
                fix="Use the data the model was fitted on, or fit it again with onoma run",
            ) from error
        model.module.to(device()).eval()
        return model

    @abstractmethod
    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> TrainedModule:
        """A module of the right shape for saved weights."""
