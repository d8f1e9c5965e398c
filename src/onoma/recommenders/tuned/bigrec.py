"""A tuned language model writes the next title; what it wrote is looked for in the catalogue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.base import TextEncoder
from onoma.encoding.cache import cached_texts
from onoma.errors import OnomaError
from onoma.language.opening import torch_model
from onoma.language.torch_model import TorchModel
from onoma.neural.frozen import FrozenModule, LoraSettings, by_length
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Ranking, Recommender, Requests, top_k
from onoma.recommenders.registry import recommender
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuned.titles import TOKENS, NextTitle, TitleWriter
from onoma.recommenders.tuning import ranked_ndcg

# The paper's grid: every hundredth below one, every whole number below a hundred.
GAMMAS = (*(n / 100 for n in range(100)), *map(float, range(1, 100)))
_KEPT = 8192  # histories whose texts are remembered


class BigRecSettings(BaseModel):
    """What is tuned, on what, and what corrects the distances.

    Attributes:
        model: the language model, with weights that PyTorch reads.
        lora: its low-rank updates.
        things: what items are called in the question.
        samples: training examples, drawn by seed; an epoch passes over all of them.
        recent: titles of a history that are told, the last ones.
        longest: tokens of a title that are read, compared and written.
        beam: texts followed while writing, of which the likeliest counts; 1 is greedy.
        batch: examples a step.
        watched: validation cases whose titles' likelihood picks the weights.
        judged: validation cases whose NDCG@10 picks gamma.
        signal: what the distances are divided by.
        sasrec: settings of the SASRec that is fitted beside it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Any = "smollm2"
    lora: LoraSettings = LoraSettings()
    things: str = "products"
    samples: int = Field(default=1024, ge=1)
    recent: int = Field(default=10, ge=1)
    longest: int = Field(default=32, ge=2)
    beam: int = Field(default=4, ge=1)
    batch: int = Field(default=16, ge=1)
    watched: int = Field(default=100, ge=1)
    judged: int = Field(default=500, ge=1)
    signal: Literal["popularity", "sasrec", "none"] = "sasrec"
    sasrec: dict[str, Any] = {}


class BigRecModule(FrozenModule, TrainedModule):
    """A language model with updates, and what it made of the catalogue without them.

    Attributes:
        titles: float32[n_items, width], the untuned model's states of all titles.
        popularity: float32[n_items], training interactions, from 0 to 1.
        gamma: float32[], weight of the correction, chosen on validation.
    """

    titles: Tensor
    popularity: Tensor
    gamma: Tensor

    def __init__(self, model: TorchModel, lora: LoraSettings, n_items: int) -> None:
        super().__init__(model, lora=lora)
        self.n_items = n_items
        self.register_buffer("titles", torch.zeros(n_items, self.width))
        self.register_buffer("popularity", torch.zeros(n_items))
        self.register_buffer("gamma", torch.zeros(()))


