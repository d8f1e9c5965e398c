"""What recommenders that spell names share: naming, the beam, storage of the index."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from onoma.dataset import Dataset, Ragged, Split
from onoma.indexing import ItemIndex
from onoma.neural.beam import beam_search, exhaustive
from onoma.neural.depth import DepthDecoder
from onoma.neural.device import autocast
from onoma.recommenders.base import Requests
from onoma.recommenders.generative.naming import NameSettings, NamesItems, NamesModule
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    TransformerRecommender,
    TransformerSettings,
)


class NamedSettings(NameSettings, TransformerSettings):
    """The trunk, the names and what spells them.

    Attributes:
        width: model width d.
        heads: attention heads.
        scale: of the dense head's cosines; None: plain products.
        depth_width: width of the depth decoder.
        depth_blocks: its blocks.
        depth_dropout: its dropout.
    """

    width: int = Field(default=256, ge=4)
    heads: int = Field(default=4, ge=1)
    scale: float | None = Field(default=None, gt=0)
    depth_width: int = Field(default=256, ge=4)
    depth_blocks: int = Field(default=2, ge=1)
    depth_dropout: float = Field(default=0.1, ge=0, lt=1)


class NamedModule(NamesModule, ItemSequenceModule):
    """A trunk whose states :attr:`enter` brings to the :attr:`depth` decoder.

    Attributes:
        codes: int64[n_items, depth], the names.
        seen: bool[n_items], the items that training holds.
        enter: from the trunk's width to the decoder's.
        depth: spells.
    """

    codes: Tensor
    seen: Tensor
    settings: NamedSettings

    def __init__(self, index: ItemIndex, settings: NamedSettings) -> None:
        super().__init__()
        self.settings, self.n_items = settings, index.n_items
        self.register_buffer("codes", torch.from_numpy(index.codes.astype(np.int64)))
        self.register_buffer("seen", torch.zeros(index.n_items, dtype=torch.bool))

    def more_names(self, codes: NDArray[np.int32]) -> dict[str, Tensor]:
        """The buffers of names with those of new items, int32[m, depth], behind."""
        new = torch.from_numpy(codes).to(self.codes)
        return {
            "codes": torch.cat([self.codes, new]),
            "seen": torch.cat([self.seen, torch.zeros_like(new[:, 0], dtype=torch.bool)]),
        }

    def add_speller(self, index: ItemIndex) -> None:
        """Make ``enter`` and ``depth``; called last, so a trunk's first weights ignore names."""
        settings = self.settings
        self.enter = nn.Linear(settings.width, settings.depth_width)
        self.depth = DepthDecoder(
            index.sizes,
            settings.depth_width,
            settings.depth_blocks,
            settings.depth_dropout,
            noise=self.noise,
        )


class NamedRecommender(NamesItems, TransformerRecommender):
    """Names the items, then trains a transformer over them that can spell them."""

    settings: NamedSettings
    module: NamedModule

    def _build(self, split: Split) -> ItemSequenceModule:
        vectors = self._name_items(split)
        torch.manual_seed(self.seed)
        module = self._module(vectors)
        module.seen[torch.from_numpy(split.train.values.astype(np.int64))] = True
        return module

    @abstractmethod
    def _module(self, vectors: NDArray[np.float32]) -> NamedModule:
        """A fresh module from float32[n_items, dim] content vectors; the index is there."""

    def spelled(self, requests: Requests, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The names that the beam finds for each request.

        Args:
            requests: n of them.
            k: answers wanted.

        Returns:
            float32[n, d] states; int64[n, b] items, -1 where there are no more; float32[n, b]
            log-probabilities.
        """
        states = self.last_states(requests.history)

        def find(
            rows: NDArray[np.int64], beam: int, without: Ragged | None
        ) -> tuple[Tensor, Tensor]:
            return self.spell(states[torch.from_numpy(rows)], beam, without)

        return states, *self.search(requests, k, find)

    @torch.no_grad()
    def spell(
        self, states: Tensor, beam: int, without: Ragged | None = None
    ) -> tuple[Tensor, Tensor]:
        """The most probable names under the trie.

        Args:
            states: float32[n, d].
            beam: names kept.
            without: n rows of items to pass over.

        Returns:
            int64[n, beam] items, -1 where there are no more; float32[n, beam] log-probabilities.
        """
        assert self.index is not None
        with autocast(states.device.type):
            context = self.module.enter(states)
            items, scores = beam_search(
                self.module.depth, context, self.index.trie, beam, without=without
            )
        return items.cpu(), scores.cpu()

    def every_name(self, states: Tensor) -> Tensor:
        """float32[n, n_items]: the log-probability of every name after float32[n, d] states.

        Differentiable in the states.
        """
        assert self.index is not None
        with autocast(states.device.type):
            context = self.module.enter(states)
            return exhaustive(self.module.depth, context, self.index.trie).cpu()

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        self.index = ItemIndex.load(folder / "index")
        dim = weights["content"].shape[1] if "content" in weights else 0
        return self._module(np.zeros((dataset.n_items, dim), dtype=np.float32))
