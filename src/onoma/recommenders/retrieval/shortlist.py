"""A retriever and a ranker in one: the first items of the one in the order of the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged, Split
from onoma.neural.batching import windows
from onoma.neural.device import device
from onoma.recommenders.base import Ranking, Recommender, Requests, top_k
from onoma.recommenders.sequential.identity import IdRecommender
from onoma.recommenders.transformer import NextItem, TransformerRecommender

_CELLS = 1 << 22  # pairs of a candidate and an item of a history at a time

Judge = Callable[[Tensor], Tensor]


class TwoPass(IdRecommender):
    """A sequence model whose product with every item makes a shortlist that a ranker orders.

    Subclasses say how long it is and who judges it. The first mode is the ranker's order, with
    everything else behind it in the retriever's; the second the retriever alone. What may not be
    answered takes no place in the shortlist, and named candidates are shortlisted among
    themselves.
    """

    modes: ClassVar[tuple[str, ...]] = ("rank", "retrieve")
    # Scores of a ranker are no function of what enters the trunk, so there is no gradient to show;
    # a protocol's check takes None for a method that is missing.
    enter = None  # type: ignore[assignment]

    @property
    @abstractmethod
    def shown(self) -> int:
        """Items of a shortlist; 0 where there is no ranker."""

    @abstractmethod
    def passes(self, requests: Requests) -> tuple[Tensor, Judge]:
        """float32[n, d] states of the retriever; from int64[n, c] items the ranker's logits."""

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: the ranker's logits, and below them the retriever's order.

        The shortlist depends on what may not be answered and on the candidates.
        """
        return self._scores(requests, self.modes[0])

    @torch.no_grad()
    def _scores(self, requests: Requests, mode: str) -> Tensor:
        states, judge = self.passes(requests)
        scores = self.answer(states)
        if mode != self.modes[0] or not self.shown:
            return scores
        asked, items = scores.clone(), None
        if requests.candidates is not None:
            items = torch.from_numpy(requests.candidates.astype(np.int64))
            asked = asked.gather(1, items.clamp(min=0))
        size = min(self.shown, asked.shape[1])
        short = top_k(asked, size, forbidden=requests.forbidden(), items=items)
        codes = torch.from_numpy(short.items.astype(np.int64))
        missing = codes < 0
        codes = codes.clamp(min=0)
        logits = judge(codes)
        # The rest keeps its order below the lowest of the shortlist.
        last = torch.from_numpy(short.scores).masked_fill(missing, torch.inf).amin(1)
        floor = logits.masked_fill(missing, torch.inf).amin(1)
        some = ~missing.all(1)
        moved = scores + torch.where(some, floor - last, 0.0)[:, None]
        moved = moved.minimum(torch.where(some, floor, torch.inf)[:, None])
        # What is missing writes the first of its row once more: nothing else is overwritten.
        kept = torch.where(some[:, None], logits, moved.gather(1, codes))
        codes = torch.where(missing, codes[:, :1], codes)
        return moved.scatter(1, codes, torch.where(missing, kept[:, :1], kept))

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if mode == self.modes[0]:
            return Recommender._recommend(self, requests, k, mode)
        scores, items = self._scores(requests, mode), None
        if requests.candidates is not None:
            items = torch.from_numpy(requests.candidates.astype(np.int64))
            scores = scores.gather(1, items.clamp(min=0))
        return top_k(scores, k, forbidden=requests.forbidden(), items=items)


class Shortlisted(TwoPass):
    """Whose ranker reads a history of its own: subclasses say how long, and how it scores."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """Items of a history that the ranker reads, the last ones."""

    @abstractmethod
    def judge(self, states: Tensor, history: Tensor, items: Tensor) -> Tensor:
        """float32[a, c] logits of the ranker.

        Args:
            states: float32[a, d] of the retriever.
            history: int64[a, l] item codes, left aligned, n_items behind them.
            items: int64[a, c].
        """

    def passes(self, requests: Requests) -> tuple[Tensor, Judge]:
        """As :meth:`TwoPass.passes`."""
        states = self.states(requests)
        return states, lambda items: self.judged(requests, states, items)

    @torch.no_grad()
    def judged(self, requests: Requests, states: Tensor, items: Tensor) -> Tensor:
        """float32[n, c] logits of int64[n, c] items by the ranker, some rows at a time."""
        self.module.eval()
        where, history = device(), requests.history.last(self.reach)
        out = torch.empty(items.shape)
        longest = max(1, int(history.lengths.max(initial=1)))
        step = max(1, _CELLS // (longest * items.shape[1]))
        for start in range(0, len(items), step):
            rows = slice(start, min(start + step, len(items)))
            part = history.slice(rows.start, rows.stop)
            width = max(1, int(part.lengths.max(initial=1)))
            told = torch.from_numpy(part.padded(self.module.n_items, width=width))
            found = self.judge(states[rows], told.to(where), items[rows].to(where))
            out[rows] = found.float().cpu()
        return out


class Anchored(NextItem):
    """Next items at every place, some of which a ranker learns from as well: the anchors."""

    def __init__(self, owner: TransformerRecommender, split: Split) -> None:
        super().__init__(owner, split)
        train = split.train
        everywhere = Ragged(train.offsets, np.arange(len(train.values)))
        # Where in the training data the windows lie: a ranker may read further back than they go.
        self.places = windows(everywhere, owner.settings.length)

    def anchors(self, known: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """int64[a] rows and int64[a] columns of at most ``count`` of the places that are known.

        Args:
            known: bool[b, l], places that have a next item.
            count: anchors of a step.
        """
        at = known.nonzero()
        chance = self.owner.module.noise.uniform(len(at)).to(known.device)
        rows, ends = at[chance.topk(min(count, len(at))).indices].unbind(1)
        return rows, ends

    def history(self, batch: NDArray[np.int64], rows: Tensor, ends: Tensor, long: int) -> Tensor:
        """int64[a, l], the last ``long`` items up to each anchor, left aligned.

        Args:
            batch: window numbers.
            rows: int64[a] rows of the batch.
            ends: int64[a] places in the windows.
            long: items at most.
        """
        train, window = self.split.train, batch[rows.cpu().numpy()]
        here = self.places.values[self.places.offsets[window] + ends.cpu().numpy()]
        first = np.maximum(train.offsets[self.batches.owners[window]], here + 1 - long)
        at = first[:, None] + np.arange(int((here - first).max(initial=0)) + 1)
        inside = at <= here[:, None]
        codes = train.values[np.where(inside, at, 0)]
        found = np.where(inside, codes, self.owner.module.n_items).astype(np.int64)
        return torch.from_numpy(found).to(rows.device)
