"""The network of OnePiece: one structured sequence, blocks of reasoning, a head a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import check_heads
from onoma.neural.noise import Dropout, Noise
from onoma.neural.reasoning import BlockReasoner
from onoma.recommenders.trained import TrainedModule

_START = 0.05  # standard deviation of fresh embeddings
_SHELF = 10  # newest items whose most frequent category is the one in view
_HOURS, _DAYS, _AGES = 24, 7, 16


class OnePieceSettings(BaseModel):
    """The context, the reasoning and what each step is trained for.

    Attributes:
        stage: ``ranking`` reasons in the candidates, a group at a time; ``retrieval`` in the
            tokens of the situation, and every item is scored by a product.
        width: model width d.
        blocks: layers.
        heads: attention heads; they divide ``width``.
        expand: the feed-forward's width in widths.
        dropout: rate inside the layers.
        input_dropout: rate on the tokens that enter.
        length: items of a history that are read, the last ones.
        anchors: items of each anchor group; 0 for no groups.
        seeds: M, tokens of the situation: user, hour, weekday, items had so far.
        steps: K, blocks of reasoning.
        progressive: whether earlier steps are trained for weaker tasks; else all tasks are the
            last step's.
        levels: the chain of commitments behind ``taken``: least ratings, or names of events.
        following: next items of a history in a group, at most.
        against: uniform negatives in a group.
        batch: groups a training step.
        contrast: weight of the contrastive losses beside binary cross-entropy.
        temperature: of the contrastive losses of ``retrieval``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["ranking", "retrieval"] = "ranking"
    width: int = Field(default=64, ge=4)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    expand: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    input_dropout: float = Field(default=0.1, ge=0, lt=1)
    length: int = Field(default=30, ge=1)
    anchors: int = Field(default=6, ge=0)
    seeds: int = Field(default=4, ge=1, le=4)
    steps: int = Field(default=2, ge=0)
    progressive: bool = True
    levels: tuple[float | str, ...] = (4.0, 5.0)
    following: int = Field(default=4, ge=1)
    against: int = Field(default=8, ge=1)
    batch: int = Field(default=256, ge=1)
    contrast: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=0.07, gt=0)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.width, self.heads)
        return self

    @property
    def group(self) -> int:
        """Candidates that see each other, in training and in answering alike."""
        return self.following + self.against

    def step_of(self, task: int) -> int:
        """The step whose states answer for a task; the strongest is the last step's."""
        return max(0, self.steps - (len(self.levels) - task)) if self.progressive else self.steps


@dataclass(frozen=True)
class Asked:
    """The context of b questions.

    Attributes:
        history: int64[b, l] item codes, left aligned, n_items behind them; l is at least 1.
        users: int64[b], n_users for strangers.
        now: int64[b], seconds of the newest item, -1 where unknown.
        had: int64[b], items that the user had before, in all.
    """

    history: Tensor
    users: Tensor
    now: Tensor
    had: Tensor

    def to(self, where: torch.device) -> Asked:
        """The same on a device."""
        return Asked(*(t.to(where) for t in (self.history, self.users, self.now, self.had)))


