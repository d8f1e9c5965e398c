"""A shallow language model that reads item vectors as a deeper one does (S083)."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Cases, Dataset, Split
from onoma.errors import OnomaError
from onoma.language.opening import torch_model
from onoma.neural.alignment import apart
from onoma.neural.device import autocast, device
from onoma.neural.frozen import LoraSettings
from onoma.neural.instructed import Instructed
from onoma.neural.loss import full_softmax
from onoma.neural.noise import GlobalNoise
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.soft import mean_square_one
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.storage import trained_around
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    NextItem,
    SequenceSettings,
    TransformerRecommender,
    even,
)

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

_TIMED = 64  # users whose answers are timed
_LORA = LoraSettings(
    rank=16, alpha=16.0, dropout=0.05, targets=("gate_proj", "up_proj", "down_proj")
)


class SLMRecSettings(SequenceSettings):
    """The language model, the item vectors, and what the student learns from.

    Attributes:
        model: a language model whose weights are here, as ``onoma models`` names it.
        layers: of the student, which answers.
        teacher: layers of the teacher; both are kept from the same language model.
        spread: kept layers are spread over the depth; else they are the first ones.
        blocks: student and teacher are cut into so many; their ends are compared.
        lora: the updates inside the language model.
        instruction: what stands before a history.
        sequence: settings of the SASRec whose item table is read and answered with, ``train``
            among them.
        distil: weight of the lesson from the teacher; 0: no teacher is trained.
        distance: what the distance of two states counts in that lesson, beside 1 less their cosine.
        supervise: weight of the next item's loss at the end of every block but the last; 0: none.
    """

    length: int = Field(default=30, ge=2)
    model: Any = "smollm2"
    layers: int = Field(default=4, ge=1)
    teacher: int = Field(default=8, ge=1)
    spread: bool = False
    blocks: int = Field(default=4, ge=1)
    lora: LoraSettings = _LORA
    instruction: str = Field(default="What a user bought, in order:", min_length=1)
    sequence: dict[str, Any] = {}
    distil: float = Field(default=1.0, ge=0)
    distance: float = Field(default=0.1, ge=0)
    supervise: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> SLMRecSettings:
        cut = {"layers": self.layers} if self.distil or self.supervise else {}
        cut |= {"teacher": self.teacher} if self.distil else {}
        for what, number in cut.items():
            if number % self.blocks:
                raise OnomaError(
                    f"{what} is {number}, which {self.blocks} blocks do not divide",
                    where="recipe", fix="Set recommender.blocks",
                )  # fmt: skip
        return self


class SLMRecModule(ItemSequenceModule):
    """A frozen item table, maps into and out of a language model, and its updates.

    Args:
        model: the language model.
        ids: float32[n_items, d], of mean square 1.
        settings: of the reading.
        layers: so many are kept.
        heads: maps out of the inner blocks.
    """

    settings: SLMRecSettings
    encoder: Instructed
    ids: Tensor

    def __init__(
        self, model: TorchModel, ids: Tensor, settings: SLMRecSettings, layers: int, heads: int = 0
    ) -> None:
        super().__init__()
        self.n_items, self.settings, self.noise = len(ids), settings, GlobalNoise()
        self.encoder = Instructed(
            model, settings.instruction, layers, spread=settings.spread, lora=settings.lora
        )
        d, wide = ids.shape[1], self.encoder.inside.width
        self.enter = nn.Sequential(nn.Linear(d, wide))
        self.encoder.inside.like_words(self.enter, ids)
        self.out = nn.Linear(wide, d, bias=False)
        self.heads = nn.ModuleList(nn.Linear(wide, d, bias=False) for _ in range(heads))
        self.register_buffer("ids", F.pad(ids, (0, 0, 0, 1)))

    def table(self) -> Tensor:
        """float32[n_items + 1, d], the SASRec's."""
        return self.ids

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.out(self.encoder(self.enter(vectors)))
        return out

    def last(self, items: Tensor, ends: Tensor, table: Tensor) -> Tensor:
        """As :meth:`ItemSequenceModule.last`."""
        out: Tensor = self.out(self.encoder.last(self.enter(F.embedding(items, table)), ends))
        return out

    def depths(self, items: Tensor) -> list[Tensor]:
        """float32[b, l, width] at the end of each block, of int64[b, l] item codes."""
        return self.encoder.depths(self.enter(F.embedding(items, self.ids)), self.settings.blocks)

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Mean cross-entropy over the whole catalogue."""
        return full_softmax(*self.query(states, table), targets)


class SLMRec(TransformerRecommender):
    """SLMRec (S083): a shallow student of a deeper language model, over item vectors.

    Xu et al., ICLR 2025. A SASRec is fitted first; its item table stays as it is. A linear map
    brings an item's vector to a word's place, the first layers of a frozen language model read the
    last items of a history behind a short instruction, and another linear map brings the last state
    to the space of the same table, whose products are the scores; low-rank updates are trained
    inside. The teacher keeps more layers than the student. At the ends of ``blocks`` equal parts
    the student's states are drawn to those of the trained teacher, which rests, and maps of their
    own tell the next item from them. The student alone is saved and answers; ``training`` has what
    an answer to one user takes either.

    We depart from it where each place of a history tells the item that follows, in one pass, so no
    words stand behind the history; where products are cosines times ``scale``, as of the SASRec's
    own table (``scale: null`` for the published ones); and where the teacher is always
    trained before.

    Args:
        train: the schedule, of teacher and student alike.
        seed: of everything random, the SASRec's too.
        folder: where checkpoints and the logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`SLMRecSettings`.

    Attributes:
        sequence: the SASRec; fitted only where this was fitted and not loaded.
        teacher: what the student learnt from; None without a lesson and after loading.
    """

    name = "slmrec"
    around_weights = True
    settings_type = SLMRecSettings
    settings: SLMRecSettings
    module: SLMRecModule
    teacher: SLMRec | None = None

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
        beside = self.folder and self.folder / "sequence"
        self.sequence = SASRec.create(
            self.settings.sequence, seed=seed, folder=beside, quiet=quiet
        )  # wrong settings are told before anything is fitted

    def fit(self, split: Split) -> Self:
        """Fit the SASRec, the teacher, and the student."""
        self.sequence.fit(split)
        before = {"sequence": self.sequence.training}
        self.teacher = None
        if self.settings.distil:
            alone = self.settings.model_copy(
                update={"layers": self.settings.teacher, "distil": 0.0, "supervise": 0.0}
            )
            self.teacher = copy.copy(self)
            self.teacher.settings = alone
            self.teacher.folder = self.folder and self.folder / "teacher"
            self.teacher._learn(split)
            before["teacher"] = self.teacher.training
        self._learn(split)
        spent = [self.training, *before.values()]
        self.seconds["train"] = sum(float(part["seconds"]) for part in spent)
        told = {stage: {k: v for k, v in part.items() if k != "history"}
                for stage, part in before.items()}  # fmt: skip
        self.training |= told | {"latency_ms": self.latency(split.valid)}
        for stage in before:  # kept till now, for a run that is broken off and goes on
            if self.folder:
                (self.folder / stage / "checkpoint.safetensors").unlink(missing_ok=True)
        return self

    def _learn(self, split: Split) -> None:
        super().fit(split)

    def _build(self, split: Split) -> SLMRecModule:
        return self._made(mean_square_one(self.sequence))

    def _made(self, ids: Tensor) -> SLMRecModule:
        s = self.settings
        return SLMRecModule(
            torch_model(s.model), ids, s, s.layers, s.blocks - 1 if s.supervise else 0
        )

    def _task(self, split: Split) -> Task:
        return _Depths(self, split)

    def latency(self, cases: Cases) -> dict[str, float]:
        """Milliseconds in which one user gets ten items, by each model that is here.

        The median over some users, each asked for alone, the models in turns; after one that is
        not counted.
        """
        models = {"student": self} | ({"teacher": self.teacher} if self.teacher else {})
        rows = np.arange(len(cases))[: _TIMED + 1]
        spent: dict[str, list[float]] = {name: [] for name in models}
        for row in rows:
            asked = Requests.of(cases.take(rows[row : row + 1]))
            for name, model in models.items():
                began = time.perf_counter()
                model.recommend(asked, 10)
                spent[name].append(1000 * (time.perf_counter() - began))
        return {name: float(np.median(each[1:])) for name, each in spent.items() if each[1:]}

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "language": self.module.encoder.inside.source}

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote: the student.

        Raises:
            OnomaError: as for other recommenders, or the language model is another one.
        """
        model = super().load(folder, dataset)
        trained_around(folder, cls.name, model.module.encoder.inside.source)
        return model

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> SLMRecModule:
        return self._made(torch.zeros(dataset.n_items, weights["ids"].shape[1]))


class _Depths(NextItem):
    """The trainer's view: the ends of all blocks tell the next item and resemble the teacher's."""

    owner: SLMRec

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, teacher, s = self.owner.module, self.owner.teacher, self.owner.settings
        if not (teacher or s.supervise):
            return super().loss(batch)
        where = device()
        items, following = (part.to(where) for part in self.batches.tensors(batch, module.n_items))
        known, table = following != module.n_items, module.table()
        targets = following[known]
        with autocast(where.type):
            ends = [states[known] for states in module.depths(items)]
            outs = [head(end) for head, end in zip(module.heads, ends, strict=False)]
            last = module.out(ends[-1])
        total = module.loss(*even(last.float(), targets), table)
        for states in outs:
            total = total + s.supervise * module.loss(*even(states.float(), targets), table)
        if teacher is not None:
            with torch.no_grad(), autocast(where.type):
                taught = [states[known] for states in teacher.module.depths(items)]
            pairs = zip(ends, taught, strict=True)
            total = total + s.distil * sum(apart(mine, its, s.distance) for mine, its in pairs)
        return total
