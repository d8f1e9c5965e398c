"""A tuned judge that is also told, in vectors, what a sequence model knows (S073)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from onoma.dataset import Cases, Dataset, Ragged, Split
from onoma.errors import OnomaError
from onoma.language.torch_model import TorchModel
from onoma.neural.device import device
from onoma.neural.frozen import LoraSettings
from onoma.neural.trainer import Trainer, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.collaborative.lightgcn import LightGCN
from onoma.recommenders.registry import recommender
from onoma.recommenders.transformer import TransformerRecommender
from onoma.recommenders.tuned.questions import Questions
from onoma.recommenders.tuned.tallrec import JudgeModule, JudgeSettings, TALLRec

Encoder = TransformerRecommender | LightGCN
_VECTORS = ("taste", "item")  # places that vectors fill


class HybridSettings(JudgeSettings):
    """The judge, the model whose vectors it reads, and the map between them.

    Attributes:
        sequence: the recommender whose vectors are read, which learns what is liked next: a
            ``name`` (``sasrec`` where none is given) and its settings, ``train`` among them.
        hybrid: the prompt with a place for each vector.
        expansion: the map's middle is so many times the sequence model's width.
        dealt: whether vectors are those of other items: a control.
        mapped: training questions of the map; None takes all.
        mapping: the map's schedule; ``batch_tokens`` is not used, ``batch`` is.
        together: the schedule of a last step in which the map and the updates learn from the
            map's questions together; None leaves it out.
    """

    sequence: dict[str, Any] = {}
    hybrid: str = "like-or-not-vectors"
    expansion: int = Field(default=5, ge=1)
    dealt: bool = False
    mapped: int | None = Field(default=256, ge=1)
    mapping: TrainSettings = TrainSettings()
    together: TrainSettings | None = None

    @model_validator(mode="after")
    def _something_to_tune(self) -> Self:
        if self.together is not None and self.shots == 0:
            raise ValueError("together: with shots=0 there are no updates to learn")
        return self


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
    state and the item's vector into the prompt: the authors' strategy of two stages. Their other
    two are settings. Hierarchical freezing, ``together``: when the map has learnt, the updates
    thaw and both go on. Plug and play, ``sequence: {name: gru}`` with ``shots: 0`` around a model
    with an adapter: the language model is fixed, another encoder is put before it, and only the
    map learns.

    Mode ``text`` answers from the words alone, which is the model after the second step (after
    the last, with ``together``). We depart from the paper where the SASRec has a softmax over the
    catalogue, the SASRec rests in every strategy, and the language model is small and not
    quantised.

    Args:
        train: the schedule of the updates.
        seed: of everything random.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`HybridSettings`.

    Attributes:
        sequence: the SASRec, or what stands in its place.

    Raises:
        OnomaError: ``sequence`` names a recommender without vectors of users.
    """

    name = "sasrecllm"
    settings_type = HybridSettings
    settings: HybridSettings
    module: HybridModule
    modes = ("hybrid", "text")
    sequence: Encoder

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
        given = {k: v for k, v in self.settings.sequence.items() if k != "name"}
        self.sequence = self._encoder().create(
            given, seed=seed, folder=beside, quiet=quiet
        )  # wrong settings are told before anything is fitted

    def _encoder(self) -> type[Encoder]:
        """The class whose vectors are read."""
        name = str(self.settings.sequence.get("name", "sasrec"))
        kind = recommender(name)
        # A question has no times, by which a few encoders go.
        if not issubclass(kind, TransformerRecommender | LightGCN) or "times" in kind.reads:
            raise OnomaError(
                f"{name} has no vectors of users that a map could read",
                where="recommender.sequence",
                fix="Use sasrec, gru, cnn or lightgcn",
            )
        return kind

    @property
    def window(self) -> int | None:
        """None: the encoder reads the last likes, however far back they are."""
        return None

    def fit(self, split: Split) -> Self:
        """Fit the SASRec, tune the updates, train the map, and then both where that is asked."""
        settings = self.settings
        self._prepare(split.dataset)  # a wrong prompt is told before anything is fitted
        self.sequence.fit(split)
        vectors = self.sequence.item_vectors()
        wide = _tastes(self.sequence, Ragged.from_rows([np.zeros(1, np.int32)])).shape[1]
        if vectors is None or vectors.shape[1] != wide:
            raise OnomaError(
                "the recommender has no vectors of items beside those of users",
                where="recommender.sequence",
            )
        torch.manual_seed(self.seed)
        self.forget()
        self.module = self._hybrid(split.dataset.n_items, vectors.shape[1]).to(device())
        self.module.items.copy_(nn.functional.normalize(torch.from_numpy(vectors), dim=1))
        told: dict[str, dict[str, Any]] = {"sequence": dict(self.sequence.training)}
        if settings.shots != 0:
            told["text"] = self._stage(split, "text", self.train, ["updates"], settings.shots)
        told["map"] = self._stage(split, "map", settings.mapping, ["map"], settings.mapped)
        if settings.together is not None:
            both = ["map", "updates"]
            told["together"] = self._stage(
                split, "together", settings.together, both, settings.mapped
            )
        for stage in told:  # kept till now, for a run that is broken off
            if self.folder and stage != "map":
                (self.folder / stage / "checkpoint.safetensors").unlink(missing_ok=True)
        self.seconds["train"] = sum(float(part.get("seconds", 0.0)) for part in told.values())
        told["sequence"].pop("history", None)
        last = "map" if settings.together is None else "together"
        for stage in told.keys() - {last}:
            told[stage].pop("history", None)
        self.training = told.pop(last) | told
        self.forget()
        return self

    def _stage(
        self, split: Split, name: str, train: TrainSettings, parts: list[str], shots: int | None
    ) -> dict[str, Any]:
        """Train some parts of the module on questions, the others at rest.

        Args:
            split: its questions.
            name: of its folder; the map's is the run's own.
            train: the schedule.
            parts: of ``updates`` and ``map``.
            shots: questions; None takes all.
        """
        for key, parameter in self.module.named_parameters():
            parameter.requires_grad_(key.split(".")[0] in parts)
        beside = self.folder if name == "map" or self.folder is None else self.folder / name
        task = Questions(self, split, shots, "hybrid" if "map" in parts else "text")
        trainer = Trainer(train, self.seed, beside, self.quiet)
        told = trainer.fit(self.module, self.module.noise, task)
        return told | {"history": trainer.history}

    def _hybrid(self, n_items: int, width: int) -> HybridModule:
        settings = self.settings
        lora = None if settings.shots == 0 else settings.lora
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
        states = _tastes(self.sequence, history)
        items = self.module.items[torch.from_numpy(targets)]
        vectors = {"taste": states.to(items.device), "item": items}
        stacked = torch.stack([vectors[name] for name in self._slots], dim=1)
        return self.module.mapped(stacked.flatten(0, 1))

    def save(self, folder: str | Path) -> None:
        """Write the map and the updates, an adapter of these, and the encoder beside them."""
        super().save(folder)
        self.sequence.save(Path(folder) / "sequence")

    def _shaped(self, dataset: Dataset, weights: dict[str, Tensor]) -> JudgeModule:
        return self._hybrid(dataset.n_items, weights["items"].shape[1])

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> JudgeModule:
        self.sequence = self._encoder().load(folder / "sequence", dataset)
        return super()._rebuild(folder, dataset, weights)


def _tastes(model: Encoder, history: Ragged) -> Tensor:
    """float32[n, d], the users behind n histories."""
    if isinstance(model, LightGCN):
        return model.user_vectors(history)
    return model.last_states(history)
