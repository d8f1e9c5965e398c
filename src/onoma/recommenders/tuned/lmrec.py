"""One small language model that learns to write histories and, at their ends, to match items."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from onoma.dataset import Dataset, Split, split
from onoma.dataset.load import load
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.neural.batching import SequenceBatches
from onoma.neural.device import autocast, device
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.storage import read_model
from onoma.recommenders.text.vocabulary import Vocabulary
from onoma.recommenders.trained import TrainedRecommender
from onoma.recommenders.tuned.histories import LMRecModule, LMRecSettings, lines
from onoma.recommenders.tuning import validation_ndcg


class LMRec(TrainedRecommender):
    """LMRec (S109): a language model of histories that matches users and items as well.

    Shin et al., Findings of ACL 2023. A history is the texts of its items one after the other. One
    small causal model, trained from nothing with a tokenizer of its own, learns to write such texts
    and, with the states at the ends of histories and of items, which item comes next: binary
    surprise at the next item and at drawn ones. Texts of other services may be mixed in for the
    language model alone.

    We depart from it where every item's text closes with the end token, so that one pass over a
    history gives the state behind each of its items, all of which are matched; and where the
    products have a bias, for there are many more drawn items than next ones.

    Args:
        train: the schedule; ``batch_tokens`` counts items of histories.
        seed: of weights, batches and noise.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`LMRecSettings`.
    """

    name = "lmrec"
    settings_type = LMRecSettings
    settings: LMRecSettings
    module: LMRecModule
    vocabulary: Vocabulary

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
        if self.settings.freeze and self.settings.start is None:
            raise OnomaError(
                "a frozen language model needs one to start from",
                where=f"{self.name}: freeze",
                fix="Set recommender.start to the folder of a finished run",
            )
        self._table: Tensor | None = None

    def _build(self, split: Split) -> LMRecModule:
        began, s = time.monotonic(), self.settings
        self.other = _Other.of(s.agnostic, s.fields) if s.agnostic else None
        own = item_texts(split.dataset.items, s.fields)
        if s.start is None:
            more = self.other.texts if self.other else []
            self.vocabulary = Vocabulary.learnt([*own, *more], s.vocabulary)
        else:
            self.vocabulary = _tokenizer(Path(s.start))
        self.seconds["encode"] = time.monotonic() - began
        module = self._module(self.vocabulary.base, self._tokens(own))
        if s.start is not None:
            _take_over(module, Path(s.start))
            module.lm.requires_grad_(not s.freeze)
        return module

    def _module(self, size: int, texts: Tensor) -> LMRecModule:
        return LMRecModule(self.settings, size, self.vocabulary.end, texts)

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        """int32[n, words], -1 behind each text."""
        rows = self.vocabulary.encode_all(texts)
        out = np.full((len(rows), self.settings.words), -1, dtype=np.int32)
        for at, row in enumerate(rows):
            out[at, : len(row)] = row[: self.settings.words]
        return torch.from_numpy(out)

    def _task(self, split: Split) -> Task:
        return _Joint(self, split)

    def forget(self) -> None:
        """Drop the items' vectors."""
        self._table = None

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], products of the maps of users and of items."""
        module = self.module.eval()
        padded = requests.history.last(self.settings.length).padded(module.n_items)
        items = torch.from_numpy(padded.astype(np.int64)).to(device())
        items = F.pad(items, (0, 1), value=module.n_items)  # at least one column
        users = module.of_user(module.at_ends(items)).float()
        return (users @ self._items().T).cpu()

    @torch.no_grad()
    def _items(self) -> Tensor:
        if self._table is None:
            module = self.module.eval()
            self._table = module.items(torch.arange(module.n_items, device=device()))
        return self._table

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what users are multiplied with."""
        found: NDArray[np.float32] = self._items().cpu().numpy()
        return found

    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """New items by their texts."""
        new = self._tokens(item_texts(items, self.settings.fields)).to(self.module.texts)
        texts = torch.cat([self.module.texts, new])
        more = self._with_tensors({"texts": texts}, len(texts))
        more.forget()
        return more

    def save(self, folder: str | Path) -> None:
        """Write weights, settings and the tokenizer."""
        super().save(folder)
        self.vocabulary.save(Path(folder) / "tokenizer.json")

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> LMRecModule:
        if len(weights["texts"]) != dataset.n_items:
            raise ValueError("another catalogue")
        self.vocabulary = _tokenizer(folder)
        return self._module(len(weights["lm.embed_tokens.weight"]), weights["texts"])


