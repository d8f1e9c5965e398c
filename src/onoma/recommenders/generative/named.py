"""What recommenders that spell names share: naming, the beam, storage of the index."""

from __future__ import annotations

import time
from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from onoma import encoding, indexing
from onoma.dataset import Dataset, Split
from onoma.encoding import Encoder
from onoma.indexing import ItemIndex
from onoma.neural.beam import beam_search
from onoma.neural.depth import DepthDecoder
from onoma.neural.device import autocast
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.generative.unseen import UnseenItems
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    TransformerRecommender,
    TransformerSettings,
)


class NamedSettings(TransformerSettings):
    """The trunk, the names and what spells them.

    Attributes:
        width: model width d.
        heads: attention heads.
        scale: of the dense head's cosines; None: plain products.
        encoder: what turns item text into vectors: a name of ``encoding.ENCODERS`` or a mapping
            with ``name`` and settings.
        index: how items are named: a mapping with ``method``, ``encoder`` (the vectors that are
            quantised) and settings of the method.
        depth_width: width of the depth decoder.
        depth_blocks: its blocks.
        depth_dropout: its dropout.
        beam: names kept while spelling.
        unseen: share of a spelled list, at most, for items that training does not hold; where 0
            they have to be spelled, which is as good as never.
    """

    width: int = Field(default=256, ge=4)
    heads: int = Field(default=4, ge=1)
    scale: float | None = Field(default=None, gt=0)
    encoder: Any = "tfidf"
    index: dict[str, Any] = {"method": "rqkmeans"}
    depth_width: int = Field(default=256, ge=4)
    depth_blocks: int = Field(default=2, ge=1)
    depth_dropout: float = Field(default=0.1, ge=0, lt=1)
    beam: int = Field(default=50, ge=1)
    unseen: float = Field(default=0.0, ge=0, lt=1)


class NamedModule(ItemSequenceModule):
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


class NamedRecommender(TransformerRecommender):
    """Names the items, then trains a transformer that can spell them."""

    def __init__(
        self,
        settings: NamedSettings,
        train: TrainSettings,
        seed: int,
        folder: str | Path | None,
        quiet: bool,
    ) -> None:
        super().__init__(settings, train, seed, folder, quiet)
        self.index: ItemIndex | None = None
        self._unseen: UnseenItems | None = None
        self._agreement: dict[str, Any] | None = None
        self._encoders: dict[str, Encoder] = {}

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

    def _name_items(self, split: Split) -> NDArray[np.float32]:
        """Content vectors of the items, once they have names."""
        began = time.monotonic()
        vectors = encoding.cached(encoding.build(self.settings.encoder), split)
        how = dict(self.settings.index)
        named_by = how.pop("encoder", self.settings.encoder)
        views = (
            vectors
            if named_by == self.settings.encoder
            else encoding.cached(encoding.build(named_by), split)
        )
        self.seconds["encode"] = time.monotonic() - began
        began = time.monotonic()
        method = indexing.build(how.pop("method"), **how)
        self.index = method.build(split, views, self.seed)
        self.seconds["index"] = time.monotonic() - began
        self._agreement = indexing.Agreement.of(self.index, split, views).to_dict()
        return vectors

    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """Names by :meth:`ItemIndex.assign`, and vectors as the module makes them.

        Raises:
            OnomaError: the encoder knows no new items, or no free name is left.
        """
        assert self.index is not None
        named_by = self.settings.index.get("encoder", self.settings.encoder)
        codes = self.index.assign(self._encode_new(named_by, catalogue, items))
        more = self._with_items(codes, catalogue, items)
        more.index, more._unseen = self.index.extended(codes), None
        _ = more.index.trie  # built now, not by the first request
        return more

    @abstractmethod
    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        """A copy whose module knows the new items by int32[m, depth] names; see :meth:`extend`."""

    def _encode_new(
        self, how: Any, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        key = repr(how)
        if key not in self._encoders:  # fitted or loaded once, for all new items to come
            self._encoders[key] = encoding.build(how)
        return self._encoders[key].encode_new(catalogue, items, width)

    def health(self) -> dict[str, Any]:
        """The health report of the names, after a fit with what they know of the data."""
        assert self.index is not None
        found = {} if self._agreement is None else {"agreement": self._agreement}
        return {**self.index.health().to_dict(), **found}

    def spelled(self, requests: Requests, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The names that the beam finds for each request.

        Seen and excluded items are spelled too and masked afterwards, so the beam is that wider.

        Args:
            requests: n of them.
            k: answers wanted.

        Returns:
            float32[n, d] states; int64[n, b] items, -1 where there are no more; float32[n, b]
            log-probabilities.
        """
        assert self.index is not None
        states = self.last_states(requests.history)
        spare = np.minimum(-(-requests.forbidden().lengths // 16) * 16, 64)
        beams = np.minimum(np.maximum(self.settings.beam, k + spare), self.index.n_items)
        items = torch.full((len(states), int(beams.max(initial=1))), -1)
        scores = torch.full(items.shape, -torch.inf)
        for beam in np.unique(beams):
            rows = torch.from_numpy(np.flatnonzero(beams == beam))
            items[rows, :beam], scores[rows, :beam] = self.spell(states[rows], int(beam))
        return states, items, scores

    def join_unseen(self, items: Tensor, scores: Tensor, requests: Requests, k: int) -> Ranking:
        """The k best of a beam, unseen items among them as the settings say."""
        forbidden = requests.forbidden()
        if not self.settings.unseen:
            return top_k(scores, k, forbidden=forbidden, items=items)
        assert self.index is not None
        if self._unseen is None:
            self._unseen = UnseenItems(self.index, self.module.seen.cpu().numpy())
        return self._unseen.join(items, scores, k, self.settings.unseen, forbidden)

    @torch.no_grad()
    def spell(self, states: Tensor, beam: int) -> tuple[Tensor, Tensor]:
        """The most probable names under the trie.

        Args:
            states: float32[n, d].
            beam: names kept.

        Returns:
            int64[n, beam] items, -1 where there are no more; float32[n, beam] log-probabilities.
        """
        assert self.index is not None
        with autocast(states.device.type):
            context = self.module.enter(states)
            items, scores = beam_search(self.module.depth, context, self.index.trie, beam)
        return items.cpu(), scores.cpu()

    def save(self, folder: str | Path) -> None:
        """Write weights, settings and the index."""
        assert self.index is not None
        super().save(folder)
        self.index.save(Path(folder) / "index")

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        self.index = ItemIndex.load(folder / "index")
        dim = weights["content"].shape[1] if "content" in weights else 0
        return self._module(np.zeros((dataset.n_items, dim), dtype=np.float32))
