"""A retriever and a ranker that teach each other: samples one way, a distribution the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset, Split
from onoma.neural.device import autocast, device
from onoma.neural.multiindex import MultiIndex, draw_exactly
from onoma.neural.trainer import Task
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking.clicks import ClickSettings, Pairs, attributes
from onoma.recommenders.ranking.din import DINModule
from onoma.recommenders.retrieval.shortlist import Anchored, Shortlisted
from onoma.recommenders.sequential.identity import IdSettings
from onoma.recommenders.sequential.sasrec import SASRecModule
from onoma.recommenders.transformer import ItemSequenceModule, even

_PAIRS = 4096  # ranked at a time


class CoRRSettings(IdSettings):
    """The retriever, the ranker, and what passes between them.

    Attributes:
        ranker: width, length and dropout of a :class:`DIN` with tables of its own.
        sampler: where the items of a step come from: the retriever's ``own`` softmax, the
            ``multi-index`` that stands for it in a large catalogue, or ``uniform``.
        drawn: items drawn for each anchor.
        temperature: of the softmax that they are drawn from.
        codewords: of each half of the multi-index, which is made anew every epoch.
        distil: weight of the ranker's lesson to the retriever; 0 leaves it out.
        everywhere: whether the retriever learns by ``loss`` at every place, and not from the drawn
            items at the anchors.
        anchors: places a step that the ranker learns from.
        shortlist: items that the retriever finds and the ranker orders.
    """

    ranker: ClickSettings = ClickSettings()
    sampler: Literal["own", "multi-index", "uniform"] = "own"
    drawn: int = Field(default=20, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    codewords: int = Field(default=64, ge=1)
    distil: float = Field(default=1.0, ge=0)
    everywhere: bool = False
    anchors: int = Field(default=256, ge=1)
    shortlist: int = Field(default=100, ge=1)


class CoRRModule(SASRecModule):
    """The retriever, with the ranker and the index of its samples beside it.

    Args:
        n_items: size of the catalogue.
        settings: of both.
        counts: int64[n_items] training interactions.
        kinds: int64[n_items, 2] category and brand codes, 0 for none.
    """

    first: Tensor
    second: Tensor
    cells: Tensor
    made: Tensor

    def __init__(
        self,
        n_items: int,
        settings: CoRRSettings,
        counts: NDArray[np.int64] | None,
        kinds: NDArray[np.int64],
    ) -> None:
        super().__init__(n_items, settings, counts)
        self.ranker = DINModule(0, kinds, settings.ranker)
        # Part of the weights, so that a run that is resumed draws what it would have drawn.
        size = settings.codewords if settings.sampler == "multi-index" else 0
        half = settings.width // 2
        self.register_buffer("first", torch.zeros(size, half))
        self.register_buffer("second", torch.zeros(size, settings.width - half))
        self.register_buffer("cells", torch.zeros(n_items if size else 0, dtype=torch.int64))
        self.register_buffer("made", torch.tensor(-1))  # the epoch of the index

    @property
    def how(self) -> CoRRSettings:
        """The settings."""
        assert isinstance(self.settings, CoRRSettings)
        return self.settings

    @torch.no_grad()
    def index(self, vectors: Tensor, seed: int, epoch: int) -> None:
        """Make the index of float32[n_items, d] for an epoch, unless it is there."""
        if int(self.made) != epoch:
            found = MultiIndex.of(vectors, len(self.first), seed)
            self.first.copy_(found.first)
            self.second.copy_(found.second)
            self.cells.copy_(found.cells)
            self.made.fill_(epoch)

    @torch.no_grad()
    def draw(
        self, query: Tensor, vectors: Tensor, right: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Items for every anchor, and how likely these and its own were; no gradient passes.

        Args:
            query: float32[a, d].
            vectors: float32[n_items, d], whose products with the query are the retriever's logits.
            right: int64[a], the next items.
            count: items for each.

        Returns:
            int64[a, count] items, with replacement; float32[a, 1 + count] logarithms of the
            chances, that of the next item first.
        """
        s, rows = self.how, len(query)
        asked = query / s.temperature

        def chance(parts: int) -> Tensor:
            return (
                self.noise.uniform(parts * rows * count).view(parts, rows, count).to(query.device)
            )

        if s.sampler == "uniform":
            drawn = self.noise.integers(self.n_items, rows * count).view(rows, count)
            told = torch.full((rows, 1 + count), -float(np.log(self.n_items)), device=query.device)
            return drawn.to(query.device), told
        if s.sampler == "own":
            logits = asked @ vectors.T
            drawn, told = draw_exactly(logits, chance(1)[0])
            own = logits.gather(1, right[:, None]) - logits.logsumexp(1, keepdim=True)
            return drawn, torch.cat([own, told], dim=1)
        index = MultiIndex.over(self.first, self.second, self.cells)
        drawn, told = index.draw(asked, chance(3))
        own = index.log_chance(asked).gather(1, right[:, None]).float()
        return drawn, torch.cat([own, told], dim=1)

    def ranked(self, history: Tensor, items: Tensor) -> Tensor:
        """float32[a, c] logits of int64[a, c] items after int64[a, l] histories, left aligned."""
        wide = items.shape[1]
        places = (history < self.n_items).sum(1).repeat_interleave(wide)
        nobody = torch.zeros_like(places)
        pairs = Pairs(history.repeat_interleave(wide, 0), nobody, items.reshape(-1), places)
        parts = [
            self.ranker.logits(pairs[slice(start, start + _PAIRS)])
            for start in range(0, len(pairs), _PAIRS)
        ]
        return torch.cat(parts).view(len(items), wide).float()