class _Other:
    """Histories of another service.

    Attributes:
        texts: of its items, by code.
        cut: its data, of which only the training part is read.
    """

    def __init__(self, texts: list[str], cut: Split) -> None:
        self.texts, self.cut = texts, cut

    @classmethod
    def of(cls, path: str, fields: Sequence[str]) -> Self:
        dataset = load(path)
        return cls(item_texts(dataset.items, fields), split(dataset))


class _Joint:
    """The trainer's view: texts of histories, and what follows each of their ends."""

    def __init__(self, owner: LMRec, split: Split) -> None:
        self.owner, self.split = owner, split
        s, room = owner.settings, owner.train.batch_tokens
        self.batches = SequenceBatches(split.train, room, s.length)
        self.others: SequenceBatches | None = None
        if owner.other is not None and s.language:
            more = max(2, round(room * s.mix / (1 - s.mix)))
            self.others = SequenceBatches(owner.other.cut.train, more, s.length)
            self.theirs = owner._tokens(owner.other.texts).to(device())

    def plan(
        self, seed: int, epoch: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64] | None]]:
        """Windows of our own, and those of the other service that are read beside them."""
        own = self.batches.plan(seed, epoch)
        if self.others is None:
            return [(rows, None) for rows in own]
        return list(zip(own, itertools.cycle(self.others.plan(seed, epoch)), strict=False))

    def loss(self, batch: tuple[NDArray[np.int64], NDArray[np.int64] | None]) -> Tensor:
        """Language and matching, by their weights."""
        own, other = batch
        module, s, where = self.owner.module, self.owner.settings, device()
        items = torch.from_numpy(self.batches.windows.take(own).padded(module.n_items).astype(int))
        drawn = module.noise.integers(module.n_items, s.negatives).to(where)
        items = items.to(where)
        with autocast(where.type):
            rows, ends = lines(module.texts, items, module.end)
            states = module.states(rows)
            known = items[:, 1:] != module.n_items
            at = ends[:, :-1][known]
            users = states[known.nonzero()[:, 0], at]
            loss = s.matching * module.match(users, items[:, 1:][known], drawn)
        if not s.language:
            return loss
        said, count = module.language(rows, states)
        if other is not None:
            assert self.others is not None
            theirs = self.others.windows.take(other).padded(len(self.theirs)).astype(int)
            with autocast(where.type):
                rows, _ = lines(self.theirs, torch.from_numpy(theirs).to(where), module.end)
                states = module.states(rows)
            more, beside = module.language(rows, states)
            said = (said * count + more * beside) / (count + beside)
        return loss + s.language * said

    def validate(self) -> float:
        self.owner.forget()
        limit = self.owner.settings.judged or None
        figure = validation_ndcg(self.owner, self.split.valid, limit=limit)
        self.owner.forget()
        return figure


def _tokenizer(folder: Path) -> Vocabulary:
    about = {"base": 0, "pad": 0, "end": 1}
    found = Vocabulary.load(folder / "tokenizer.json", about)
    found.base = found.tokenizer.get_vocab_size()
    return found


def _take_over(module: LMRecModule, folder: Path) -> None:
    """The language model of another run.

    Raises:
        OnomaError: it is of another size, or there is none.
    """
    _, arrays = read_model(folder, LMRec.name)
    weights = {
        key.removeprefix("lm/").replace("/", "."): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith("lm/")
    }
    try:
        module.lm.load_state_dict(weights)
    except RuntimeError as error:
        raise OnomaError(
            "the language model has another size",
            where=str(folder),
            fix="Give width, layers, heads and inner of that run",
        ) from error