class BIGRec(TrainedRecommender):
    """BIGRec (S117): titles in free words, then the items nearest to them.

    Bao et al., 2023. First a language model learns, by low-rank updates on few examples, to go on
    from the titles of a history with the next title; it writes freely, held to no catalogue. Then
    what it wrote and all titles are read by the same model *without* updates, and items are ranked
    by the distance of their states. Distances go from 0 to 1 for each user and are divided by
    (1 + signal) ^ gamma, the signal being popularity or a SASRec's scores, from 0 to 1 too; one
    gamma is chosen, by validation NDCG@10.

    We depart from it where a title stands in quotes when it is read, so that the state of the
    closing quote speaks for it; where the prompt is one line; and where the epoch is picked by the
    likelihood of validation titles, as early stopping on their loss is.

    Modes:
        mixed: distances corrected by the signal.
        written: distances alone, gamma 0.
        signal: the signal alone.

    Args:
        train: the schedule; ``settings.batch`` says how large a step is.
        seed: of updates, examples, batches and noise.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`BigRecSettings`.

    Attributes:
        beside: the SASRec, where it is the signal.
    """

    name = "bigrec"
    around_weights = True
    modes = ("mixed", "written", "signal")
    batch: ClassVar[int] = 256
    settings_type = BigRecSettings
    settings: BigRecSettings
    module: BigRecModule
    writer: TitleWriter

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
        if self.settings.signal == "none":
            self.modes = ("written",)  # type: ignore[misc, assignment]
        self.beside: Recommender | None = None
        if self.settings.signal == "sasrec":
            below = self.folder / "sasrec" if self.folder else None
            cls = recommender("sasrec")
            self.beside = cls.create(self.settings.sasrec, seed=seed, folder=below, quiet=quiet)
        self._known: dict[bytes, tuple[str, Tensor]] = {}
        # Updates are switched off while titles are read, which two threads cannot do at once.
        self._lock = threading.RLock()

    @property
    def window(self) -> int | None:
        """The larger of what is told and what the signal reads."""
        if self.beside is None:
            return self.settings.recent
        read = self.beside.window
        return None if read is None else max(self.settings.recent, read)

    # fitting

    def _build(self, split: Split) -> BigRecModule:
        module = self._ready(split.dataset)
        began = time.monotonic()
        self.module = module
        reader = _States(self)
        module.titles.copy_(torch.from_numpy(cached_texts(reader, self._titles(split.dataset))))
        counts = torch.from_numpy(split.train_counts.astype(np.float32))
        module.popularity.copy_(_from_0_to_1(counts[None])[0])
        self.seconds["encode"] = time.monotonic() - began
        return module

    def _ready(self, dataset: Dataset) -> BigRecModule:
        source = torch_model(self.settings.model)
        self.writer = TitleWriter(
            source, self._titles(dataset), self.settings.things, self.settings.longest
        )
        return BigRecModule(source, self.settings.lora, dataset.n_items)

    @staticmethod
    def _titles(dataset: Dataset) -> list[str]:
        return list(dataset.titles(np.arange(dataset.n_items)))

    def _task(self, split: Split) -> Task:
        s = self.settings
        return NextTitle(
            self.module, self.writer, split, self.seed, s.samples, s.recent, s.batch, s.watched
        )

    def fit(self, split: Split) -> Self:
        """Tune, fit the signal, choose gamma on validation."""
        super().fit(split)
        if self.beside is not None:
            began = time.monotonic()
            self.beside.fit(split)
            if self.folder:
                (self.folder / "sasrec" / "checkpoint.safetensors").unlink(missing_ok=True)
            self.seconds["sasrec"] = time.monotonic() - began
        self.training["grounding"] = self._choose(split)
        return self

    @torch.no_grad()
    def _choose(self, split: Split) -> dict[str, Any]:
        """One gamma for all metrics and cut-offs; what each part is worth on validation."""
        cases, began = split.valid, time.monotonic()
        if len(cases) > self.settings.judged:
            # Drawn as the cases of a run's figures are, so that their texts are written once.
            order = np.random.default_rng(0).permutation(len(cases))
            cases = cases.take(np.sort(order[: self.settings.judged]))
        if not len(cases):
            return {}
        asked, told = Requests.of(cases), dict[str, Any](cases=len(cases))
        texts, far = self.written(asked), self._far(asked)
        exact = set(self._titles(split.dataset))
        told["exact_titles"] = sum(text in exact for text in texts) / len(texts)
        told["distinct"] = len(set(texts))

        def judge(scores: Tensor) -> float:
            return ranked_ndcg(top_k(scores, 10, forbidden=asked.forbidden()).items, cases.targets)

        figures = {"written": judge(-far)}
        if self.settings.signal != "none":
            pull = self._pull(asked)
            tried = [(judge(_mixed(far, pull, gamma)), -gamma) for gamma in GAMMAS]
            figures["mixed"], chosen = max(tried)
            self.module.gamma.fill_(-chosen)
            figures["signal"] = judge(pull.expand_as(far).clone())
        self.seconds["ground"] = time.monotonic() - began
        return {"gamma": float(self.module.gamma), "valid_ndcg@10": figures, **told}

    def forget(self) -> None:
        """Drop what was written."""
        self._known = {}

    # the two steps

    def written(self, requests: Requests) -> list[str]:
        """The text that is written for each request; what stands in a title is found by it."""
        return [text for text, _ in self._said(requests.history)]

    @torch.no_grad()
    def _said(self, history: Ragged) -> list[tuple[str, Tensor]]:
        """Each row's text and the untuned model's state of it."""
        short = history.last(self.settings.recent)
        rows = [np.ascontiguousarray(short[row], dtype=np.int32) for row in range(len(short))]
        keys = [row.tobytes() for row in rows]
        with self._lock:
            if len(self._known) > _KEPT:
                self._known = {}
            known = self._known
            fresh = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
            if fresh:
                self.module.eval()
                texts = self.writer.write(self.module, list(fresh.values()), self.settings.beam)
                known.update(zip(fresh, zip(texts, self.states(texts), strict=True), strict=True))
            return [known[key] for key in keys]

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> Tensor:
        """float32[n, width], the untuned model's states at the ends of quoted texts."""
        module = self.module
        cut = [self.writer.tokens(text) for text in texts]
        out = torch.zeros(len(texts), module.width)
        with self._lock, module.untuned():
            module.eval()
            for part in by_length([len(row) + 2 for row in cut], TOKENS):
                quoted = self.writer.composer.compose([['"', *cut[row], '"'] for row in part])
                out[part] = module.last(quoted).float().cpu()
        return out

    def _far(self, requests: Requests) -> Tensor:
        """float32[n, n_items], distances of what was written, from 0 to 1 in each row."""
        if not len(requests):
            return torch.zeros(0, self.module.n_items)
        said = torch.stack([state for _, state in self._said(requests.history)])
        # Products of matrices would leave equal texts some way apart.
        exactly = "donot_use_mm_for_euclid_dist"
        return _from_0_to_1(torch.cdist(said, self.module.titles.cpu(), compute_mode=exactly))

    def _pull(self, requests: Requests) -> Tensor:
        """float32[n or 1, n_items], the signal, from 0 to 1 in each row."""
        if self.beside is None:
            return self.module.popularity.cpu()[None]
        return _from_0_to_1(self.beside.score(requests).cpu())

    # answers

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: minus the corrected distances, at most 0."""
        return self._scores(requests, self.modes[0])

    @torch.no_grad()
    def _scores(self, requests: Requests, mode: str) -> Tensor:
        if mode == "signal":
            return self._pull(requests).expand(len(requests), -1).clone()
        far = self._far(requests)
        if mode == "written":
            return -far
        return _mixed(far, self._pull(requests), float(self.module.gamma))

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        scores, forbidden = self._scores(requests, mode), requests.forbidden()
        if requests.candidates is None:
            return top_k(scores, k, forbidden=forbidden)
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        return top_k(scores.gather(1, items.clamp(min=0)), k, forbidden=forbidden, items=items)

    # storage

    def save(self, folder: str | Path) -> None:
        """Write updates, states of titles and gamma, the adapter for other uses, and the signal."""
        super().save(folder)
        s = self.settings
        self.module.save_adapter(
            Path(folder) / "adapter",
            f"BIGRec (S117): the next title behind those of a history, learnt from {s.samples} "
            f"examples with seed {self.seed}.",
        )
        if self.beside is not None:
            self.beside.save(Path(folder) / "sasrec")

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> BigRecModule:
        module = self._ready(dataset)
        try:
            config = json.loads((folder / "adapter" / "adapter_config.json").read_text("utf-8"))
            known = config["base_model_name_or_path"]
        except (OSError, ValueError) as error:
            raise OnomaError(f"cannot read the adapter ({error})", where=str(folder)) from error
        if known != module.source:
            raise OnomaError(
                f"the language model is {module.source}, it was tuned on {known}",
                where=str(folder),
                fix="Use the same model, or fit it again with onoma run",
            )
        if self.beside is not None:
            self.beside = type(self.beside).load(folder / "sasrec", dataset)
        return module


class _States(TextEncoder):
    """The untuned model's states as an encoder, for the cache; their lengths are not one."""

    name = "bigrec-states"

    def __init__(self, owner: BIGRec) -> None:
        super().__init__(("title",))
        self.owner = owner

    def settings(self) -> dict[str, Any]:
        return {"model": self.owner.module.source, "longest": self.owner.settings.longest}

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # Equal titles share one state, so that nothing but the order of codes parts them.
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        states: NDArray[np.float32] = self.owner.states(distinct).numpy()
        return states[[place[text] for text in texts]]


def _from_0_to_1(values: Tensor) -> Tensor:
    """float32[n, m], each row's smallest to 0 and its largest to 1; 0 where all are equal."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return (values - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)


def _mixed(far: Tensor, pull: Tensor, gamma: float) -> Tensor:
    """float32[n, n_items], minus distance / (1 + signal) ^ gamma."""
    return -far * torch.exp(-gamma * torch.log1p(pull))