class OnePieceModule(TrainedModule):
    """Situation, anchors and history in one sequence; a reasoner; a head for each task.

    Args:
        users: that are known.
        kinds: int64[n_items, 2] category and brand codes, 0 for none.
        starts: int64[p], see :func:`onoma.recommenders.ranking.commitment.anchors`.
        lists: int64[p, n_kinds, tasks, a].
        share: float32[n_items], training interactions of each item, for the correction of
            negatives that are other users' positives.
        settings: of the model.
    """

    kinds: Tensor
    starts: Tensor
    lists: Tensor
    share: Tensor

    def __init__(
        self,
        users: int,
        kinds: NDArray[np.int64],
        starts: NDArray[np.int64],
        lists: NDArray[np.int64],
        share: NDArray[np.float32],
        settings: OnePieceSettings,
    ) -> None:
        super().__init__()
        self.n_users, self.n_items, self.noise = users, len(kinds), Noise()
        self.settings, s, d = settings, settings, settings.width
        self.tasks = len(s.levels) + 1
        padded = np.concatenate([kinds, np.zeros((1, 2), dtype=np.int64)])
        for name, value in (("kinds", padded), ("starts", starts), ("lists", lists),
                            ("share", share)):  # fmt: skip
            self.register_buffer(name, torch.from_numpy(value))
        self.item = nn.Embedding(self.n_items + 1, d)
        self.category = nn.Embedding(int(padded[:, 0].max(initial=0)) + 1, d)
        self.brand = nn.Embedding(int(padded[:, 1].max(initial=0)) + 1, d)
        self.project = nn.Linear(d, d)
        sizes = (users + 1, _HOURS + 1, _DAYS + 1, _AGES)
        self.situation = nn.ModuleList(nn.Embedding(size, d) for size in sizes[: s.seeds])
        self.age = nn.Embedding(s.length, d)  # row 0 is the newest item's
        # Rows: history, candidate, the beginning and the end of a group, then one a group.
        self.sort = nn.Embedding(4 + self.tasks, d)
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=_START)
        self.enter = Dropout(s.input_dropout, self.noise)
        self.reasoner = BlockReasoner(
            d, s.blocks, s.heads, s.steps, s.dropout, self.noise, s.expand
        )
        out = 1 if s.stage == "ranking" else d
        self.heads = nn.ModuleList(nn.Linear(d, out) for _ in range(self.tasks))
        if s.stage == "retrieval":
            # Cosine to log-odds, a line for each task.
            self.slope = nn.Parameter(torch.full((self.tasks,), 8.0))
            self.height = nn.Parameter(torch.full((self.tasks,), -2.0))

    def table(self) -> Tensor:
        """float32[n_items + 1, d]: id, category and brand, by the projection all tokens share."""
        category, brand = self.kinds.unbind(1)
        both = self.item.weight + self.category(category) + self.brand(brand)
        out: Tensor = self.project(both)
        return out

    def shelf(self, asked: Asked) -> Tensor:
        """int64[b, tasks, a]: the anchors in view, n_items where there is none.

        They are those of the category that is most frequent among the newest items, as they were
        when the newest item was taken.
        """
        known = asked.history < self.n_items
        ends = known.sum(1)
        at = (ends[:, None] - 1 - torch.arange(_SHELF, device=ends.device)).clamp(min=0)
        newest = self.kinds[asked.history.gather(1, at.clamp(max=known.shape[1] - 1)), 0]
        there = torch.arange(_SHELF, device=ends.device) < ends[:, None]
        same = (newest[:, :, None] == newest[:, None, :]) & there[:, None, :]
        # Among equals the newest: a place of the count is worth more than all places of age.
        often = same.sum(2) * _SHELF - torch.arange(_SHELF, device=ends.device)
        best = often.masked_fill(~there, -1).argmax(1, keepdim=True)
        kind = newest.gather(1, best)[:, 0].masked_fill(ends == 0, 0)
        period = torch.searchsorted(self.starts, asked.now, right=True) - 1
        last = len(self.starts) - 1
        period = torch.where(asked.now < 0, last, period.clamp(min=0))
        return self.lists[period, kind]

    def context(self, asked: Asked, table: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens float[b, l, d], those of the situation first, and bool[b, l] which are there."""
        b, width = asked.history.shape
        hours = torch.where(asked.now < 0, _HOURS, asked.now // 3600 % _HOURS)
        days = torch.where(asked.now < 0, _DAYS, (asked.now // 86400 + 3) % _DAYS)
        ages = (asked.had + 1).double().log2().long().clamp(max=_AGES - 1)
        told = (asked.users, hours, days, ages)
        rows = zip(self.situation, told[: len(self.situation)], strict=True)
        parts = [torch.stack([one(row) for one, row in rows], dim=1)]
        masks = [torch.ones(parts[0].shape[:2], dtype=torch.bool, device=parts[0].device)]
        if self.settings.anchors:
            shelf = self.shelf(asked)
            group = self.sort.weight[4:][None, :, None, :]
            middle = F.embedding(shelf, table) + group
            edge = [(self.sort.weight[row] + group).expand(b, -1, 1, -1) for row in (2, 3)]
            seen = F.pad(shelf < self.n_items, (1, 1), value=True)
            parts.append(torch.cat([edge[0], middle, edge[1]], dim=2).flatten(1, 2))
            masks.append(seen.flatten(1))
        known = asked.history < self.n_items
        age = known.sum(1, keepdim=True) - 1 - torch.arange(width, device=known.device)
        age = age.clamp(0, self.settings.length - 1)
        history = F.embedding(asked.history, table) + self.age(age) + self.sort.weight[0]
        parts.append(history)
        masks.append(known)
        return self.enter(torch.cat(parts, dim=1)), torch.cat(masks, dim=1)

    def states(self, asked: Asked, items: Tensor | None, table: Tensor) -> list[Tensor]:
        """The states of each step: of candidates int64[b, g, m], n_items for none; or of seeds.

        Returns:
            K + 1 float[b, g, m, d], in retrieval float[b, 1, M, d].
        """
        tokens, mask = self.context(asked, table)
        states, kept = self.reasoner.read(tokens, mask)
        if items is None:
            return self.reasoner.seeds(states[:, : len(self.situation)], kept, mask)
        x = self.enter(F.embedding(items, table) + self.sort.weight[1])
        return self.reasoner.candidates(x, kept, mask, items < self.n_items)

    def judged(self, states: list[Tensor]) -> Tensor:
        """float[b, g, m, tasks] logits."""
        steps = [self.settings.step_of(task) for task in range(self.tasks)]
        found = [head(states[step]) for head, step in zip(self.heads, steps, strict=True)]
        return torch.cat(found, dim=-1)

    def users(self, states: list[Tensor]) -> Tensor:
        """float[b, tasks, d] directions of users, one a task."""
        steps = [self.settings.step_of(task) for task in range(self.tasks)]
        mean = [head(states[step][:, 0].mean(1)) for head, step in
                zip(self.heads, steps, strict=True)]  # fmt: skip
        return F.normalize(torch.stack(mean, dim=1), dim=2)

    def loss(self, asked: Asked, items: Tensor, labels: Tensor) -> Tensor:
        """Of groups int64[b, m], n_items for no candidate, against bool[b, m, tasks] labels."""
        table, there = self.table(), items < self.n_items
        if self.settings.stage == "ranking":
            logits = self.judged(self.states(asked, items[:, None], table))[:, 0].float()
            extra = sum(_set_wise(logits[..., t], labels[..., t], there)
                        for t in range(self.tasks))  # fmt: skip
        else:
            users = self.users(self.states(asked, None, table)).float()
            cosines = torch.einsum("btd,bmd->bmt", users, F.normalize(table, dim=1)[items])
            logits = cosines * self.slope + self.height
            extra = sum(self._both_ways(users[:, t], items, labels[..., t], table)
                        for t in range(self.tasks))  # fmt: skip
        plain = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return plain[there].mean(0).sum() + self.settings.contrast * extra

    def _both_ways(self, users: Tensor, items: Tensor, right: Tensor, table: Tensor) -> Tensor:
        """Users to the batch's positives and back; other positives of a row are no negatives."""
        rows, at = right.nonzero(as_tuple=True)
        if not len(rows):
            return users.sum() * 0
        pool, target = torch.unique(items[rows, at], return_inverse=True)
        own = torch.zeros(len(users), len(pool), dtype=torch.bool, device=users.device)
        own[rows, target] = True
        near = users @ F.normalize(table[pool], dim=1).T / self.settings.temperature
        # A pool by popularity: without the correction frequent items would sink.
        forth = near - self.share[pool].clamp(min=0.5).log()
        out = users.new_zeros(())
        for scores, mine, wanted in ((forth, own, (rows, target)), (near.T, own.T, (target, rows))):
            some = scores[wanted[0]].masked_fill(mine[wanted[0]], -torch.inf)
            hit = scores[wanted]
            out = out + (torch.logsumexp(torch.cat([some, hit[:, None]], 1), 1) - hit).mean()
        return out / 2


def _set_wise(logits: Tensor, right: Tensor, there: Tensor) -> Tensor:
    """Softmax over each group of float[b, m], the mean over the positives of groups with both."""
    share = logits.masked_fill(~there, -torch.inf).log_softmax(1)
    yes = (right & there).sum(1)
    both = (yes > 0) & (yes < there.sum(1))
    hits = share.masked_fill(~right, 0.0).sum(1) / yes.clamp(min=1)
    return -hits[both].sum() / both.sum().clamp(min=1)
