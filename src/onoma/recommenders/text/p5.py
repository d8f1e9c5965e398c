"""P5: recommendation tasks as text to text, one encoder-decoder for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.text import item_texts
from onoma.indexing import ItemIndex
from onoma.neural.beam import beam_search, exhaustive
from onoma.neural.device import autocast, device
from onoma.neural.seq2seq import Encoded
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Ranking, Requests
from onoma.recommenders.generative.naming import NameSettings, NamesItems
from onoma.recommenders.text.prompts import Prompt, Writer, collection
from onoma.recommenders.text.spelling import Form, Spelling
from onoma.recommenders.text.t5 import (
    T5Module,
    T5Speller,
    read_config,
    small_config,
    write_config,
)
from onoma.recommenders.text.tasks import Question, sequential
from onoma.recommenders.text.vocabulary import Vocabulary
from onoma.recommenders.tuning import validation_ndcg


class P5Settings(NameSettings):
    """The model, the tasks and the names.

    Attributes:
        width: of a T5 that is trained from scratch.
        layers: its blocks, encoder and decoder each.
        heads: its attention heads.
        inner: of its feed-forward.
        dropout: rate.
        checkpoint: a transformers folder with a T5 to start from instead.
        vocabulary: subwords learnt from the training texts; a checkpoint brings its own.
        whole_words: whether the tokens of a word or a name share a vector.
        form: how names are said: ``tokens``, ``text`` or ``auto``.
        prompts: a packaged collection or a YAML file.
        families: examples a user and epoch for each family of tasks.
        length: items of a history that are read, the last ones.
        longest: tokens of a question that are read.
        judged: validation cases that pick the weights, evenly spaced; all where 0.
    """

    width: int = Field(default=128, ge=8)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    inner: int = Field(default=512, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    checkpoint: str | None = None
    vocabulary: int = Field(default=4000, ge=300)
    whole_words: bool = True
    form: Form = "auto"
    prompts: str = "p5"
    families: dict[str, int] = {"sequential": 1}
    beam: int = Field(default=20, ge=1)
    length: int = Field(default=20, ge=1)
    longest: int = Field(default=256, ge=16)
    judged: int = Field(default=1000, ge=0)


class P5(NamesItems):
    """Text in, text out (Geng et al., RecSys 2022), with the names of Hua et al. (SIGIR-AP 2023).

    Modes:
        generate: the answer to the first sequential prompt, spelled under the trie of all names.
    """

    name = "p5"
    modes = ("generate",)
    reads = frozenset({"history", "users"})
    settings: P5Settings
    module: T5Module

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            P5Settings(**settings), TrainSettings.model_validate(train or {}), seed, folder, quiet
        )
        self.prompts = collection(self.settings.prompts)

    def prompts_of(self, family: str, kind: str | None = None, held: bool = False) -> list[Prompt]:
        """The prompts of a family that training sees, or those it does not."""
        return [
            p for p in self.prompts
            if p.family == family and p.held == held and kind in (None, p.kind)
        ]  # fmt: skip

    def _build(self, split: Split) -> T5Module:
        self._name_items(split)
        assert self.index is not None
        settings = self.settings
        if settings.checkpoint is None:
            self.vocabulary = Vocabulary.learnt(self._texts(split), settings.vocabulary)
            self.spelling = Spelling.of(self.index, self.vocabulary, settings.form)
            config = small_config(
                self.spelling.size, settings.width, settings.layers, settings.heads,
                settings.inner, settings.dropout,
            )  # fmt: skip
        else:
            config = read_config(Path(settings.checkpoint) / "config.json")
            self.vocabulary = Vocabulary.of_checkpoint(settings.checkpoint, config.vocab_size)
            self.spelling = Spelling.of(self.index, self.vocabulary, settings.form)
            config.vocab_size = self.spelling.size
        _ = self.spelling.trie
        torch.manual_seed(self.seed)
        module = T5Module(config, split.dataset.n_items, settings.whole_words, settings.checkpoint)
        module.seen[torch.from_numpy(split.train.values.astype(np.int64))] = True
        self._ready()
        return module

    def _texts(self, split: Split) -> list[str]:
        """What a vocabulary is learnt from: prompts, the catalogue and training texts."""
        asked = [text for p in self.prompts for text in (p.ask, p.answer)]
        return [*asked, *item_texts(split.dataset.items, ("title", "brand", "categories"))]

    def _ready(self) -> None:
        self.writer = Writer(self.vocabulary, self.spelling, self.settings.longest)

    def _task(self, split: Split) -> Task:
        return _Mixture(self, split)

    def tensors(self, questions: list[Question]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and words, both int64[n, l], and int64[n] lengths of what is asked."""
        rows = [self.writer.written(q.prompt.ask, q.values) for q in questions]
        lengths = np.array([len(ids) for ids, _ in rows])
        tokens = np.full((len(rows), int(lengths.max(initial=1))), self.vocabulary.pad, np.int64)
        words = np.zeros_like(tokens)
        for row, (ids, of) in enumerate(rows):
            tokens[row, : len(ids)], words[row, : len(ids)] = ids, of
        where = device()
        found = (torch.from_numpy(x).to(where) for x in (tokens, words, lengths))
        return tuple(found)  # type: ignore[return-value]

    def answers(self, questions: list[Question]) -> Tensor:
        """int64[n, l] tokens of what is to be answered, the end included, -1 behind."""
        rows = [self.writer.written(q.prompt.answer, q.values)[0] for q in questions]
        out = np.full((len(rows), max(map(len, rows)) + 1), -1, np.int64)
        for row, ids in enumerate(rows):
            out[row, : len(ids)], out[row, len(ids)] = ids, self.vocabulary.end
        return torch.from_numpy(out).to(device())

    @torch.no_grad()
    def read(self, questions: list[Question]) -> Encoded:
        """Encoder states of questions, 64 of about equal length at a time."""
        self.module.eval()
        rows = [self.tensors([q]) for q in questions]
        lengths = torch.tensor([int(row[2]) for row in rows])
        order = lengths.argsort(stable=True)
        parts = []
        for start in range(0, len(order), 64):
            part = [rows[int(i)] for i in order[start : start + 64]]
            longest = max(int(row[2]) for row in part)
            tokens, words = (
                torch.cat([torch.nn.functional.pad(row[at], (0, longest - row[at].shape[1]))
                           for row in part])
                for at in (0, 1)
            )  # fmt: skip
            # float32: a row's answer ignores its batch
            parts.append(self.module.read(tokens, words, torch.cat([row[2] for row in part])))
        return Encoded.stack(parts)[order.argsort().to(device())]

    def _asked(self, requests: Requests, prompt: Prompt | None = None) -> Encoded:
        n = len(requests)
        users = np.full(n, -1, np.int32) if requests.users is None else requests.users
        history = requests.history.last(self.settings.length)
        chosen = [prompt] if prompt else self.prompts_of("sequential", "next")
        return self.read(sequential(chosen, users, history, np.zeros(n, np.int32)))

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: the log-probability of every name; slow, for small catalogues."""
        if not len(requests):
            return torch.zeros(0, self.module.n_items)
        return exhaustive(T5Speller(self.module), self._asked(requests), self.spelling.trie).cpu()

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is not None:
            return super()._recommend(requests, k, mode)
        items, scores = self.spelled(requests, k)
        return self.join_unseen(items, scores, requests, k)

    @torch.no_grad()
    def spelled(
        self, requests: Requests, k: int, prompt: Prompt | None = None
    ) -> tuple[Tensor, Tensor]:
        """The names that the beam finds for each request, asked by the first prompt or another.

        Returns:
            int64[n, b] items, -1 where there are no more; float32[n, b] log-probabilities.
        """
        beams = self.beams(requests, k)
        items = torch.full((len(requests), int(beams.max(initial=1))), -1)
        scores = torch.full(items.shape, -torch.inf)
        context = self._asked(requests, prompt)
        speller = T5Speller(self.module)
        for beam in np.unique(beams):
            rows = torch.from_numpy(np.flatnonzero(beams == beam))
            rows = rows[context.lengths[rows.to(context.device)].cpu().argsort(stable=True)]
            found = beam_search(
                speller, context[rows.to(context.device)], self.spelling.trie, int(beam)
            )
            items[rows, : int(beam)], scores[rows, : int(beam)] = (x.cpu() for x in found)
        return items, scores

    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> P5:
        raise NotImplementedError

    def save(self, folder: str | Path) -> None:
        """Write weights, settings, the index, the tokenizer and the configuration."""
        super().save(folder)
        self.vocabulary.save(Path(folder) / "tokenizer.json")
        write_config(self.module.config, Path(folder) / "config.json")

    def _describe(self) -> dict[str, Any]:
        about = super()._describe()
        about["settings"]["vocabulary_ids"] = self.vocabulary.describe()
        return about

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> T5Module:
        raise NotImplementedError


class _Mixture:
    """The trainer's view: every epoch draws examples of each family for every user."""

    def __init__(self, owner: P5, split: Split) -> None:
        self.owner, self.split = owner, split

    def plan(self, seed: int, epoch: int) -> list[Any]:
        rng = np.random.default_rng([seed, epoch])
        train, count = self.split.train, self.owner.settings.families["sequential"]
        users = np.repeat(np.flatnonzero(train.lengths >= 2), count)
        at = 1 + (rng.random(len(users)) * (train.lengths[users] - 1)).astype(np.int64)
        cost = 24 + 4 * np.minimum(at, self.owner.settings.length)
        order = np.argsort(cost + rng.random(len(cost)), kind="stable")
        batches, start = [], 0
        while start < len(order):
            longest = cost[order[start]]
            stop = start + max(1, int(self.owner.train.batch_tokens // longest))
            part = order[start:stop]
            batches.append((users[part], at[part], int(rng.integers(2**31))))
            start = stop
        return [batches[i] for i in rng.permutation(len(batches))]

    def loss(self, batch: Any) -> Tensor:
        users, at, seed = batch
        owner, train = self.owner, self.split.train
        rng = np.random.default_rng(seed)
        stop = train.offsets[users] + at
        start = np.maximum(train.offsets[users], stop - owner.settings.length)
        history = Ragged.from_rows([train.values[a:b] for a, b in zip(start, stop, strict=True)])
        questions = sequential(
            owner.prompts_of("sequential"), users, history, train.values[stop], rng
        )
        with autocast(device().type):
            context = owner.module.read(*owner.tensors(questions))
            return owner.module.loss(context, owner.answers(questions))

    def validate(self) -> float:
        limit = self.owner.settings.judged or None
        return validation_ndcg(self.owner, self.split.valid, limit=limit)
