"""A collaborative model that learns, for a while, to carry what is said of its users."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.encoding.base import TextEncoder
from onoma.encoding.cache import cached_texts
from onoma.encoding.shuffled import deal
from onoma.encoding.svd import truncated_svd
from onoma.errors import OnomaError
from onoma.language.profiles import ModelWriter, TemplateWriter, facts
from onoma.neural.alignment import Distance, reconstruction
from onoma.neural.device import device
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.registry import recommender
from onoma.recommenders.trained import TrainedModule, TrainedRecommender


class ProfileSettings(BaseModel):
    """How users are described.

    Attributes:
        model: a language model that writes the profiles, as ``onoma models`` names it; None: a
            template says the facts.
        encoder: a text encoder; anything ``encoding.build`` takes.
        liked: titles a profile may name.
        disliked: titles a profile may name that were rated below the user's mean.
        kinds: categories a profile may name.
        shuffled: the controls: item texts dealt out among the ``items`` before profiles are
            written, or finished profiles among the ``users``.
        deal: seed of that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Any = None
    encoder: Any = "sentence"
    liked: int = Field(default=6, ge=0)
    disliked: int = Field(default=3, ge=0)
    kinds: int = Field(default=4, ge=0)
    shuffled: Literal["items", "users"] | None = None
    deal: int = Field(default=0, ge=0)


class LLMKTSettings(BaseModel):
    """The model, the layer, and how long it listens.

    Attributes:
        of: the collaborative model: ``name`` and settings of a recommender with a trained module.
        layer: whose output is to carry the profile, by the name of the part in that module.
        width: dimensions that profiles are reduced to; the layer's first so many units are read.
        alpha: weight of the reconstruction while it lasts; the model's own loss has the rest.
            The reconstruction, which begins near 1, counts in units of that loss.
        listen: share of the epochs with the reconstruction; the others have the model's loss.
        distance: ``rmse``, ``mse`` or ``cosine``.
        profiles: how users are described.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: dict[str, Any] = {"name": "lightgcn"}
    layer: str = "told"
    width: int = Field(default=64, ge=1)
    alpha: float = Field(default=0.8, ge=0, lt=1)
    listen: float = Field(default=0.5, ge=0, le=1)
    distance: Distance = "rmse"
    profiles: ProfileSettings = ProfileSettings()


@runtime_checkable
class ByUser(Protocol):
    """A task whose batches have a user a row."""

    def users(self, batch: Any) -> NDArray[np.int64]:
        """int64[rows], the users of a batch, in the order in which the module sees the rows."""
        ...


class Sequenced(ByUser, Protocol):
    """One whose rows are sequences."""

    def lengths(self, batch: Any) -> NDArray[np.int64]:
        """int64[rows], the states of each row that mean something, the first ones."""
        ...


class LLMKT(TrainedRecommender):
    """LLM-KT (S080): knowledge from a language model through a hidden layer.

    Severin et al., 2024. Every user is described in a few words from his training interactions;
    the words become a vector, reduced to its leading directions (PCA over all users). During
    the first ``listen`` of the epochs an inner layer of any collaborative model reconstructs the
    vectors of the batch's users beside its own loss; then the model goes on alone. It answers
    without texts and is no larger than before.

    We depart from it where no language model is configured: a template then says the same facts.
    The reconstruction is multiplied by the size of the model's own loss, so that a weight means
    the same for any model.
    The epochs of both phases together are those of the model alone, and share its schedule.

    Args:
        train: the schedule of both phases.
        seed: of the model.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`LLMKTSettings`.

    Attributes:
        inner: the collaborative model, which shares the module.
    """

    name = "llm-kt"
    settings: LLMKTSettings
    settings_type: ClassVar[type[LLMKTSettings]] = LLMKTSettings
    reads = frozenset({"history", "users"})

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
        of = dict(self.settings.of)
        cls = recommender(str(of.pop("name", None)))
        if not issubclass(cls, TrainedRecommender) or issubclass(cls, LLMKT):
            raise OnomaError(f"{cls.name} has no module that could listen", where=self.name)
        # What it does there beside training one module is not done here.
        for one in ("fit", "save"):
            if getattr(cls, one) is not getattr(TrainedRecommender, one):
                raise OnomaError(
                    f"{cls.name} has a {one} of its own", where=f"{self.name}: of",
                    fix="Take lightgcn, multvae or sasrec",
                )  # fmt: skip
        given = {**of, "train": self.train.model_dump(mode="json")}
        self.inner = cls.create(given, seed=seed, quiet=True)

    @property
    def window(self) -> int | None:
        """That of the collaborative model."""
        return self.inner.window

    def fit(self, split: Split) -> Self:
        """Train in two phases; validation picks the weights, of either."""
        self.written: dict[str, Any] = {}
        super().fit(split)
        self.training |= {"profiles": self.written} if self.written else {}
        return self

    def _build(self, split: Split) -> TrainedModule:
        self.inner.module = self.inner._build(split)
        return self.inner.module

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> TrainedModule:
        self.inner.module = self.inner._rebuild(folder, dataset, weights)
        return self.inner.module

    def _task(self, split: Split) -> Task:
        task = self.inner._task(split)
        if not isinstance(task, ByUser):
            raise OnomaError(
                f"the batches of {self.inner.name} have no users", where=self.name,
                fix="Take lightgcn, multvae or a sequence model",
            )  # fmt: skip
        return _Listening(self, task, self.targets(split), layer(self.module, self.settings.layer))

    def targets(self, split: Split) -> Tensor:
        """float32[n_users, m], what the layer is to carry; zero rows where nothing is known."""
        began = time.monotonic()
        how = self.settings.profiles
        told = facts(
            split, liked=how.liked, disliked=how.disliked, kinds=how.kinds,
            shuffled=how.deal if how.shuffled == "items" else None,
        )  # fmt: skip
        if how.model is None:
            texts = TemplateWriter().write(told)
        else:
            from onoma.language.opening import open_model

            writer = ModelWriter(open_model(how.model))
            texts = writer.write(told)
            self.written = {
                "written": sum(map(bool, texts)) - writer.failed,
                "failed": writer.failed,
                "language": writer.model.meter.report(),
            }
        encoder = encoding.build(how.encoder)
        if not isinstance(encoder, TextEncoder):
            raise OnomaError(f"{encoder.name} reads no texts", where=f"{self.name}: encoder")
        vectors = reduced(cached_texts(encoder, texts), self.settings.width)
        if how.shuffled == "users":
            vectors = deal(vectors, how.deal)
        self.seconds["encode"] = time.monotonic() - began
        return torch.from_numpy(vectors)

    def forget(self) -> None:
        """Nor does the collaborative model keep anything."""
        self.inner.forget()

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the collaborative model's scores."""
        return self.inner.score(requests)

    def item_vectors(self) -> NDArray[np.float32] | None:
        """Those of the collaborative model."""
        return self.inner.item_vectors()


