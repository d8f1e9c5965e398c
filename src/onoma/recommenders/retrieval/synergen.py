"""One transformer that recommends and searches, retrieves by a product and ranks what it found."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from onoma import encoding
from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.base import TextEncoder
from onoma.encoding.cache import cached_texts
from onoma.errors import OnomaError
from onoma.neural.batching import SequenceBatches
from onoma.neural.contextual import Asked, Read
from onoma.neural.device import autocast, device
from onoma.neural.trainer import Task
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval import searches
from onoma.recommenders.retrieval.shortlist import Anchored, Judge, TwoPass
from onoma.recommenders.retrieval.unified import SynerGenModule, SynerGenSettings, Told
from onoma.recommenders.transformer import ItemSequenceModule, TransformerRecommender, even
from onoma.recommenders.tuning import validation_ndcg


class SynerGen(TwoPass):
    """SynerGen (S011): one network recommends and searches, retrieves and ranks.

    "Contextualized Generative Recommender for Unified Search and Recommendation", 2025. A causal
    transformer reads purchases with their times. A retrieval token behind them, a query's or the
    learnt one of no query, becomes the vector whose products with all items are searched exactly.
    The best are fed back as ranking tokens, which read the history's keys and values of the first
    pass and the retrieval token, but not each other. Tokens are turned by place and by time.

    We know the paper from summaries and depart from it where a purchase that was searched for is
    one token and not two; where every place learns to recommend, the searched ones as well; and
    where the ranker's logit is added to the retriever's. The log of searches is made from the
    catalogue (:mod:`onoma.recommenders.retrieval.searches`); where it cannot be, the model trains
    without search, and refuses queries.

    Modes:
        rank: the ``shortlist`` first of the retriever in the ranker's order, the rest behind them.
        retrieve: the retriever alone.
    """

    name = "synergen"
    reads = frozenset({"history", "times", "query"})
    batch = 256
    settings_type = SynerGenSettings
    module_type = SynerGenModule
    module: SynerGenModule
    queries: list[str]

    @property
    def shown(self) -> int:
        """As :attr:`TwoPass.shown`."""
        return self.module.how.shortlist if self.module.head is not None else 0

    @property
    def searches(self) -> bool:
        """Whether queries are answered."""
        return self.module.say is not None and len(self.module.words) > 0

    def _found(self) -> dict[str, Any]:
        """What searches there were."""
        known = int((self.module.query_of >= 0).sum())
        fields = " and ".join(self.module.how.queries)
        told = f"{len(self.module.words)} queries from {fields}, of {known} items"
        if not self.module.how.search:
            told = "none: recommender.search is 0"
        elif not known:
            told = f"none: the catalogue has no {self.module.how.queries[0]}, trained without"
        return {"searches": told}

    def _build(self, split: Split) -> SynerGenModule:
        settings = self.settings
        assert isinstance(settings, SynerGenSettings)
        encoder = encoding.build(settings.encoder)
        if not isinstance(encoder, TextEncoder):
            raise OnomaError(f"{encoder.name} reads no texts", where=f"{self.name}: encoder")
        content = torch.from_numpy(encoding.cached(encoder, split))
        self.queries = searches.queries(split.dataset.items, settings.queries)
        distinct, query_of = self._numbered()
        words = torch.zeros(0, 1)
        if settings.search and distinct:
            words = torch.from_numpy(cached_texts(encoder, distinct))
        elif not settings.recommend:
            raise OnomaError(
                f"no searches to learn: the catalogue has no {settings.queries[0]}",
                where=split.dataset.name,
                fix="Set recommender.recommend to 1, or name columns in recommender.queries",
            )
        return SynerGenModule(
            split.dataset.n_items, settings, split.train_counts, content, words, query_of
        )

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        assert isinstance(self.settings, SynerGenSettings)
        self.queries = searches.queries(dataset.items, self.settings.queries)
        content, words = torch.zeros_like(weights["content"][:-1]), weights["words"]
        return SynerGenModule(
            dataset.n_items, self.settings, None, content, torch.zeros_like(words),
            torch.zeros_like(weights["query_of"]),
        )  # fmt: skip

    def _numbered(self) -> tuple[list[str], Tensor]:
        """The different queries, and int64[n_items] which one each item has; -1 for none."""
        number: dict[str, int] = {}
        codes = [number.setdefault(text, len(number)) if text else -1 for text in self.queries]
        return list(number), torch.tensor(codes, dtype=torch.int64)

    @cached_property
    def _known(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self._numbered()[0])}

    @cached_property
    def _reader(self) -> TextEncoder:
        """For queries that are not the catalogue's; it has learnt from those that are."""
        encoder = encoding.build(self.module.how.encoder)
        assert isinstance(encoder, TextEncoder)
        return encoder.fit(list(self._known))

    def actions(self, history: Ragged) -> Ragged:
        """int8, which purchases of whole histories were searches: 1 for those."""
        did = np.zeros(len(history.values), dtype=np.int8)
        if self.searches:
            able = (self.module.query_of >= 0).cpu().numpy()[history.values]
            did[:] = able & searches.searched(history, self.module.how.searched)
        return Ragged(history.offsets, did)

    def tokens(self, requests: Requests) -> Tensor:
        """float32[n, d], what each request asks; an empty text is no query.

        Raises:
            OnomaError: a query to a model that was trained without search.
        """
        module = self.module
        texts = [text.strip() for text in requests.query or [""] * len(requests)]
        out = module.no_query.expand(len(texts), -1)
        asked = [row for row, text in enumerate(texts) if text]
        if not asked:
            return out
        if not self.searches or module.say is None:
            raise OnomaError(
                "a query, but the model was trained without search",
                where=self.name,
                fix="Ask without one, or fit it with recommender.search=1 on a catalogue with "
                f"{module.how.queries[0]}",
            )
        words = torch.zeros(len(asked), module.words.shape[1], device=out.device)
        for row, index in enumerate(asked):
            if (known := self._known.get(texts[index])) is not None:
                words[row] = module.words[known]
        strange = [row for row, index in enumerate(asked) if texts[index] not in self._known]
        if strange:
            found = self._reader.encode_texts([texts[asked[row]] for row in strange])
            words[strange] = torch.from_numpy(found).to(words)
        return out.index_copy(0, torch.tensor(asked, device=out.device), module.say(words))

    def told(self, history: Ragged, times: Ragged | None) -> tuple[Told, Tensor]:
        """The last purchases of histories, and int64[n] the places of the very last.

        An empty history reads one padding item.
        """
        s, where = self.module.how, device()
        short = history.last(s.length)
        lengths = np.maximum(short.lengths, 1)
        width = int(lengths.max(initial=1))
        actions = self.actions(history).last(s.length)
        when = np.full((len(history), width), -1, dtype=np.int64)
        if times is not None:
            when = times.last(s.length).padded(-1, width=width)
        parts = (short.padded(self.module.n_items, width=width), actions.padded(0, width=width))
        items, did = (torch.from_numpy(part) for part in parts)
        told = Told(items.to(where), did.bool().to(where), torch.from_numpy(when).to(where))
        return told, torch.from_numpy(lengths - 1).to(where)

    @torch.no_grad()
    def passes(self, requests: Requests) -> tuple[Tensor, Judge]:
        """As :meth:`TwoPass.passes`: the second reuses what the first kept."""
        self.module.eval()
        module, table = self.module, self.item_table()
        told, ends = self.told(requests.history, requests.times)
        read = module.read(told, table, self._questions)
        asked = module.encoder.ask(read, self.tokens(requests)[:, None], ends[:, None])
        rows = torch.arange(len(ends), device=ends.device)

        def judge(items: Tensor) -> Tensor:
            vectors = F.embedding(items.to(table.device), table)
            return module.ranked(read, asked, rows, torch.zeros_like(rows), ends, vectors).cpu()

        return asked.states[:, 0].float(), judge

    def last_states(self, history: Ragged, times: Ragged | None = None) -> Tensor:
        """float32[n, d] of histories without a query."""
        return self.states(Requests(history, times=times))

    def states(self, requests: Requests) -> Tensor:
        """float32[n, d] of the retrieval tokens, some rows at a time."""
        parts = [self.passes(requests.slice(start, min(start + self.batch, len(requests))))[0]
                 for start in range(0, len(requests), self.batch)]  # fmt: skip
        return torch.cat(parts) if parts else torch.zeros(0, self.module.how.width)

    def item_table(self) -> Tensor:
        """As :meth:`TransformerRecommender.item_table`; the queries' tokens beside it."""
        if self._table is None:
            self.module.eval()
            with torch.no_grad():
                self._questions = self.module.questions()
        return super().item_table()

    def forget(self) -> None:
        """Drop what was computed of items and queries."""
        super().forget()
        for name in ("_known", "_reader"):
            self.__dict__.pop(name, None)

    def _task(self, split: Split) -> Task:
        return _Joint(self, split)


