"""MMGRec: unordered histories of graph vectors in, names of a graph RQ-VAE out."""

from __future__ import annotations

from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset
from onoma.indexing import ItemIndex
from onoma.neural.noise import Dropout, Noise
from onoma.neural.seq2seq import Encoded, padding
from onoma.neural.t5 import Attention, FeedForward, Norm
from onoma.recommenders.generative.seq2seq import (
    Seq2SeqModule,
    Seq2SeqRecommender,
    Seq2SeqSettings,
)


class MMGRecSettings(Seq2SeqSettings):
    """Sizes; the defaults are the published ones.

    Attributes:
        relation: width of the user's own part of attention.
    """

    width: int = Field(default=64, ge=4)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    head_width: int = Field(default=16, ge=1)
    inner: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    length: int = Field(default=32, ge=1)
    beam: int = Field(default=20, ge=1)
    relation: int = Field(default=16, ge=1)


class RelationBlock(nn.Module):
    """Attention between all pairs of a set, as content and as one user sees them.

    To the logits comes a product of low rank, scaled by what the user's vector says; to the values
    a second map, scaled likewise.
    """

    def __init__(self, settings: MMGRecSettings, noise: Noise) -> None:
        super().__init__()
        width, heads, low = settings.width, settings.heads, settings.relation
        self.heads = heads
        self.before, self.before_feed = Norm(width), Norm(width)
        self.attention = Attention(width, heads, settings.head_width)
        self.pair = nn.Linear(width, 2 * low, bias=False)
        self.value = nn.Linear(width, self.attention.inner, bias=False)
        # Three numbers of the user: for queries, keys and values.
        self.scales = nn.Sequential(nn.Linear(width, low), nn.ReLU(), nn.Linear(low, 3))
        self.feed = FeedForward(width, settings.inner, settings.dropout, noise)
        self.dropout = Dropout(settings.dropout, noise)

    def forward(self, x: Tensor, user: Tensor, hidden: Tensor | None) -> Tensor:
        """float[b, l, width] to the same.

        Args:
            x: the items of a set.
            user: float[b, width].
            hidden: float32[b, 1, 1, l], -inf behind a row's end.
        """
        h = self.before(x)
        queries, keys, values = self.attention.project(h, 0, 3)
        first, second = self.pair(h).chunk(2, dim=-1)
        s = self.scales(user).float()[:, None, None, :]
        bias = (first @ second.transpose(1, 2))[:, None] / first.shape[-1] ** 0.5
        bias = bias.float() * s[..., 0:1] * s[..., 1:2]
        own = self.value(h).reshape(*h.shape[:2], self.heads, -1).transpose(1, 2)
        values = values + (own * s[..., 2:3]).to(values.dtype)
        bias = bias if hidden is None else bias + hidden
        x = x + self.dropout(self.attention.mix(queries, keys, values, bias))
        out: Tensor = x + self.dropout(self.feed(self.before_feed(x)))
        return out


class MMGRecModule(Seq2SeqModule):
    """Items enter as frozen vectors of the graph, without places.

    Attributes:
        content: float32[n_items + 1, dim], the vectors; the last row pads.
    """

    content: Tensor

    def __init__(
        self, index: ItemIndex, vectors: NDArray[np.float32], settings: MMGRecSettings
    ) -> None:
        super().__init__(index, settings)
        rows = np.vstack([vectors, np.zeros((1, vectors.shape[1]), np.float32)])
        self.register_buffer("content", torch.from_numpy(rows))
        self.project = nn.Linear(vectors.shape[1], settings.width)
        self.person = nn.Linear(vectors.shape[1], settings.width)
        self.blocks = nn.ModuleList(
            RelationBlock(settings, self.noise) for _ in range(settings.layers)
        )
        self.norm = Norm(settings.width)
        self.dropout = Dropout(settings.dropout, self.noise)

    def read(self, items: Tensor, lengths: Tensor, users: Tensor) -> Encoded:
        """A user is the mean of what the history holds, so strangers need nothing else."""
        vectors = F.embedding(items, self.content)
        user = self.person(vectors.sum(1) / lengths[:, None])
        x, hidden = self.dropout(self.project(vectors)), padding(lengths, items.shape[1])
        for block in self.blocks:
            x = block(x, user, hidden)
        return Encoded(self.dropout(self.norm(x)), lengths)

    def positions(self, items: int) -> int:
        return items


class MMGRec(Seq2SeqRecommender):
    """Multimodal generative recommendation (Liu et al., MMGRec, 2024), the recommender part.

    A history is a set: attention knows no places, but a relation of the two items that depends on
    the user. Names are those of ``index``; the paper's are ``graph``.

    Modes: as for :class:`onoma.recommenders.generative.seq2seq.Seq2SeqRecommender`.
    """

    name = "mmgrec"
    reads = frozenset({"history"})

    settings_type = MMGRecSettings
    settings: MMGRecSettings
    module: MMGRecModule

    def _module(self, dataset: Dataset, vectors: NDArray[np.float32]) -> MMGRecModule:
        assert self.index is not None
        return MMGRecModule(self.index, vectors, self.settings)

    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        more, known = super()._with_items(codes, catalogue, items), self.module.content
        new = self._encode_new(self.settings.encoder, catalogue, items, known.shape[1])
        content = torch.cat([known[:-1], torch.from_numpy(new).to(known), known[-1:]])
        return more._with_tensors({"content": content}, more.module.n_items)
