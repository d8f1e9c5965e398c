"""HSTU over item ids and times: next items from the last state, candidates in one pass."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Split
from onoma.errors import OnomaError
from onoma.neural.batching import SequenceBatches
from onoma.neural.blocks import Trunk
from onoma.neural.device import autocast, device
from onoma.neural.hstu import HSTUTrunk, shortened
from onoma.neural.trainer import Task
from onoma.recommenders.base import Requests
from onoma.recommenders.sequential.identity import IdModule, IdRecommender, IdSettings
from onoma.recommenders.transformer import NextItem, TransformerRecommender, even


class HSTUSettings(IdSettings):
    """The trunk and what it is trained on.

    Attributes:
        relative: the bias by relative position and time gap.
        alpha: stochastic length: histories longer than ``length ** (alpha / 2)`` are cut to a
            random part of that size, with a probability that grows with their length; None reads
            them whole.
        ranking: weight of a second loss that trains :meth:`HSTU.score_candidates`; 0 leaves it
            out.
        against: random items that loss ranks the next item among.
    """

    relative: bool = True
    alpha: float | None = Field(default=None, ge=1, le=2)
    ranking: float = Field(default=0.0, ge=0)
    against: int = Field(default=63, ge=1)


class HSTUModule(IdModule):
    """Pointwise attention over item vectors and times."""

    encoder: HSTUTrunk

    def trunk(self) -> Trunk:
        """The layers; a line that judges candidates where they are trained for."""
        s = self.settings
        assert isinstance(s, HSTUSettings)
        self.judge = nn.Linear(s.width, 1) if s.ranking else None
        return HSTUTrunk(
            s.width, s.blocks, s.heads, s.length, s.dropout, s.input_dropout, self.noise, s.relative
        )

    def states(self, items: Tensor, table: Tensor, times: Tensor | None = None) -> Tensor:
        """int64[b, l] item codes and seconds to float[b, l, d]."""
        out: Tensor = self.encoder(F.embedding(items, table), times)
        return out

    def last(
        self, items: Tensor, ends: Tensor, table: Tensor, times: Tensor | None = None
    ) -> Tensor:
        """int64[b, l] item codes to float[b, d] at int64[b] places."""
        return self.states(items, table, times)[torch.arange(len(ends), device=ends.device), ends]

    def judged(
        self,
        items: Tensor,
        ends: Tensor,
        candidates: Tensor,
        table: Tensor,
        times: Tensor | None = None,
    ) -> Tensor:
        """float[b, m] logits of int64[b, m] candidates, by one pass of M-FALCON."""
        assert self.judge is not None
        states = self.encoder.candidates(
            F.embedding(items, table), ends, F.embedding(candidates, table), times
        )
        out: Tensor = self.judge(states)[..., 0]
        return out


class HSTU(IdRecommender):
    """Hierarchical sequential transduction units (Zhai et al., ICML 2024), for retrieval.

    Reads the times of a history where the requests carry them; without them the time bias is 0.
    Departs from the paper: every interaction is of one kind, so no actions are interleaved, and
    padded rows stand in for jagged kernels.
    """

    name = "hstu"
    reads = frozenset({"history", "times"})
    settings_type = HSTUSettings
    module_type = HSTUModule
    module: HSTUModule

    @property
    def rows(self) -> int:
        """Few where histories are long: the attention of a whole batch is held at once."""
        return max(1, min(512, (1 << 22) // self.settings.length**2))

    def _task(self, split: Split) -> Task:
        return _TimedItems(self, split)

    def states(self, requests: Requests) -> Tensor:
        """float32[n, d]: the last states of the histories, which read their times."""
        return self.last_states(requests.history, requests.times)

    @torch.no_grad()
    def score_candidates(self, requests: Requests) -> Tensor:
        """float32[n, c] logits of the candidates, each read behind the history; -inf for padding.

        Raises:
            OnomaError: no candidates, or a model trained without ``ranking``.
        """
        if self.module.judge is None or requests.candidates is None:
            what = "no candidates" if requests.candidates is None else "trained without ranking"
            raise OnomaError(what, where=self.name, fix="Set recommender.ranking to 1")
        self.module.eval()
        where, table, longest = device(), self.item_table(), self.settings.length
        short = requests.history.last(longest)
        width = max(1, int(short.lengths.max(initial=1)))
        items = torch.from_numpy(short.padded(self.module.n_items, width=width)).to(where)
        ends = torch.from_numpy(np.maximum(short.lengths, 1) - 1).to(where)
        times = None
        if requests.times is not None:
            padded = requests.times.last(longest).padded(-1, width=width)
            times = torch.from_numpy(padded).to(where)
        asked = torch.from_numpy(requests.candidates.astype(np.int64)).to(where)
        scores = self.module.judged(items, ends, asked.clamp(min=0), table, times)
        return scores.float().masked_fill(asked < 0, -torch.inf).cpu()


class _TimedItems(NextItem):
    """Next items with the times of the inputs, and stochastic length."""

    owner: HSTU

    def __init__(self, owner: TransformerRecommender, split: Split) -> None:
        super().__init__(owner, split)
        tokens, length = owner.train.batch_tokens, owner.settings.length
        self.batches = SequenceBatches(split.train, tokens, length, split.train_times)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        settings = module.settings
        assert isinstance(settings, HSTUSettings)
        items, following = self.batches.tensors(batch, module.n_items)
        read = [tensor.to(where) for tensor in (items, following, self.batches.times(batch))]
        if settings.alpha is not None:
            read = self._shortened(read, settings.alpha)
        items, following, times = read
        known = following != module.n_items
        table = module.table()
        with autocast(where.type):
            states = module.states(items, table, times)
        loss = module.loss(*even(states[known].float(), following[known]), table)
        if settings.ranking:
            loss = loss + settings.ranking * self._ranked(items, following, times, table)
        return loss

    def _shortened(self, read: list[Tensor], alpha: float) -> list[Tensor]:
        """A random part of the batch's places in their order, of the same size for every row.

        Each keeps its own next item. Batches hold histories of about one length, so one draw
        a batch stands for a draw a history.
        """
        noise = self.owner.module.noise
        rows, length = read[0].shape
        kept, chance = shortened(length, self.owner.settings.length, alpha)
        if float(noise.uniform(1)) >= chance:
            return read
        drawn = noise.uniform(rows * length).view(rows, length).to(read[0].device)
        # Padding goes last, so that the rows stay left aligned.
        drawn = drawn.masked_fill(read[0] == self.owner.module.n_items, 2.0)
        places = drawn.topk(kept, dim=1, largest=False).indices.sort(dim=1).values
        return [tensor.gather(1, places) for tensor in read]

    def _ranked(self, items: Tensor, following: Tensor, times: Tensor, table: Tensor) -> Tensor:
        """Cross-entropy of the last next item among random ones, all behind the same history."""
        module = self.owner.module
        settings = module.settings
        assert isinstance(settings, HSTUSettings)
        ends = (following != module.n_items).sum(1) - 1
        positive = following.gather(1, ends[:, None])
        drawn = module.noise.integers(module.n_items, settings.against).to(items.device)
        candidates = torch.cat([positive, drawn.expand(len(items), -1)], dim=1)
        with autocast(items.device.type):
            logits = module.judged(items, ends, candidates, table, times).float()
        same = candidates == positive
        same[:, 0] = False
        return F.cross_entropy(logits.masked_fill(same, -torch.inf), torch.zeros_like(ends))
