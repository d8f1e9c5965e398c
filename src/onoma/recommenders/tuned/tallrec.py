"""A language model tuned on few answers to "would they like this?" (S060)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from onoma.dataset import Cases, Dataset, Split
from onoma.errors import OnomaError
from onoma.language.opening import torch_model
from onoma.language.templates import Template, line
from onoma.language.torch_model import TorchModel
from onoma.neural.frozen import Composer, FrozenModule, LoraSettings, Mixed, by_length
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuned.questions import Questions, put

_TOKENS = 8192  # of a batch that is only read
_MARK = "\x1f"  # stands where titles go while the chat form is written; no title holds it
_WORDS = ("liked", "disliked", "target")  # places that a question fills with texts
_YEAR = re.compile(r"\s*\(\d{4}\)$")
Pieces = list[str | int | None]


class JudgeSettings(BaseModel):
    """The language model, what it is told and what it learns from.

    Attributes:
        model: ``smollm2`` or a transformers folder, as ``onoma.language.opening.torch_model``.
        layers: only its first layers; all where not given.
        lora: the low-rank updates.
        shots: training questions, drawn by the seed; 0 leaves the model untuned, None takes all.
        length: items of a history that are told, the last ones.
        prompt: a template of the library, or a file.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        years: whether a year in brackets behind a title is told; it may be a third of the tokens.
        batch: questions a training step.
        validated: validation questions that pick the epoch, evenly spaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Any = "smollm2"
    layers: int | None = Field(default=None, ge=1)
    lora: LoraSettings = LoraSettings()
    shots: int | None = Field(default=64, ge=0)
    length: int = Field(default=10, ge=1)
    prompt: str = "like-or-not"
    domain: str | dict[str, str] = "movies"
    years: bool = False
    batch: int = Field(default=8, ge=1)
    validated: int = Field(default=100, ge=1)


