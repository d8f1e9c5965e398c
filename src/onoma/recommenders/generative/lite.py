"""Lite-LLM4Rec: item texts become vectors once, and a head over the catalogue replaces the beam."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.errors import OnomaError
from onoma.neural.blocks import SequenceEncoder
from onoma.neural.device import autocast
from onoma.neural.loss import full_softmax
from onoma.neural.noise import Noise
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    TransformerRecommender,
    TransformerSettings,
)


class LiteSettings(TransformerSettings):
    """The two encoders and the head.

    Attributes:
        encoder: the item encoder: text to one vector an item, frozen and kept in the cache.
        head: ``free`` rows, or ``tied`` to the item vectors, so that new items can be scored.
    """

    width: int = Field(default=128, ge=4)
    scale: float | None = Field(default=None, gt=0)
    encoder: Any = "tfidf"
    head: Literal["free", "tied"] = "free"


class LiteModule(ItemSequenceModule):
    """Vectors of item texts, a linear map, causal blocks, a linear head with an offset.

    Attributes:
        content: float32[n_items + 1, dim], the text vectors; the last row pads.
    """

    settings: LiteSettings
    content: Tensor

    def __init__(self, vectors: NDArray[np.float32], settings: LiteSettings) -> None:
        super().__init__()
        n, dim = vectors.shape
        self.n_items, self.settings, self.noise = n, settings, Noise()
        rows = np.vstack([vectors, np.zeros((1, dim), np.float32)])
        self.register_buffer("content", torch.from_numpy(rows))
        self.project = nn.Linear(dim, settings.width)
        if settings.head == "free":
            self.head = nn.Parameter(torch.randn(n, settings.width) * 0.02)
            self.offset = nn.Parameter(torch.zeros(n))
        self.encoder = SequenceEncoder(
            settings.width, settings.blocks, settings.heads, settings.length, settings.dropout,
            settings.input_dropout, self.noise,
        )  # fmt: skip

    def table(self) -> Tensor:
        """float32[n_items + 1, d]."""
        with autocast(self.content.device.type):
            return self.project(self.content).float()

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.encoder(vectors)
        return out

    def query(self, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """With a free head: a one behind each state meets the offset behind each row."""
        if self.settings.head == "tied":
            return super().query(states, table)
        head = torch.cat([self.head, self.offset[:, None]], dim=1)
        return nn.functional.pad(states, (0, 1), value=1.0), head

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Mean cross-entropy over the catalogue."""
        states, items = self.query(states, table)
        return full_softmax(states, items, targets)


class LiteLLM4Rec(TransformerRecommender):
    """Lite-LLM4Rec (Wang et al., 2024): a hierarchy of two encoders and a head instead of a beam.

    The item encoder reads each text once, whatever the number of users; the sequence encoder reads
    item vectors; one product with the head scores the catalogue.
    """

    name = "lite-llm4rec"

    settings_type = LiteSettings
    settings: LiteSettings
    module: LiteModule

    def _build(self, split: Split) -> ItemSequenceModule:
        vectors = encoding.cached(encoding.build(self.settings.encoder), split)
        torch.manual_seed(self.seed)
        return LiteModule(vectors, self.settings)

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        dim = weights["content"].shape[1]
        return LiteModule(np.zeros((dataset.n_items, dim), np.float32), self.settings)

    def content(self) -> tuple[Any, NDArray[np.float32]]:
        """The encoder's description and float32[n_items, dim]."""
        return self.settings.encoder, self.module.content[:-1].cpu().numpy()

    @torch.no_grad()
    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """New items by their text, with a tied head.

        Raises:
            OnomaError: a free head has no rows for them, or the encoder knows no new items.
        """
        if self.settings.head == "free":
            raise OnomaError(
                "a free head has no rows for new items", fix="Train with recommender.head=tied"
            )
        known = self.module.content
        found = encoding.build(self.settings.encoder).encode_new(catalogue, items, known.shape[1])
        new = torch.from_numpy(found).to(known)
        with autocast(known.device.type):
            rows = self.module.project(new).float()
        return self._grown(rows, {"content": torch.cat([known[:-1], new, known[-1:]])})
