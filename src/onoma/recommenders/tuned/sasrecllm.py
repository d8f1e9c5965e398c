"""A tuned judge that is also told, in vectors, what a sequence model knows (S073)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from onoma.dataset import Cases, Dataset, Ragged, Split
from onoma.errors import OnomaError
from onoma.language.torch_model import TorchModel
from onoma.neural.device import device
from onoma.neural.frozen import LoraSettings
from onoma.neural.trainer import Trainer, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.tuned.questions import Questions
from onoma.recommenders.tuned.tallrec import JudgeModule, JudgeSettings, TALLRec

_VECTORS = ("taste", "item")  # places that vectors fill


class HybridSettings(JudgeSettings):
    """The judge, the sequence model, and the map between them.

    Attributes:
        sequence: settings of the SASRec, ``train`` among them; it learns what is liked next.
        hybrid: the prompt with a place for each vector.
        expansion: the map's middle is so many times the sequence model's width.
        dealt: whether vectors are those of other items: a control.
        mapped: training questions of the map; None takes all.
        mapping: the map's schedule; ``batch_tokens`` is not used, ``batch`` is.
    """

    sequence: dict[str, Any] = {}
    hybrid: str = "like-or-not-vectors"
    expansion: int = Field(default=5, ge=1)
    dealt: bool = False
    mapped: int | None = Field(default=256, ge=1)
    mapping: TrainSettings = TrainSettings()


class HybridModule(JudgeModule):
    """A judge and a map from the sequence model's vectors to the language model's.

    Attributes:
        items: float32[n_items, d], the sequence model's items, of unit length.
        map: to the language model's width.
        size: the mean length of the language model's own vectors, which mapped ones have too:
            others would be passed over, or drown the words.
    """

    items: Tensor

    def __init__(
        self,
        model: TorchModel,
        n_items: int,
        lora: LoraSettings | None,
        layers: int | None,
        width: int,
        expansion: int,
    ) -> None:
        super().__init__(model, n_items, lora, layers)
        self.register_buffer("items", torch.zeros(n_items, width))
        self.map = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, self.width)
        )
        words = self.lm.get_input_embeddings().weight
        self.size = float(words.detach().float().norm(dim=1).mean())

    def mapped(self, vectors: Tensor) -> Tensor:
        """float[n, width] of float[n, d]."""
        scaled = nn.functional.normalize(vectors, dim=1) * vectors.shape[1] ** 0.5
        return nn.functional.normalize(self.map(scaled), dim=1) * self.size


class SASRecLLM(TALLRec):
    """SASRecLLM (S073): a language model that reads a sequence model's vectors among the words.

    First a SASRec learns what is liked next. Then low-rank updates are tuned on questions in words,
    as in TALLRec; last, with those and the SASRec at rest, a map is trained that puts the user's
    state and the item's vector into the prompt: the authors' strategy of two stages.

    Mode ``text`` answers from the words alone, which is the model after the second step. We depart
    from the paper where the SASRec has a softmax over the catalogue and the language model is
    small and not quantised.

    Args:
        train: the schedule of the updates.
        seed: of everything random.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`HybridSettings`.

    Attributes:
        sequence: the SASRec.
    """

    name = "sasrecllm"
    settings_type = HybridSettings
    settings: HybridSettings
    module: HybridModule
    modes = ("hybrid", "text")

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

    @property
    def window(self) -> int | None:
        """None: the SASRec reads the last likes, however far back they are."""
        return None

    def fit(self, split: Split) -> Self:
        """Fit the SASRec, tune the updates, train the map."""
        self._prepare(split.dataset)  # a wrong prompt is told before anything is fitted
        self.sequence.fit(split)
        torch.manual_seed(self.seed)
        self.forget()
        self.module = self._made(split.dataset.n_items).to(device())
        vectors = self.sequence.item_vectors()
        assert vectors is not None
        self.module.items.copy_(nn.functional.normalize(torch.from_numpy(vectors), dim=1))
        told: dict[str, Any] = {}
        if self.settings.shots != 0:
            beside = self.folder and self.folder / "text"
            self._only(updates=True)
            task = Questions(self, split, self.settings.shots, "text")
            trainer = Trainer(self.train, self.seed, beside, self.quiet)
            told = trainer.fit(self.module, self.module.noise, task)
        self._only(updates=False)
        trainer = Trainer(self.settings.mapping, self.seed, self.folder, self.quiet)
        task = Questions(self, split, self.settings.mapped, "hybrid")
        self.training = trainer.fit(self.module, self.module.noise, task)
        for stage in ("sequence", "text"):  # kept till now, for a run that is broken off
            if self.folder:
                (self.folder / stage / "checkpoint.safetensors").unlink(missing_ok=True)
        self.training |= {"text": told, "history": trainer.history}
        first = self.sequence.training
        self.training["sequence"] = {k: v for k, v in first.items() if k != "history"}
        spent = [self.training, self.training["sequence"], told]
        self.seconds["train"] = sum(float(part.get("seconds", 0.0)) for part in spent)
        self.forget()
        return self

    def _only(self, *, updates: bool) -> None:
        """Train the updates, or the map."""
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name.startswith("updates") == updates)

    def _made(self, n_items: int) -> HybridModule:
        settings = self.settings
        lora = None if settings.shots == 0 else settings.lora
        width = int(self.sequence.settings.model_dump()["width"])
        return HybridModule(self._model, n_items, lora, settings.layers, width, settings.expansion)

    def _prepare(self, dataset: Dataset) -> None:
        super()._prepare(dataset)
        hybrid = self._formed(self.settings.hybrid, _VECTORS)
        self._forms = {"text": self._formed(self.settings.prompt), "hybrid": hybrid}
        self._slots = [name for name in hybrid[1::2] if name in _VECTORS]
        if not self._slots:
            raise OnomaError(
                "the prompt has neither $taste nor $item",
                where="recommender.hybrid",
                fix="Give it a place for a vector",
            )

    def soft(self, cases: Cases, mode: str | None = None) -> Tensor | None:
        """float[m, width]: what stands in each question's slots; nothing in mode ``text``."""
        if mode == "text":
            return None
        history = Requests.of(cases).of_likes().history
        targets = cases.targets.values.astype(np.int64)
        if self.settings.dealt:
            whose = np.random.default_rng([self.seed, 73]).permutation(self.module.n_items)
            history = Ragged(history.offsets, whose[history.values])
            targets = whose[targets]
        states = self.sequence.last_states(history)
        items = self.module.items[torch.from_numpy(targets)]
        vectors = {"taste": states.to(items.device), "item": items}
        stacked = torch.stack([vectors[name] for name in self._slots], dim=1)
        return self.module.mapped(stacked.flatten(0, 1))

    def save(self, folder: str | Path) -> None:
        """Write the map and the updates, an adapter of these, and the SASRec beside them."""
        super().save(folder)
        self.sequence.save(Path(folder) / "sequence")

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> JudgeModule:
        self.sequence = SASRec.load(folder / "sequence", dataset)
        return super()._rebuild(folder, dataset, weights)