def layer(module: nn.Module, name: str) -> nn.Module:
    """The part of a module that has this name.

    Raises:
        OnomaError: there is none.
    """
    parts = dict(module.named_modules())
    if not name or name not in parts:
        known = [part for part in parts if part]
        raise OnomaError(
            f"the model has no part called {name!r}", where="recommender.layer",
            fix=f"Use one of {', '.join(known)}",
        )  # fmt: skip
    return parts[name]


def reduced(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """float32[n, m], the leading m directions of non-zero rows, of mean 0 and mean square 1.

    Args:
        vectors: float32[n, dim]; zero rows stay zero.
        width: m, less where the rows span fewer directions.
    """
    known = np.flatnonzero(vectors.any(axis=1))
    if not len(known):
        return np.zeros((len(vectors), 1), dtype=np.float32)
    centred = vectors[known] - vectors[known].mean(axis=0)
    u, s, _ = truncated_svd(centred, width)
    kept = max(1, int((s > 1e-5 * s[0]).sum()))
    out = np.zeros((len(vectors), kept), dtype=np.float32)
    told = u[:, :kept] * s[:kept]
    out[known] = told / max(float(np.sqrt((told**2).mean())), 1e-12)
    return out


class _Listening:
    """The trainer's view: the model's own task, and for some epochs one layer's lesson."""

    def __init__(self, owner: LLMKT, task: Task, targets: Tensor, part: nn.Module) -> None:
        self.owner, self.task, self.targets = owner, task, targets.to(device())
        self.epochs = round(owner.settings.listen * owner.train.epochs)
        self.heard: list[Tensor] = []
        part.register_forward_hook(self._hear)

    def _hear(self, part: nn.Module, inputs: Any, output: Any) -> None:
        if part.training:
            self.heard.append(cast(Tensor, output[0] if isinstance(output, tuple) else output))

    def plan(self, seed: int, epoch: int) -> Sequence[tuple[int, Any]]:
        return [(epoch, batch) for batch in self.task.plan(seed, epoch)]

    def loss(self, batch: tuple[int, Any]) -> Tensor:
        epoch, rows = batch
        self.heard.clear()
        own = self.task.loss(rows)
        if epoch >= self.epochs:
            return own
        settings = self.owner.settings
        users = torch.from_numpy(cast(ByUser, self.task).users(rows)).to(self.targets.device)
        hidden = torch.stack([self._pooled(one, rows) for one in self.heard]).mean(0)
        if len(hidden) != len(users) or hidden.shape[1] < self.targets.shape[1]:
            raise OnomaError(
                f"the layer gives {tuple(hidden.shape)} for {len(users)} users and profiles of "
                f"{self.targets.shape[1]}", where="recommender.layer",
                fix="Take a layer that gives one vector a user, and a smaller recommender.width",
            )  # fmt: skip
        lesson = reconstruction(hidden, self.targets[users], settings.distance)
        # A loss that adds up over a user's items is hundreds of times one that averages.
        unit = own.detach().abs()
        return (1 - settings.alpha) * own + settings.alpha * unit * lesson

    def validate(self) -> float:
        return self.task.validate()

    def _pooled(self, hidden: Tensor, rows: Any) -> Tensor:
        """float[rows, h]; the states of a sequence by their mean, none of those behind its end."""
        if hidden.dim() != 3:
            return hidden
        lengths = torch.from_numpy(cast(Sequenced, self.task).lengths(rows)).to(hidden.device)
        said = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        return (hidden * said[:, :, None]).sum(1) / lengths[:, None]
