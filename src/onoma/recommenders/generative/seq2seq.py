"""What encoder-decoder recommenders share: one target a history, the beam, sampled lists."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from onoma.dataset import Dataset, Ragged, Split
from onoma.indexing import ItemIndex
from onoma.neural.batching import PrefixBatches
from onoma.neural.beam import beam_search, exhaustive
from onoma.neural.device import autocast, device
from onoma.neural.noise import Noise
from onoma.neural.sampling import sample_names
from onoma.neural.seq2seq import Encoded, NameDecoder
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.generative.naming import NameSettings, NamesItems, NamesModule
from onoma.recommenders.tuning import validation_ndcg


class Seq2SeqSettings(NameSettings):
    """Sizes of encoder and decoder, and how they are trained and asked.

    Attributes:
        width: model width d.
        layers: blocks of the encoder, and as many of the decoder.
        heads: attention heads.
        head_width: of each head.
        inner: of the feed-forward.
        dropout: rate.
        length: items of a history that are read, the last ones.
        batch: targets a training step; ``train.batch_tokens`` bounds the positions that pass at
            once, so memory does not grow with it.
        judged: validation cases that pick the weights, evenly spaced; all where 0.
        temperature: of the lists that the mode ``sample`` draws.
    """

    width: int = Field(default=128, ge=4)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=6, ge=1)
    head_width: int = Field(default=64, ge=1)
    inner: int = Field(default=1024, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    length: int = Field(default=20, ge=1)
    batch: int = Field(default=256, ge=1)
    judged: int = Field(default=5000, ge=0)
    temperature: float = Field(default=1.0, gt=0)


class Seq2SeqModule(NamesModule):
    """Reads histories, spells names. Subclasses add an encoder and :meth:`read`.

    Attributes:
        codes: int64[n_items, depth], the names.
        rows: int64[n_items + 1, depth], the decoder's vocabulary rows of each item; the last of
            padding.
        decoder: spells.
    """

    codes: Tensor
    rows: Tensor

    def __init__(self, index: ItemIndex, settings: Seq2SeqSettings) -> None:
        super().__init__()
        self.settings, self.n_items, self.noise = settings, index.n_items, Noise()
        self.decoder = NameDecoder(
            index.sizes, settings.width, settings.layers, settings.heads, settings.head_width,
            settings.inner, settings.dropout, self.noise,
        )  # fmt: skip
        padding = np.full((1, index.depth), -1)
        self.register_buffer("codes", torch.from_numpy(index.codes.astype(np.int64)))
        self.register_buffer("seen", torch.zeros(index.n_items, dtype=torch.bool))
        self.register_buffer(
            "rows", self.decoder.rows(np.vstack([index.codes, padding])), persistent=False
        )

    @abstractmethod
    def read(self, items: Tensor, lengths: Tensor, users: Tensor) -> Encoded:
        """What the encoder makes of histories.

        Args:
            items: int64[b, l] item codes, left aligned, ``n_items`` behind.
            lengths: int64[b], items in use.
            users: int64[b] user codes, -1 for strangers.
        """

    @abstractmethod
    def positions(self, items: int) -> int:
        """Positions that a history of so many items takes in the encoder."""

    def loss(self, context: Encoded, targets: Tensor) -> Tensor:
        """Mean over int64[b, f] items, ``n_items`` for none, of their names' cross-entropy."""
        none = targets == self.n_items
        codes = self.codes[targets.masked_fill(none, 0)].masked_fill(none[..., None], -1)
        return self.decoder.loss(context, codes)