class JudgeModule(FrozenModule, TrainedModule):
    """A language model with low-rank updates that answers Yes or No.

    Attributes:
        yes: first token of that answer.
        no: likewise.
    """

    def __init__(
        self, model: TorchModel, n_items: int, lora: LoraSettings | None, layers: int | None = None
    ) -> None:
        super().__init__(model, layers=layers, lora=lora)
        self.n_items = n_items
        composer = Composer(model.tokenizer)
        self.yes, self.no = composer.tokens("Yes")[0], composer.tokens("No")[0]
        if self.yes == self.no:
            raise OnomaError("Yes and No begin with the same token", where=str(model.folder))

    def answers(self, prompts: Mixed, soft: Tensor | None = None) -> Tensor:
        """float32[n, vocabulary], logits of the first token of the answer.

        Args:
            prompts: n of them.
            soft: what stands in their slots.
        """
        return self.logits(self.last(prompts, soft))

    def likes(self, prompts: Mixed, soft: Tensor | None = None) -> Tensor:
        """float32[n], by how much Yes is likelier than No, in logits."""
        said = self.answers(prompts, soft)
        return said[:, self.yes] - said[:, self.no]

    def loss(self, prompts: Mixed, labels: NDArray[np.bool_], soft: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of the answer's first token over the whole vocabulary."""
        said = self.answers(prompts, soft)
        wanted = torch.from_numpy(np.where(labels, self.yes, self.no).astype(np.int64))
        return torch.nn.functional.cross_entropy(said, wanted.to(said.device))


class TALLRec(TrainedRecommender):
    """TALLRec (S060): a language model tuned to say whether somebody likes an item.

    Bao et al., RecSys 2023, sections 3.2 and 3.3. The last items of the history, as likes and
    dislikes, and one title are a question; low-rank updates are trained on as few as 64 answered
    ones. The score of an item is by how much Yes is likelier than No.

    We depart from it where the instruction stage is left out: the model that we start from was
    tuned to instructions by its makers. The loss is that of the answer alone.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of the updates, the questions drawn and the batches.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`JudgeSettings`.
    """

    name = "tallrec"
    around_weights = True
    settings_type: ClassVar[type[JudgeSettings]] = JudgeSettings
    settings: JudgeSettings
    module: JudgeModule
    reads = frozenset({"history", "candidates", "liked"})
    batch = 16

    def fit(self, split: Split) -> Self:
        """Tune on the questions drawn; without any, only take the model as it is."""
        if self.settings.shots != 0:
            super().fit(split)
            return self
        self.forget()
        self.module = self._build(split)
        self.module.eval()
        self.training = {"asked": 0}
        return self

    def _build(self, split: Split) -> JudgeModule:
        self._prepare(split.dataset)
        return self._shaped(split.dataset, {})

    def _shaped(self, dataset: Dataset, weights: dict[str, Tensor]) -> JudgeModule:
        """A module for a catalogue, of the shape of weights that were saved, if there are any."""
        settings = self.settings
        lora = None if settings.shots == 0 else settings.lora
        return JudgeModule(self._model, dataset.n_items, lora, settings.layers)

    def _prepare(self, dataset: Dataset) -> None:
        settings = self.settings
        self._model = torch_model(settings.model)
        self._composer = Composer(self._model.tokenizer)
        titles = [line(title) for title in dataset.titles(np.arange(dataset.n_items))]
        if not settings.years:
            titles = [_YEAR.sub("", title) or title for title in titles]
        self._titles = titles
        self._forms = {self.modes[0]: self._formed(settings.prompt)}

    def _formed(self, prompt: str, vectors: Sequence[str] = ()) -> list[str]:
        """A template as the model reads it: texts, and between them the names of what is told.

        Args:
            prompt: a template of the library, or a file.
            vectors: places that vectors fill.

        Raises:
            OnomaError: it has a place that nothing fills.
        """
        template, known = Template.load(prompt), (*_WORDS, *vectors)
        if foreign := template.placeholders.keys() - set(known):
            raise OnomaError(
                f"nothing fills ${min(foreign)}",
                where=f"prompt {template.id}",
                fix=f"Known: {', '.join(f'${name}' for name in sorted(known))}",
            )
        marks = {name: f"{_MARK}{name}{_MARK}" for name in template.placeholders}
        return self._model.render(template.messages(self.settings.domain, **marks)).split(_MARK)

    def _task(self, split: Split) -> Task:
        return Questions(self, split, self.settings.shots, self.modes[0])

    def pieces(
        self,
        history: NDArray[np.integer],
        liked: NDArray[np.integer] | None,
        item: int,
        mode: str | None = None,
    ) -> Pieces:
        """One question as texts, and slots where the form has vectors.

        Args:
            history: int[l], oldest first.
            liked: int[l]; None where everything counts as liked.
            item: to judge.
            mode: whose form it has; default the first.
        """
        history = history[-self.settings.length :]
        flags = np.ones(len(history), bool) if liked is None else liked[-len(history) :] > 0
        filled: dict[str, Pieces] = {
            "liked": self._listed(history[flags]),
            "disliked": self._listed(history[~flags]),
            "target": [self._titles[item]],
            "taste": [None],
            "item": [None],
        }
        out: Pieces = []
        for place, part in enumerate(self._forms[mode or self.modes[0]]):
            out += filled[part] if place % 2 else [part]
        return out

    def _listed(self, items: NDArray[np.integer]) -> Pieces:
        out: Pieces = []
        for place, item in enumerate(items):
            out += [", ", self._titles[int(item)]] if place else [self._titles[int(item)]]
        return out or ["none"]

    def composed(self, cases: Cases, mode: str | None = None) -> Mixed:
        """The prompts of n cases with one target each."""
        return self._composer.compose(
            [
                self.pieces(
                    cases.history[row],
                    None if cases.liked is None else cases.liked[row],
                    int(cases.targets.values[row]),
                    mode,
                )
                for row in range(len(cases))
            ]
        )

    def soft(self, cases: Cases, mode: str | None = None) -> Tensor | None:
        """What stands in the slots of n cases' prompts; None where the form has none."""
        return None

    def missed(self, cases: Cases, mode: str) -> Tensor:
        """The mean loss of n answered cases' questions."""
        assert cases.labels is not None
        soft = self.soft(cases, mode)
        return self.module.loss(self.composed(cases, mode), cases.labels, soft)

    @torch.no_grad()
    def judge(self, cases: Cases, mode: str | None = None) -> NDArray[np.float64]:
        """float64[n], by how much Yes is likelier than No of each case's one target."""
        self.module.eval()
        out = np.zeros(len(cases))
        lengths = self.composed(cases, mode).lengths.tolist()
        for rows in by_length(lengths, _TOKENS):
            part = cases.take(np.array(rows))
            said = self.module.likes(self.composed(part, mode), self.soft(part, mode))
            out[rows] = said.double().cpu().numpy()
        return out

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]; a question for every pair, so meant for small catalogues."""
        return self._scored(requests, self._every(len(requests)), self.modes[0])

    def _every(self, rows: int) -> NDArray[np.int32]:
        return np.tile(np.arange(self.module.n_items, dtype=np.int32), (rows, 1))

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        items = requests.candidates
        if items is None:
            scores = self._scored(requests, self._every(len(requests)), mode)
            return top_k(scores, k, forbidden=requests.forbidden())
        scores = self._scored(requests, np.maximum(items, 0), mode)
        codes = torch.from_numpy(items.astype(np.int64))
        return top_k(scores, k, forbidden=requests.forbidden(), items=codes)

    def _scored(self, requests: Requests, items: NDArray[np.int32], mode: str) -> Tensor:
        return torch.from_numpy(self.judge(put(requests, items), mode)).float().view(items.shape)

    def save(self, folder: str | Path) -> None:
        """Write the updates and settings, and the updates again as an adapter with its card."""
        super().save(folder)
        if self.settings.shots != 0:
            told = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in self.training.items()
                if isinstance(value, int | float)
            )
            self.module.save_adapter(
                Path(folder) / "adapter",
                f"{type(self).__name__} by Onoma: answers Yes or No to whether somebody likes an "
                f"item.\n\nTraining: {told}; seed {self.seed}.",
            )

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | {"source": self.module.source}

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> JudgeModule:
        from onoma.recommenders.storage import read_model

        self._prepare(dataset)
        module = self._shaped(dataset, weights)
        record, _ = read_model(folder, self.name)
        if record["source"] != module.source:
            raise OnomaError(
                f"tuned around {record['source']}, the model here is {module.source}",
                where=str(folder),
                fix="Pull that model again, or fit again",
            )
        return module
