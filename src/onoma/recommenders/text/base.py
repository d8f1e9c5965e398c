"""What text recommenders share: names in tokens, questions, answers under the trie, storage."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.dataset.files import write_text
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.indexing import ItemIndex
from onoma.language.pulling import weights_folder
from onoma.neural.beam import beam_search, exhaustive
from onoma.neural.device import autocast, device
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.generative.naming import NameSettings, NamesItems
from onoma.recommenders.text.corpus import Corpus, Part
from onoma.recommenders.text.free import free_search
from onoma.recommenders.text.mixture import Mixture
from onoma.recommenders.text.module import TextModule
from onoma.recommenders.text.prompts import Prompt, Values, Writer, collection
from onoma.recommenders.text.spelling import Form, Spelling
from onoma.recommenders.text.tasks import Asker, Question, able, user_word
from onoma.recommenders.text.vocabulary import Vocabulary

_ROWS = 64  # questions read at once when answering
_ANSWERS = 512  # answers weighed at once


class TextSettings(NameSettings):
    """The model, the tasks and the names.

    Attributes:
        width: of a model that is trained from scratch.
        layers: its blocks (an encoder-decoder has as many twice).
        heads: its attention heads.
        inner: of its feed-forward.
        dropout: rate.
        checkpoint: a transformers folder to start from instead, or a model that was pulled, if it
            is of the right kind.
        vocabulary: subwords learnt from the training texts; a checkpoint brings its own.
        form: how names are said: ``tokens``, ``text`` or ``auto``.
        prompts: a packaged collection or a YAML file.
        families: examples a user and epoch of each family of tasks.
        candidates: items to choose from, where a prompt shows some.
        length: items of a history that are read, the last ones.
        longest: tokens of a question; a longer one loses the oldest items of its history.
        batch: examples a step; ``train.batch_tokens`` bounds the tokens that pass at once.
        judged: validation cases that pick the weights, evenly spaced; all where 0.
        measured: test events that each family's figures are taken on; all where 0.
    """

    width: int = Field(default=128, ge=8)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    inner: int = Field(default=512, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    checkpoint: str | None = None
    vocabulary: int = Field(default=4000, ge=300)
    form: Form = "auto"
    prompts: str = "p5"
    families: dict[str, int] = {"sequential": 1}
    candidates: int = Field(default=20, ge=2)
    beam: int = Field(default=20, ge=1)
    length: int = Field(default=20, ge=1)
    longest: int = Field(default=256, ge=16)
    batch: int = Field(default=64, ge=1)
    judged: int = Field(default=1000, ge=0)
    measured: int = Field(default=1000, ge=0)


class TextRecommender(NamesItems):
    """Trains a language model on questions and answers; items are answered under the trie.

    Modes:
        generate: the answer to the first prompt for the next item, spelled under the trie.
    """

    modes = ("generate",)
    reads = frozenset({"history", "users"})
    settings: TextSettings
    module: TextModule
    vocabulary: Vocabulary
    spelling: Spelling
    asks = ("sequential", "next")  # the family and kind that recommend

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        settings = self.settings
        self.prompts = collection(settings.prompts)
        known = {prompt.family for prompt in self.prompts}
        if unknown := set(settings.families) - known - set(self.more_families):
            raise OnomaError(
                f"families: {min(unknown)!r} has no prompts",
                where=settings.prompts,
                fix=f"Known: {', '.join(sorted(known))}",
            )
        if not self.prompts_of(*self.asks):
            raise OnomaError("no prompt asks for the next item", where=settings.prompts)

    more_families: tuple[str, ...] = ()  # those that need no prompts

    def prompts_of(self, family: str, kind: str | None = None, held: bool = False) -> list[Prompt]:
        """The prompts of a family that training sees, or those it does not."""
        return [
            p for p in self.prompts
            if p.family == family and p.held == held and kind in (None, p.kind)
        ]  # fmt: skip

    # fitting

    def corpus(self, split: Split, part: Part) -> Corpus:
        """The events of a part with their texts."""
        return Corpus.of(split, part, self.settings.length)

    def able(self, corpus: Corpus, family: str) -> NDArray[np.int64]:
        """int64[m], the events that a family can ask about."""
        return able(corpus, self.prompts_of(family))

    def asker(self, split: Split, corpus: Corpus) -> Asker:
        """Makes questions about a corpus; wrong answers come from the items of training."""
        return Asker(corpus, np.flatnonzero(split.train_counts), self.settings.candidates)

    def question(
        self, asker: Asker, prompts: Sequence[Prompt], event: int, rng: np.random.Generator
    ) -> Question | None:
        """An example of one of the prompts; None where none fits the event."""
        return asker.question(prompts, event, rng)

    @property
    def checkpoint(self) -> str | None:
        """The transformers folder whose weights training starts from; None: from scratch."""
        given = self.settings.checkpoint
        return None if given is None else str(weights_folder(given))

    @abstractmethod
    def _configure(self, size: int | None) -> Any:
        """The configuration for a vocabulary of a size; None asks for the checkpoint's own."""

    @abstractmethod
    def _module(self, config: Any, n_items: int, checkpoint: str | None) -> TextModule:
        """A module with fresh weights or those of a checkpoint."""

    def _build(self, split: Split) -> TextModule:
        self._name_items(split)
        assert self.index is not None
        settings, checkpoint = self.settings, self.checkpoint
        if checkpoint is None:
            self.vocabulary = Vocabulary.learnt(self._texts(split), settings.vocabulary)
        else:
            own = self._configure(None)
            self.vocabulary = Vocabulary.of_checkpoint(checkpoint, own.vocab_size)
        self.spelling = Spelling.of(self.index, self.vocabulary, settings.form)
        _ = self.spelling.trie
        torch.manual_seed(self.seed)
        module = self._module(
            self._configure(self.spelling.size), split.dataset.n_items, checkpoint
        )
        module.seen[torch.from_numpy(split.train.values.astype(np.int64))] = True
        self._ready(split.dataset.items)
        return module

    def _texts(self, split: Split) -> list[str]:
        """What a vocabulary is learnt from: prompts, the catalogue and training texts."""
        asked = [text for p in self.prompts for text in (p.ask, p.answer)]
        corpus = self.corpus(split, "train")
        return [*asked, *item_texts(split.dataset.items), *corpus.headlines, *corpus.reviews]

    def _ready(self, items: pl.DataFrame, before: Sequence[str] = ()) -> None:
        """With the titles of items, after those that are known before."""
        titles = items.select(pl.coalesce("title", "item_id"))["title"].to_list()
        self.titles = [*before, *titles]
        self.writer = Writer(self.vocabulary, self.spelling, self.settings.longest)

    def _task(self, split: Split) -> Task:
        return Mixture(self, split)

    # questions and answers

    def tensors(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and words, both int64[n, l], and int64[n] lengths of what is asked."""
        rows = [q.written or self.writer.written(q.prompt.ask, q.values) for q in questions]
        lengths = np.array([len(row[0]) for row in rows], dtype=np.int64)
        tokens = np.full((len(rows), int(lengths.max(initial=1))), self.vocabulary.pad, np.int64)
        words = np.zeros_like(tokens)
        for row, (ids, of, *_) in enumerate(rows):
            tokens[row, : len(ids)], words[row, : len(ids)] = ids, of
        where = device()
        return (
            torch.from_numpy(tokens).to(where),
            torch.from_numpy(words).to(where),
            torch.from_numpy(lengths).to(where),
        )

    def answers(self, questions: Sequence[Question]) -> Tensor:
        """int64[n, l] tokens of what is to be answered, the end included, -1 behind."""
        return self._padded(
            [
                q.written[2] if q.written else self.writer.written(q.prompt.answer, q.values)[0]
                for q in questions
            ]
        )

    def answer_tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """int64[m, l], tokens of plain answers, the end included, -1 behind."""
        found: NDArray[np.int64] = (
            self._padded([self.vocabulary.encode(x)[0] for x in texts]).cpu().numpy()
        )
        return found

    def _padded(self, rows: Sequence[NDArray[np.integer]]) -> Tensor:
        out = np.full((len(rows), max(map(len, rows)) + 1), -1, np.int64)
        for row, ids in enumerate(rows):
            out[row, : len(ids)], out[row, len(ids)] = ids, self.vocabulary.end
        return torch.from_numpy(out).to(device())

    def _parts(self, questions: Sequence[Question]) -> list[tuple[NDArray[np.int64], Any]]:
        """Rows and what the model read of them, those of about equal length together."""
        self.module.eval()
        tokens, words, lengths = self.tensors(questions)
        order = lengths.argsort(stable=True)
        out = []
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            width = int(lengths[rows].max())
            # float32: a row's answer ignores its batch
            read = self.module.read(tokens[rows, :width], words[rows, :width], lengths[rows])
            out.append((rows.cpu().numpy(), read))
        return out

    @torch.no_grad()
    def likelihood(
        self, questions: Sequence[Question], answers: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[n, c], log-probabilities of int[n, c, l] answers, -1 behind their ends."""
        out = np.zeros(answers.shape[:2], dtype=np.float32)
        count = answers.shape[1]
        for rows, context in self._parts(questions) if len(questions) else []:
            for start in range(0, len(rows) * count, _ANSWERS):
                place = np.arange(start, min(start + _ANSWERS, len(rows) * count))
                asked, column = place // count, place % count
                told = answers[rows[asked], column].astype(np.int64)
                said = torch.from_numpy(told).to(context.device)
                part = context[torch.from_numpy(asked).to(context.device)]
                logp = torch.log_softmax(self.module.answers(part, said).float(), -1)
                logp = logp.gather(2, said.clamp(min=0)[:, :, None])[:, :, 0]
                total = (logp * (said >= 0)).sum(1)
                out[rows[asked], column] = total.cpu().numpy()
        return out

    @torch.no_grad()
    def generate(self, questions: Sequence[Question], longest: int = 48) -> list[str]:
        """The greedy answer to each question."""
        out = [""] * len(questions)
        for rows, context in self._parts(questions) if len(questions) else []:
            said, _ = free_search(self.module.speller(), context, self.vocabulary.end, longest)
            for row, text in zip(rows, self.vocabulary.decode(said[:, 0].tolist()), strict=True):
                out[row] = text
        return out

    @torch.no_grad()
    def unguarded(self, questions: Sequence[Question], beam: int) -> NDArray[np.int64]:
        """int64[n, beam], the items that a beam without the trie names; -1 where it names none."""
        depth = self.spelling.trie.depth
        out = np.full((len(questions), beam), -1)
        for rows, context in self._parts(questions) if len(questions) else []:
            said, _ = free_search(self.module.speller(), context, self.vocabulary.end, depth, beam)
            flat = said.flatten(0, 1).cpu().numpy()
            out[rows, : said.shape[1]] = self.spelling.trie.find(flat).reshape(len(rows), -1)
        return out

    # recommending

    def asked(self, requests: Requests, prompt: Prompt | None = None) -> list[Question]:
        """The question for the next item, one a request."""
        prompt = self.prompts_of(*self.asks)[0] if prompt is None else prompt
        users = np.full(len(requests), -1) if requests.users is None else requests.users
        history = requests.history.last(self.settings.length)
        return [
            Question(prompt, self._request(requests, row, int(users[row]), history[row]))
            for row in range(len(requests))
        ]

    def _request(
        self, requests: Requests, row: int, user: int, history: NDArray[np.integer]
    ) -> Values:
        return {
            "user": user_word(user),
            "history": history if len(history) else "nothing",
            "titles": [self.titles[item] for item in history] or "nothing",
        }

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: the log-probability of every name; slow, for small catalogues."""
        out = torch.zeros(len(requests), self.module.n_items)
        for rows, context in self._parts(self.asked(requests)) if len(requests) else []:
            with autocast(device().type):
                found = exhaustive(self.module.speller(), context, self.spelling.trie)
            out[torch.from_numpy(rows)] = found.cpu()
        return out

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is None:
            return self.answer(requests, k)
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        items = items.sort(dim=1, descending=True).values  # what pads comes last
        return top_k(self._named(requests, items), k, forbidden=requests.forbidden(), items=items)

    @torch.no_grad()
    def _named(self, requests: Requests, items: Tensor) -> Tensor:
        """float32[n, c], the log-probabilities of the names of int64[n, c] items, -1 behind them.

        A question is read once, and none but these names are said after it.
        """
        out = torch.full(items.shape, -torch.inf)
        step = max(1, _ANSWERS // max(1, items.shape[1]))
        for rows, context in self._parts(self.asked(requests)) if len(requests) else []:
            for start in range(0, len(rows), step):
                some = torch.from_numpy(rows[start : start + step])
                wide = int((items[some] >= 0).sum(dim=1).max())
                for left in range(0, wide, _ANSWERS):
                    columns = slice(left, min(left + _ANSWERS, wide))
                    names = self.spelling.tokens[items[some, columns].clamp(min=0).numpy()]
                    with autocast(device().type):
                        found = self._said(
                            context[start : start + step],
                            torch.from_numpy(names.astype(np.int64)).to(context.device),
                        )
                    out[some, columns] = found.cpu()
        return out

    def _said(self, context: Any, names: Tensor) -> Tensor:
        """float32[n, c], log-probabilities of int64[n, c, l] names, -1 behind their ends."""
        speller, (n, c, _) = self.module.speller(), names.shape
        state, codes = speller.begin(context), None
        out = torch.zeros(n, c, device=names.device)
        for level in range(int((names >= 0).sum(dim=2).max())):
            logits, state = speller.step(state, level, codes)
            if level == 0:  # all names go on from one beginning
                state = speller.reorder(state, torch.zeros_like(names[:, :, 0]))
            codes = names[:, :, level].clamp(min=0)
            logp = torch.log_softmax(logits.float(), -1).expand(-1, c, -1)
            out += logp.gather(2, codes[:, :, None])[:, :, 0] * (names[:, :, level] >= 0)
        return out

    def answer(
        self,
        requests: Requests,
        k: int,
        questions: Sequence[Question] | None = None,
    ) -> Ranking:
        """The k best items that the beam finds, asked as :meth:`asked` or by other questions."""
        items, scores = self.spelled(requests, k, questions)
        return self.join_unseen(items, scores, requests, k)

    @torch.no_grad()
    def spelled(
        self, requests: Requests, k: int, questions: Sequence[Question] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The names that the beam finds for each request.

        Returns:
            int64[n, b] items, -1 where there are no more; float32[n, b] log-probabilities.
        """
        asked = self.asked(requests) if questions is None else questions

        def find(
            wide: NDArray[np.int64], beam: int, without: Ragged | None
        ) -> tuple[Tensor, Tensor]:
            items, scores = torch.full((len(wide), beam), -1), torch.zeros(len(wide), beam)
            for rows, context in self._parts([asked[int(row)] for row in wide]):
                barred = None if without is None else without.take(rows)
                with autocast(device().type):
                    found = beam_search(
                        self.module.speller(), context, self.spelling.trie, beam, without=barred
                    )
                at = torch.from_numpy(rows)
                items[at], scores[at] = (x.cpu() for x in found)
            return items, scores

        return self.search(requests, k, find)

    # more items, storage

    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        assert self.index is not None
        more = self._with_tensors(
            {"seen": torch.cat([self.module.seen, self.module.seen.new_zeros(len(codes))])},
            self.module.n_items + len(codes),
        )
        index = self.index.extended(codes)
        more.spelling = Spelling.of(index, self.vocabulary, self.settings.form)
        _ = more.spelling.trie
        more._ready(items, self.titles)
        return more

    def save(self, folder: str | Path) -> None:
        """Write weights, settings, the index, the tokenizer and the configuration."""
        super().save(folder)
        self.vocabulary.save(Path(folder) / "tokenizer.json")
        about = {"vocabulary": self.vocabulary.describe(), "model": self.module.describe()}
        write_text(json.dumps(about, indent=2, default=str) + "\n", Path(folder) / "text.json")

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> TextModule:
        try:
            about = json.loads((folder / "text.json").read_text(encoding="utf-8"))
            self.vocabulary = Vocabulary.load(folder / "tokenizer.json", about["vocabulary"])
            config = self._restored(about["model"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise OnomaError(
                f"cannot read the model ({error})",
                where=str(folder),
                fix="Fit it again with onoma run",
            ) from error
        self.index = ItemIndex.load(folder / "index")
        self.spelling = Spelling.of(self.index, self.vocabulary, self.settings.form)
        self._ready(dataset.items)
        return self._module(config, dataset.n_items, None)

    @abstractmethod
    def _restored(self, about: dict[str, Any]) -> Any:
        """The configuration that :meth:`TextModule.describe` gave."""