class _Joint(Anchored):
    """The next purchase without a query at every place, with one where it was searched for."""

    owner: SynerGen

    def __init__(self, owner: TransformerRecommender, split: Split) -> None:
        super().__init__(owner, split)
        tokens, length = owner.train.batch_tokens, owner.settings.length
        self.batches = SequenceBatches(split.train, tokens, length, split.train_times)
        did = self.owner.actions(split.train)
        self.did = Ragged(self.places.offsets, did.values[self.places.values])
        counts = torch.from_numpy(split.train_counts.astype(np.float32))
        self.log_share = (counts.clamp(min=1) / counts.sum().clamp(min=1)).log()

    def tensors(self, batch: NDArray[np.int64]) -> tuple[Told, Tensor, Tensor]:
        """Inputs, int64[b, l] next items, and bool[b, l] which of these were searched for."""
        n, where = self.owner.module.n_items, device()
        items, following = self.batches.tensors(batch, n)
        did = torch.from_numpy(self.did.take(batch).padded(0)).bool()
        parts = (items, did[:, :-1], self.batches.times(batch), following, did[:, 1:])
        items, before, times, following, did = (part.to(where) for part in parts)
        return Told(items, before & (items < n), times), following, did

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module = self.owner.module
        s = module.how
        told, following, did = self.tensors(batch)
        known = following != module.n_items
        table, questions = module.table(), module.questions()
        with autocast(following.device.type):
            read = module.read(told, table, questions)
        query = module.query_of[following.clamp(max=module.n_items - 1)]
        nothing = torch.full_like(query, len(questions) - 1)
        tasks = [(s.recommend, known, nothing), (s.search, known & did, query.clamp(min=0))]
        tasks = [task for task in tasks if task[0] and bool(task[1].any())]
        out = table.sum() * 0
        for weight, there, codes in tasks:
            with autocast(following.device.type):
                asked = module.everywhere(read, F.embedding(codes, questions))
            states = asked.states[there].float()
            loss = module.loss(*even(states, following[there]), table)
            if module.head is not None:
                count = max(1, s.anchors // len(tasks))
                loss = loss + self._ranked(read, asked, there, following, table, count)
            out = out + weight * loss
        return out

    def _ranked(
        self, read: Read, asked: Asked, there: Tensor, following: Tensor, table: Tensor, count: int
    ) -> Tensor:
        """The ranker's losses at some places: the next item among targets of others."""
        module = self.owner.module
        s, where = module.how, following.device
        rows, ends = self.anchors(there, count)
        right, targets = following[rows, ends][:, None], following[there]
        drawn = targets[module.noise.integers(len(targets), s.against).to(where)]
        items = torch.cat([right, drawn.expand(len(right), -1)], dim=1)
        with autocast(where.type):
            logits = module.ranked(read, asked, rows, ends, ends, F.embedding(items, table))
        # Noise-contrastive estimation (Gutmann and Hyvarinen 2012, section 2.2): what is met as a
        # negative as often as it is popular loses that, so that the logit stays the item's chance.
        logits = logits - self.log_share.to(where)[items] - float(np.log(s.against))
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1
        valid = F.pad(drawn != right, (1, 0), value=True)
        point = F.binary_cross_entropy_with_logits(logits, labels, weight=valid.float())
        pairs = F.softplus(logits[:, 1:] - logits[:, :1])[valid[:, 1:]]
        return s.point * point + s.pair * pairs.sum() / max(1, pairs.numel())

    def validate(self) -> float:
        """The geometric mean of the NDCG@10 of the tasks that are trained, by the retriever alone.

        So that a per cent counts alike in both: a query makes the figures of search much higher.
        """
        owner, valid = self.owner, self.split.valid
        s = owner.module.how
        asked = searches.asked_for(valid, owner.queries) if s.search and owner.searches else None
        owner.forget()
        cases = [valid] if s.recommend else []
        cases += [asked] if asked is not None and len(asked) else []
        figures = [validation_ndcg(owner, part, mode="retrieve") for part in cases]
        owner.forget()
        return float(np.prod(figures) ** (1 / max(1, len(figures))))
