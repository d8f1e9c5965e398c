"""What a distribution over items says about the codes of their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NameTeacher(nn.Module):
    """Turns a ranker's probabilities over items into lessons for a speller of names.

    For each row an item is drawn; the lesson of a level is the ranker's exact distribution over
    that level's codes given the drawn name's codes before it. The expected loss is the
    cross-entropy between the ranker and the speller over whole names, with the variance of one
    drawn prefix instead of a whole drawn name.

    Holds n_items x the first vocabulary in bf16: a sum over groups of items as a matrix product.

    Args:
        codes: int64[n_items, depth], -1 after the end of a name.
        sizes: vocabulary of each level.
    """

    def __init__(self, codes: Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        order = codes[:, 0].argsort(stable=True)
        count = torch.bincount(codes[:, 0], minlength=self.sizes[0])
        place = torch.arange(len(codes)) - (count.cumsum(0) - count)[codes[order, 0]]
        members = torch.full((self.sizes[0], int(count.max())), -1)
        members[codes[order, 0], place] = order
        first = F.one_hot(codes[:, 0], self.sizes[0]).bfloat16()
        for name, value in (("codes", codes), ("members", members), ("first", first)):
            self.register_buffer(name, value, persistent=False)

    codes: Tensor
    members: Tensor
    first: Tensor

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
        level = (mass @ self.first.to(mass.dtype)).float()
        ends = level.cumsum(1)
        goal = (uniform * ends[:, -1])[:, None]
        code = torch.searchsorted(ends, goal, right=True).clamp_(max=self.sizes[0] - 1)
        held = level.gather(1, code)
        rest = (goal - ends.gather(1, code) + held) / held.clamp(min=1e-30)
        members = self.members[code[:, 0]]
        inside = mass.gather(1, members.clamp(min=0)).float().masked_fill_(members < 0, 0)
        ends = inside.cumsum(1)
        goal = rest.clamp_(0, 1 - 1e-6) * ends[:, -1:]
        at = torch.searchsorted(ends, goal, right=True).clamp_(max=inside.shape[1] - 1)
        drawn = members.gather(1, at)
        lessons = [level / level.sum(1, keepdim=True)]
        beside = self.codes[members.clamp(min=0)]
        name = self.codes[drawn]
        for number, size in enumerate(self.sizes[1:], start=1):
            inside = inside * (beside[..., number - 1] == name[..., number - 1])
            following = beside[..., number]
            level = torch.zeros(len(mass), size, device=mass.device)
            level.scatter_add_(1, following.clamp(min=0), inside.masked_fill(following < 0, 0))
            level *= name[..., number] >= 0
            lessons.append(level / level.sum(1, keepdim=True).clamp(min=1e-30))
        return drawn[:, 0], lessons