class CoRR(Shortlisted):
    """CoRR (S099): a SASRec that retrieves and a DIN that ranks, trained together.

    Huang et al., "Cooperative Retriever and Ranker in Deep Recommenders", WWW 2023. In every step
    items are drawn by the retriever's own softmax. Both learn by a softmax of the next item and
    these, each logit less the logarithm of its chance, so that the ranker meets hard items without
    taking them for the catalogue. The retriever also learns the ranker's distribution over them by
    the KL divergence, whose estimate by these weights nears that over the whole catalogue as more
    are drawn. Nothing flows through which items were drawn, nor from the lesson into the ranker.

    We depart from it where some places of a batch are anchors and not all, and where the retriever
    may learn from the catalogue at every place as well (``everywhere``).

    Modes:
        rank: the ``shortlist`` first of the retriever in the ranker's order, the rest behind them.
        retrieve: the retriever alone.
    """

    name = "corr"
    settings: CoRRSettings
    settings_type = CoRRSettings
    module: CoRRModule

    @property
    def window(self) -> int | None:
        return max(self.settings.length, self.settings.ranker.length)

    @property
    def shown(self) -> int:
        """As :attr:`Shortlisted.shown`."""
        return self.module.how.shortlist

    @property
    def reach(self) -> int:
        """As :attr:`Shortlisted.reach`."""
        return self.module.how.ranker.length

    def judge(self, states: Tensor, history: Tensor, items: Tensor) -> Tensor:
        """As :meth:`Shortlisted.judge`; the states are not read."""
        return self.module.ranked(history, items)

    @torch.no_grad()
    def divergence(
        self, requests: Requests, sizes: Sequence[int], seed: int = 0
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
        """How far the retriever is from the ranker, exactly and by samples.

        Args:
            requests: n requests, of whom each is ranked over the whole catalogue.
            sizes: of the samples.
            seed: of the draw.

        Returns:
            float64[n], KL(ranker, retriever) in nats, and float64[n] estimates for every size.
        """
        module, n_items = self.module, self.module.n_items
        states = self.states(requests)
        query, vectors = module.query(states, self.item_table())
        every = torch.arange(n_items).expand(len(requests), -1)
        judged, found = self.judged(requests, states, every), query.float() @ vectors.float().T
        exact = _kl(judged, found.cpu()).numpy()
        module.noise.at(seed, 0)
        estimates = {}
        for size in sizes:
            nothing = torch.zeros(len(query), dtype=torch.int64, device=query.device)
            drawn, told = module.draw(query.float(), vectors.float(), nothing, size)
            drawn, often = drawn.cpu(), told[:, 1:].cpu()
            parts = (table.gather(1, drawn) - often for table in (judged, found.cpu()))
            estimates[size] = _kl(*parts).numpy()
        return exact, estimates

    def _build(self, split: Split) -> ItemSequenceModule:
        assert isinstance(self.settings, CoRRSettings)
        kinds = attributes(split.dataset.items)
        return CoRRModule(split.dataset.n_items, self.settings, split.train_counts, kinds)

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        assert isinstance(self.settings, CoRRSettings)
        kinds: NDArray[np.int64] = weights["ranker.kinds"][:-1].numpy()
        if len(kinds) != dataset.n_items:
            raise ValueError(f"weights of {len(kinds)} items")
        return CoRRModule(dataset.n_items, self.settings, None, kinds)

    def _task(self, split: Split) -> Task:
        return _Cooperation(self, split)


def _kl(right: Tensor, left: Tensor) -> Tensor:
    """float64[n], KL of softmax(right) and softmax(left), of float[n, c] logits."""
    p, q = right.double().log_softmax(1), left.double().log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


class _Cooperation(Anchored):
    """Both losses and the lesson, on the same drawn items."""

    owner: CoRR
    epoch = 0

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        self.epoch = epoch
        return super().plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        s = module.how
        # The ranker's dropout has a stream of its own; from here on it follows the step's.
        module.ranker.noise.at(int(module.noise.integers(2**31, 1)), 0)
        items, following = self.batches.tensors(batch, module.n_items)
        items, following = items.to(where), following.to(where)
        known = following != module.n_items
        table = module.table()
        with autocast(where.type):
            states = module.states(items, table)
        rows, ends = self.anchors(known, s.anchors)
        right = following[rows, ends]
        query, vectors = module.query(states[rows, ends].float(), table)
        if s.sampler == "multi-index":
            module.index(vectors, self.owner.seed, self.epoch)
        drawn, often = module.draw(query.detach(), vectors.detach(), right, s.drawn)
        candidates = torch.cat([right[:, None], drawn], dim=1)
        # The next item is there once, in the first column.
        same = F.pad(drawn == right[:, None], (1, 0))
        first = torch.zeros_like(right)

        def contrast(logits: Tensor) -> Tensor:
            return F.cross_entropy((logits - often).masked_fill(same, -torch.inf), first)

        retrieved = torch.einsum("ad,acd->ac", query, F.embedding(candidates, vectors))
        history = self.history(batch, rows, ends, s.ranker.length)
        with autocast(where.type):
            judged = module.ranked(history, candidates)
        loss = contrast(judged)
        if s.everywhere:
            loss = loss + module.loss(*even(states[known].float(), following[known]), table)
        else:
            loss = loss + contrast(retrieved)
        if s.distil:
            told = (judged.detach() - often)[:, 1:].log_softmax(1)
            mine = (retrieved - often)[:, 1:].log_softmax(1)
            loss = loss + s.distil * nn.functional.kl_div(
                mine, told, reduction="batchmean", log_target=True
            )
        return loss
