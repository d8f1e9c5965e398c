"""Names in, names out: a packed decoder that learns at every position of a history at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onoma.dataset import Split
from onoma.indexing import ItemIndex
from onoma.neural.blocks import SequenceEncoder
from onoma.neural.device import autocast
from onoma.neural.noise import Noise
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests
from onoma.recommenders.generative.named import NamedModule, NamedRecommender, NamedSettings
from onoma.recommenders.transformer import NextItem


class PackedModule(NamedModule):
    """An item is the sum of the vectors of its codes, each level with a vocabulary of its own."""

    def __init__(self, index: ItemIndex, settings: NamedSettings) -> None:
        super().__init__(index, settings)
        self.noise = Noise()
        offsets = np.cumsum([0, *index.sizes])
        padding = np.full((1, index.depth), -1)
        rows = vocabulary_rows(np.vstack([index.codes, padding]), index.sizes)
        self.register_buffer("rows", rows, persistent=False)
        self.vocabulary = nn.Parameter(torch.randn(int(offsets[-1]) + 1, settings.width) * 0.02)
        self.encoder = SequenceEncoder(
            settings.width,
            settings.blocks,
            settings.heads,
            settings.length,
            settings.dropout,
            settings.input_dropout,
            self.noise,
        )
        self.add_speller(index)

    rows: Tensor

    def table(self) -> Tensor:
        """float32[n_items + 1, d]; the last row of the vocabulary stands for no code."""
        return self.sums(self.rows)

    def sums(self, rows: Tensor) -> Tensor:
        """float32[n, d], the summed vectors of int64[n, depth] rows."""
        last = len(self.vocabulary) - 1
        return nn.functional.embedding_bag(rows, self.vocabulary, mode="sum", padding_idx=last)

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.encoder(vectors)
        return out

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Mean of minus log p(name) of the next items."""
        codes = self.codes[targets.clamp(min=0)].masked_fill((targets < 0)[:, None], -1)
        with autocast(states.device.type):
            return self.depth.loss(self.enter(states), codes)


def vocabulary_rows(codes: NDArray[np.integer], sizes: Sequence[int]) -> Tensor:
    """int64[n, depth], the row of each code in one table of all levels; the last for no code."""
    offsets = np.cumsum([0, *sizes])
    return torch.from_numpy(np.where(codes < 0, offsets[-1], codes + offsets[:-1]))


class Packed(NamedRecommender):
    """Generative retrieval (Rajput et al., TIGER, NeurIPS 2023) by a decoder over whole items.

    A history is read as the sums of its items' code vectors and every position spells the item
    that follows, so one pass over a sequence trains on all its prefixes; TIGER's encoder-decoder
    reads a prefix a target. It knows items by their names alone: no item ids, no content.

    Modes:
        generate: names spelled under the trie.
    """

    name = "packed"
    modes = ("generate",)

    settings_type = NamedSettings
    module: PackedModule

    def _module(self, vectors: NDArray[np.float32]) -> NamedModule:
        assert self.index is not None
        return PackedModule(self.index, self.settings)

    def _task(self, split: Split) -> Task:
        return _Names(self, split)

    @torch.no_grad()
    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        assert self.index is not None
        module = self.module
        new = vocabulary_rows(codes, self.index.sizes).to(module.rows)
        return self._grown(
            module.sums(new),
            {
                "rows": torch.cat([module.rows[:-1], new, module.rows[-1:]]),
                **module.more_names(codes),
            },
        )

    def answer(self, states: Tensor) -> Tensor:
        """float32[n, n_items]: the log-probability of every name."""
        return self.every_name(states)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is not None:
            return super()._recommend(requests, k, mode)
        _, items, scores = self.spelled(requests, k)
        return self.join_unseen(items, scores, requests, k)


class _Names(NextItem):
    """The trainer's view: the loss needs no item table, so only the names of a batch are summed."""

    owner: Packed

    def read(self, items: Tensor) -> tuple[Tensor, Tensor]:
        module = self.owner.module
        vectors = module.sums(module.rows[items.flatten()]).view(*items.shape, -1)
        with autocast(items.device.type):
            return module.states_of(vectors), module.vocabulary
