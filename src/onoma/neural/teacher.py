"""What a distribution over items says about the codes of their names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.indexing.trie import Trie

_PRODUCT = 1024  # first vocabularies up to this are summed by a matrix product


class NameTeacher(nn.Module):
    """Turns a ranker's probabilities over items into lessons for a speller of names.

    For each row an item is drawn; the lesson of a level is the ranker's exact distribution over
    that level's codes given the drawn name's codes before it. The expected loss is the
    cross-entropy between the ranker and the speller over whole names, with the variance of one
    drawn prefix instead of a whole drawn name.

    In the order of the trie the items below a prefix are neighbours, so one running sum over those
    below the drawn first code gives the mass of every longer prefix as a difference.

    Args:
        trie: the names.
    """

    def __init__(self, trie: Trie) -> None:
        super().__init__()
        self.sizes, self.depth = trie.sizes, trie.depth
        # The first item, in the order of the trie, below every node of every level.
        begin = torch.arange(trie.n_items + 1)
        begins = [begin]
        for level in reversed(trie.levels):
            begin = begin[level.first[:-1].long().clamp(max=len(begin) - 1)]
            begins.insert(0, begin)
        for number, level in enumerate(trie.levels):
            self.register_buffer(f"first{number}", level.first[:-1].long(), persistent=False)
            self.register_buffer(f"codes{number}", level.codes[:-1].long(), persistent=False)
            self.register_buffer(f"begin{number}", begins[number + 1], persistent=False)
        self.widest = [int(level.first[:-1].diff().max()) for level in trie.levels]
        groups = begins[1]
        members = torch.full((len(groups) - 1, int(groups.diff().max())), -1)
        group = torch.repeat_interleave(groups.diff())
        members[group, torch.arange(trie.n_items) - groups[group]] = trie.items[:-1]
        where = torch.empty_like(group)
        where[trie.items[:-1]] = group
        self.register_buffer("members", members, persistent=False)
        self.register_buffer("where", where, persistent=False)
        first = F.one_hot(where, len(members)).bfloat16() if len(members) <= _PRODUCT else None
        self.register_buffer("first", first, persistent=False)

    members: Tensor
    where: Tensor
    first: Tensor | None

    @torch.no_grad()
    def forward(self, mass: Tensor, uniform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Draw an item a row and make the lessons along its name.

        Args:
            mass: float[r, n_items], probabilities up to a factor of the row.
            uniform: float32[r] in [0, 1).

        Returns:
            int64[r] drawn items; one float32[r, size] a level, which sums to one where the drawn
            name has a code and to zero behind its end.
        """
        groups = self._groups(mass)
        ends = groups.cumsum(1)
        goal = (uniform.clamp(max=1 - 1e-6) * ends[:, -1])[:, None]
        node = torch.searchsorted(ends, goal, right=True).clamp_(max=groups.shape[1] - 1)
        held = groups.gather(1, node)
        rest = (goal - ends.gather(1, node) + held) / held.clamp(min=1e-30)
        node = node[:, 0]
        lessons = [self._lesson(0, self.buffer("codes", 0), groups)]
        members = self.members[node]
        inside = mass.gather(1, members.clamp(min=0)).float().masked_fill_(members < 0, 0)
        ends = F.pad(inside.cumsum(1), (1, 0))
        goal = rest.clamp_(0, 1 - 1e-6) * ends[:, -1:]
        at = torch.searchsorted(ends, goal, right=True).clamp_(max=inside.shape[1]) - 1
        drawn = members.gather(1, at)
        base = self.buffer("begin", 0)[node][:, None]
        for number in range(1, self.depth):
            first, begin = self.buffer("first", number), self.buffer("begin", number)
            start, last = first[node][:, None], first[node + 1][:, None]
            child = start + torch.arange(self.widest[number] + 1, device=mass.device)
            bounds = begin[torch.minimum(child, last)] - base
            codes = self.buffer("codes", number)
            below = codes[child[:, :-1].clamp(max=len(codes) - 1)]
            node = first[node] + (bounds <= at).sum(1) - 1
            lesson = self._lesson(number, below, ends.gather(1, bounds).diff(dim=1))
            lessons.append(lesson * (codes[node] < self.sizes[number])[:, None])
        return drawn[:, 0], lessons

    def buffer(self, kind: str, level: int) -> Tensor:
        """A table of one level."""
        table: Tensor = getattr(self, f"{kind}{level}")
        return table

    def _groups(self, mass: Tensor) -> Tensor:
        """float32[r, nodes], the mass below every first code that is used."""
        if self.first is not None:
            return (mass @ self.first.to(mass.dtype)).float()
        sums = torch.zeros(len(mass), len(self.members), device=mass.device)
        return sums.index_add_(1, self.where, mass.float())

    def _lesson(self, level: int, codes: Tensor, mass: Tensor) -> Tensor:
        """float32[r, size], the share of each code; what ends here is left out."""
        size = self.sizes[level]
        row = torch.zeros(len(mass), size + 1, device=mass.device)
        row.scatter_add_(1, codes.expand(mass.shape), mass)
        row = row[:, :size]
        return row / row.sum(1, keepdim=True).clamp(min=1e-30)
