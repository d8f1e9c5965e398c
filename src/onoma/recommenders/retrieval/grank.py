"""One network that proposes items by a product and ranks what it proposed in view of each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Split
from onoma.neural.beside import Host, Kept
from onoma.neural.blocks import Trunk
from onoma.neural.device import autocast, device
from onoma.neural.noise import Dropout, Noise
from onoma.neural.trainer import Task
from onoma.recommenders.retrieval.shortlist import Anchored, Shortlisted
from onoma.recommenders.sequential.identity import IdModule, IdSettings
from onoma.recommenders.transformer import TransformerRecommender, even

_RECENT = 5  # items of the portrait's recent part


class GRankSettings(IdSettings):
    """The generator, the ranker, and what trains them.

    Attributes:
        blocks: of the generator; 0 is a tower that reads the portrait of the user alone.
        auxiliary: weight of the loss of candidates beside the history, which are there in training
            only; 0 leaves them out.
        ranking: weight of the ranker's loss; 0 leaves the ranker out.
        shortlist: items that the generator proposes and the ranker orders.
        long: items of a history that the ranker reads, the last ones.
        anchors: places a step whose candidates are judged.
        against: other targets of the batch that each place's own is judged against.
        corrects: whether the ranker's logit is added to the generator's and not in its place.
    """

    blocks: int = Field(default=1, ge=0)
    auxiliary: float = Field(default=1.0, ge=0)
    ranking: float = Field(default=1.0, ge=0)
    shortlist: int = Field(default=500, ge=1)
    long: int = Field(default=200, ge=1)
    anchors: int = Field(default=64, ge=1)
    against: int = Field(default=32, ge=1)
    corrects: bool = True


class Ranker(nn.Module):
    """One head of attention from each candidate over a long history, then a head.

    Args:
        width: of items and users.
        long: items of a history, at most.
        dropout: rate.
        noise: the model's randomness.
    """

    def __init__(self, width: int, long: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, width)
        self.tell = nn.Linear(width, 2 * width)
        self.by_place = nn.Parameter(torch.zeros(long))
        self.head = nn.Sequential(
            nn.Linear(5 * width, 2 * width), nn.GELU(), Dropout(dropout, noise),
            nn.Linear(2 * width, 1),
        )  # fmt: skip

    def forward(self, users: Tensor, history: Tensor, known: Tensor, candidates: Tensor) -> Tensor:
        """Logits of candidates; one does not change another's.

        Args:
            users: float[a, d], states of the generator.
            history: float[a, l, d], left aligned.
            known: bool[a, l], False behind a shorter history.
            candidates: float[a, m, d].

        Returns:
            float[a, m].
        """
        asking = self.norm(candidates)
        keys, values = self.tell(self.norm(history)).chunk(2, dim=2)
        scores = (self.ask(asking) @ keys.transpose(1, 2)).float() * keys.shape[2] ** -0.5
        ago = known.sum(1, keepdim=True) - 1 - torch.arange(known.shape[1], device=known.device)
        scores = scores + self.by_place[ago.clamp(min=0)][:, None]
        # The lowest number and not -inf: a history of nothing weighs evenly and is then left out.
        weights = scores.masked_fill(~known[:, None], torch.finfo(torch.float32).min).softmax(2)
        mixed = (weights * known[:, None]).to(values.dtype) @ values
        user = users[:, None].to(asking.dtype).expand_as(asking)
        told = torch.cat([asking, mixed, asking * mixed, user, asking * user], dim=2)
        out: Tensor = self.head(told)[..., 0].float()
        return out


class GRankModule(IdModule):
    """The generator's trunk and the ranker over one table of items."""

    encoder: Host

    @property
    def how(self) -> GRankSettings:
        """The settings."""
        assert isinstance(self.settings, GRankSettings)
        return self.settings

    def trunk(self) -> Trunk:
        """The blocks; the query, the candidates of training and the ranker around them."""
        s = self.how
        width = s.width
        self.describe = nn.Sequential(
            nn.Linear(3 * width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.enlist = self.judge = self.ranker = None
        if s.auxiliary:
            self.enlist = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            self.judge = nn.Linear(width, 1)
        if s.ranking:
            self.ranker = Ranker(width, s.long, s.dropout, self.noise)
        return Host(width, s.blocks, s.heads, s.length, s.dropout, s.input_dropout, self.noise)

    def portraits(self, vectors: Tensor) -> Tensor:
        """The query token behind every place of float[b, l, d]: what was had up to there.

        The paper's sums of recent, clicked and long-viewed items; there is one kind of event here,
        so they are the last item and the means of the last 5 and of all.
        """
        total = vectors.float().cumsum(1)
        count = torch.arange(1, vectors.shape[1] + 1, device=vectors.device)[:, None]
        before = F.pad(total, (0, 0, _RECENT, 0))[:, : vectors.shape[1]]
        recent = (total - before) / count.clamp(max=_RECENT)
        out: Tensor = self.describe(torch.cat([vectors, recent, total / count], dim=2))
        return out

    def read(self, vectors: Tensor) -> tuple[Tensor, list[Kept]]:
        """float[b, l, d] users after every place of the same, and what the blocks keep."""
        kept = self.encoder.keep(vectors)
        place = torch.arange(vectors.shape[1], device=vectors.device)
        seen = place[:, None] >= place
        return self.encoder.beside(self.portraits(vectors), kept, seen, place + 1), kept

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] users after every place of float[b, l, d] item vectors."""
        return self.read(vectors)[0]

    def last(self, items: Tensor, ends: Tensor, table: Tensor) -> Tensor:
        """int64[b, l] item codes to float[b, d] users after int64[b] places."""
        vectors = F.embedding(items, table)
        place = torch.arange(items.shape[1], device=items.device)
        query = self.portraits(vectors)[torch.arange(len(ends), device=ends.device), ends]
        seen = (place <= ends[:, None])[:, None]
        kept = self.encoder.keep(vectors)
        return self.encoder.beside(query[:, None], kept, seen, ends[:, None] + 1)[:, 0]

    def enlisted(self, kept: list[Kept], rows: Tensor, ends: Tensor, candidates: Tensor) -> Tensor:
        """float[a, m] logits of candidates that stand behind a history.

        Args:
            kept: of the histories, from :meth:`read`.
            rows: int64[a], which history.
            ends: int64[a], the place of its last item.
            candidates: float[a, m, d] item vectors.
        """
        assert self.enlist is not None and self.judge is not None
        length = kept[0].keys.shape[2] if kept else 1
        seen = torch.arange(length, device=ends.device) <= ends[:, None]
        tokens = self.enlist(candidates)
        mine = [part.take(rows) for part in kept]
        states = self.encoder.beside(tokens, mine, seen[:, None], ends[:, None] + 1)
        out: Tensor = self.judge(states)[..., 0].float()
        return out

    def ranked(self, users: Tensor, history: Tensor, candidates: Tensor, table: Tensor) -> Tensor:
        """float32[a, m] logits of int64[a, m] candidates; int64[a, l] history, left aligned."""
        assert self.ranker is not None
        read, vectors = F.embedding(history, table), F.embedding(candidates, table)
        logits: Tensor = self.ranker(users, read, history < self.n_items, vectors)
        if not self.how.corrects:
            return logits
        # The generator has a loss of its own: nothing flows back through what it proposed.
        query, _ = self.query(users.detach().float(), table[:1])
        items = vectors.detach()
        if self.settings.scale is not None:
            items = F.normalize(items, dim=2)
        return logits + (items @ query[:, :, None])[:, :, 0]


class GRank(Shortlisted):
    """GRank (S023): a generator proposes by a product, a ranker of the same network orders.

    arXiv 2510.15299, 2025. A query token behind the history becomes the user's vector, whose
    products with all items are searched exactly, without an index. In training, candidates stand
    beside it and are judged; the history never reads them, so the user's vector is the same
    without them. A light ranker reads a long history in view of each proposed item.

    The paper's details are known to us from a summary. We depart from it where the generator
    learns at every place of a history, each with a query token of its own; the generator's loss is
    any of :class:`IdSettings`; the ranker is told the user's vector and how long ago things were.

    Modes:
        rank: the ``shortlist`` first of the generator in the ranker's order, the rest behind them.
            What may not be answered takes no place in the shortlist.
        generate: the generator alone.
    """

    name = "grank"
    modes = ("rank", "generate")
    settings: GRankSettings
    settings_type = GRankSettings
    module_type = GRankModule
    module: GRankModule

    @property
    def window(self) -> int | None:
        return max(self.settings.length, self.settings.long)

    @property
    def shown(self) -> int:
        """As :attr:`Shortlisted.shown`."""
        return self.module.how.shortlist if self.module.ranker is not None else 0

    @property
    def reach(self) -> int:
        """As :attr:`Shortlisted.reach`."""
        return self.module.how.long

    def judge(self, states: Tensor, history: Tensor, items: Tensor) -> Tensor:
        """As :meth:`Shortlisted.judge`."""
        return self.module.ranked(states, history, items, self.item_table())

    def _task(self, split: Split) -> Task:
        return _Proposed(self, split)


class _Proposed(Anchored):
    """Next items at every place; candidates beside the history and in the ranker at some."""

    owner: GRank

    def __init__(self, owner: TransformerRecommender, split: Split) -> None:
        super().__init__(owner, split)
        counts = torch.from_numpy(split.train_counts.astype(np.float32))
        self.log_share = (counts.clamp(min=1) / counts.sum().clamp(min=1)).log()

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        s = module.how
        items, following = self.batches.tensors(batch, module.n_items)
        items, following = items.to(where), following.to(where)
        known = following != module.n_items
        table = module.table()
        with autocast(where.type):
            users, kept = module.read(F.embedding(items, table))
        loss = module.loss(*even(users[known].float(), following[known]), table)
        if not s.auxiliary and not s.ranking:
            return loss
        rows, ends = self.anchors(known, s.anchors)
        right, targets = following[rows, ends][:, None], following[known]
        drawn = targets[module.noise.integers(len(targets), s.against).to(where)]
        candidates = torch.cat([right, drawn.expand(len(right), -1)], dim=1)
        # Targets are met as often as they are popular: their logits lose that (Bengio and Senecal
        # 2008), so that what is learnt is a softmax over the catalogue.
        often = self.log_share.to(where)[drawn] + float(np.log(s.against))
        often = F.pad(often, (1, 0)).expand(len(right), -1)
        same = F.pad(drawn == right, (1, 0))
        first = torch.zeros(len(right), dtype=torch.int64, device=where)

        def contrast(logits: Tensor) -> Tensor:
            return F.cross_entropy((logits - often).masked_fill(same, -torch.inf), first)

        with autocast(where.type):
            if s.auxiliary:
                vectors = F.embedding(candidates, table)
                loss = loss + s.auxiliary * contrast(module.enlisted(kept, rows, ends, vectors))
            if s.ranking:
                history = self.history(batch, rows, ends, s.long)
                told = module.ranked(users[rows, ends], history, candidates, table)
                loss = loss + s.ranking * contrast(told)
        return loss