class Seq2SeqRecommender(NamesItems):
    """Trains on every history up to a point and the item that followed; spells under the trie.

    Modes:
        generate: the beam.
        sample: names drawn without replacement, at a temperature; a history always draws the same.
    """

    modes = ("generate", "sample")
    reads = frozenset({"history", "users"})
    settings: Seq2SeqSettings
    module: Seq2SeqModule
    following = 1  # items after a point that training spells

    @property
    def history(self) -> int:
        """Items of a history that the module is given, the last ones."""
        return self.settings.length

    @abstractmethod
    def _module(self, dataset: Dataset, vectors: NDArray[np.float32]) -> Seq2SeqModule:
        """A fresh module of users, and of float32[n_items, dim] vectors of the items."""

    def _build(self, split: Split) -> Seq2SeqModule:
        vectors = self._name_items(split)
        torch.manual_seed(self.seed)
        module = self._module(split.dataset, vectors)
        module.seen[torch.from_numpy(split.train.values.astype(np.int64))] = True
        return module

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> Seq2SeqModule:
        self.index = ItemIndex.load(folder / "index")
        dim = weights["content"].shape[1] if "content" in weights else 0
        return self._module(dataset, np.zeros((dataset.n_items, dim), np.float32))

    def _task(self, split: Split) -> Task:
        return _NextName(self, split)

    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        old = self.module
        new = old.decoder.rows(codes).to(old.rows)
        more = torch.from_numpy(codes).to(old.codes)
        return self._with_tensors(
            {
                "codes": torch.cat([old.codes, more]),
                "rows": torch.cat([old.rows[:-1], new, old.rows[-1:]]),
                "seen": torch.cat([old.seen, torch.zeros_like(more[:, 0], dtype=torch.bool)]),
            },
            old.n_items + len(more),
        )

    @torch.no_grad()
    def encode(self, history: Ragged, users: NDArray[np.int32] | None = None) -> Encoded:
        """What the encoder reads in n histories, an empty one as padding of one item."""
        self.module.eval()
        where = device()
        short = history.last(self.history)
        lengths = np.maximum(short.lengths, 1)
        known = np.full(len(history), -1, np.int64) if users is None else users.astype(np.int64)
        parts, order = [], np.argsort(lengths, kind="stable")
        for part in np.array_split(order, max(1, -(-len(order) // 64))):
            items = short.take(part).padded(
                self.module.n_items, width=int(lengths[part].max(initial=1))
            )
            read = (items, lengths[part], known[part])
            # float32: a row's answer ignores its batch
            parts.append(self.module.read(*(torch.from_numpy(x).to(where) for x in read)))
        return Encoded.stack(parts)[torch.from_numpy(np.argsort(order)).to(where)]

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: the log-probability of every name; slow, for small catalogues."""
        assert self.index is not None
        with autocast(device().type):
            context = self.encode(requests.history, requests.users)
            return exhaustive(self.module.decoder, context, self.index.trie).cpu()

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if mode == "sample":
            items, scores = self.spelled(requests, k, drawn=True)
            return top_k(scores, k, forbidden=requests.forbidden(), items=items)
        if requests.candidates is not None:
            return super()._recommend(requests, k, mode)
        items, scores = self.spelled(requests, k)
        return self.join_unseen(items, scores, requests, k)

    @torch.no_grad()
    def spelled(self, requests: Requests, k: int, *, drawn: bool = False) -> tuple[Tensor, Tensor]:
        """The names that the beam finds, or draws, for each request.

        Returns:
            int64[n, b] items, -1 where there are no more; float32[n, b] log-probabilities, of
            drawn names with the noise that ordered them.
        """
        assert self.index is not None
        trie = self.index.trie
        with autocast(device().type):
            context = self.encode(requests.history, requests.users)
            lengths = context.lengths.cpu().numpy()

            def find(
                rows: NDArray[np.int64], beam: int, without: Ragged | None
            ) -> tuple[Tensor, Tensor]:
                order = np.argsort(lengths[rows], kind="stable")
                back = torch.from_numpy(np.argsort(order)).to(context.device)
                rows, without = rows[order], None if without is None else without.take(order)
                some = context[torch.from_numpy(rows).to(context.device)]
                if drawn:
                    keys = torch.from_numpy(_keys(requests.history.take(rows), self.seed))
                    items, scores = sample_names(
                        self.module.decoder, some, trie, beam, keys.to(some.device),
                        self.settings.temperature, without=without,
                    )  # fmt: skip
                else:
                    items, scores = beam_search(
                        self.module.decoder, some, trie, beam, without=without
                    )
                return items[back], scores[back]

            return self.search(requests, k, find)


def _keys(history: Ragged, seed: int) -> NDArray[np.int64]:
    """int64[n], a number for each history that only equal ones share."""
    rows = (np.ascontiguousarray(history[r], dtype=np.int64) for r in range(len(history)))
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(b"".join(digests), dtype=np.int64) ^ np.int64(seed)


class _NextName:
    """The trainer's view: a history up to a point spells the item that followed."""

    def __init__(self, owner: Seq2SeqRecommender, split: Split) -> None:
        self.owner, self.split = owner, split
        settings = owner.settings
        self.batches = PrefixBatches(split.train, settings.batch, owner.history, owner.following)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.batches.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        """Mean over the batch; all parts but the last have passed back already."""
        module = self.owner.module
        longest = int(self.batches.lengths[batch].max())
        rows = max(1, self.owner.train.batch_tokens // module.positions(longest))
        parts = np.array_split(batch, -(-len(batch) // rows))
        before = torch.zeros((), device=device())
        for number, part in enumerate(parts):
            loss = self._part(part) * (len(part) / len(batch))
            if number + 1 < len(parts):
                loss.backward()  # type: ignore[no-untyped-call]
                before += loss.detach()
        return loss + before

    def _part(self, part: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        items, lengths, users, targets = self.batches.tensors(part, module.n_items)
        with autocast(where.type):
            context = module.read(items.to(where), lengths.to(where), users.to(where))
            return module.loss(context, targets.to(where))

    def validate(self) -> float:
        judged = self.owner.settings.judged or None
        return validation_ndcg(
            self.owner, self.split.valid, mode=self.owner.judged_in, limit=judged
        )
