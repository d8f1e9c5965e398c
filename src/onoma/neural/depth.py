"""A small network over the codes of one name: spells the next item from a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.device import compute_dtype
from onoma.neural.loss import full_softmax
from onoma.neural.noise import Dropout, Noise, whole

_CODE_SCALE = 0.5  # of a code's initial vector; the state it joins is normalised to 1
_WIDE = 512  # codes from which a level's logits cost more in memory than in arithmetic


class _Feed(torch.autograd.Function):
    """Product, squared ReLU, product; one wide tensor is kept and passed over in place.

    Twice what is squared is the slope, and it is zero where ReLU cut.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        hidden = _cut(F.linear(x, up))
        ctx.save_for_backward(x, up, down, hidden)
        return F.linear(hidden.square(), down)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, up, down, hidden = ctx.saved_tensors
        flat, narrow = x.flatten(0, -2), grad.flatten(0, -2)
        wide = hidden.flatten(0, -2)
        back_down = narrow.T @ wide.square()
        back = (narrow @ down).mul_(wide)
        found = (back @ up).mul_(2).view_as(x)
        return found, (back.T @ flat).mul_(2), back_down


def _cut(x: Tensor) -> Tensor:
    """ReLU in place: a negative float is a negative integer, too, and these are cut faster."""
    x.view(whole(x.dtype)).clamp_min_(0)
    return x


class _Block(nn.Module):
    """Pre-norm feed-forward with a squared ReLU (So et al., Primer, 2021), no biases.

    The bias of the normalisation passes through the first product and serves as its bias.
    """

    def __init__(self, width: int, expand: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expand * width, bias=False)
        self.down = nn.Linear(expand * width, width, bias=False)
        self.dropout = Dropout(dropout, noise)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        if torch.is_grad_enabled():
            dtype = compute_dtype(x)
            up, down = self.up.weight.to(dtype), self.down.weight.to(dtype)
            fed = _Feed.apply(self.norm(x).to(dtype), up, down)  # type: ignore[no-untyped-call]
        else:  # a step of a beam is small, and autocast keeps the weights that it has cast
            fed = self.down(_cut(self.up(self.norm(x))).square_())
        out: Tensor = x + self.dropout(fed)
        return out


class DepthDecoder(nn.Module):
    """Logits of each code given a context and the codes before it.

    Level ``l`` reads the context plus the vectors of the codes said so far, each of a table of
    its own level, through feed-forward blocks that all levels share; it answers through the head
    of its level. It takes the place of the depth transformer (RQ-Transformer, Lee et al., CVPR
    2022): a name has so few codes that a sum carries what attention over them would, at two thirds
    of the arithmetic and with a running sum in place of a cache.
    Is a :class:`onoma.neural.beam.Speller`.

    Args:
        sizes: vocabulary of each level.
        width: model width d, also of the context.
        layers: number of blocks.
        dropout: rate on the input and on what each block adds.
        expand: width of the feed-forward by ``width``.
        noise: the model's randomness; its own where none is given.
        tables: code embeddings to share, one ``nn.Embedding(sizes[l], width)`` a level; they
            are then the inputs here as well.
        tie: use the code embeddings as output weights too.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        layers: int = 2,
        dropout: float = 0.0,
        *,
        expand: int = 4,
        noise: Noise | None = None,
        tables: nn.ModuleList | None = None,
        tie: bool = False,
    ) -> None:
        super().__init__()
        noise = Noise() if noise is None else noise
        self.sizes, self.width = tuple(int(size) for size in sizes), width
        if tables is None:
            tables = nn.ModuleList(nn.Embedding(size, width) for size in self.sizes)
            for table in tables:
                nn.init.normal_(cast(nn.Embedding, table).weight, std=_CODE_SCALE)
        self.tables = tables
        self.positions = nn.Parameter(torch.randn(len(self.sizes), width) * 0.02)
        self.enter = nn.LayerNorm(width)
        self.input_dropout = Dropout(dropout, noise)
        self.blocks = nn.ModuleList(_Block(width, expand, dropout, noise) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in self.sizes)
        if tie:
            for head, table in zip(self.heads, self.tables, strict=True):
                head.weight = table.weight

    def forward(self, context: Tensor, codes: Tensor) -> list[Tensor]:
        """Logits of every level in one pass, each given the true codes before it.

        Args:
            context: float[m, width].
            codes: int64[m, depth]; -1 after the end of a name, where the logits mean nothing.

        Returns:
            One float[m, size] a level.
        """
        x = self._read(self.input_dropout(self._entered(context, codes)))
        return [head(x[:, level]) for level, head in enumerate(self.heads)]

    def _entered(self, context: Tensor, codes: Tensor) -> Tensor:
        """float32[m, depth, width], what each level reads."""
        said = [self.enter(context).float()]
        for level, table in enumerate(self.tables[:-1]):
            said.append(said[-1] + table(codes[:, level].clamp(min=0)))
        return torch.stack(said, dim=1) + self.positions

    def _read(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def loss(
        self, context: Tensor, codes: Tensor, lessons: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Mean over names of the cross-entropy of their codes.

        Args:
            context: as for :meth:`forward`.
            codes: as for :meth:`forward`.
            lessons: what each level should answer after the codes before it, one float[m, size]
                a level, zeros for rows that do not count; the codes themselves where not given.

        Returns:
            float32[]; without lessons, the mean of minus log p(name).
        """
        counts = codes[:, 0] >= 0 if lessons is None else lessons[0].sum(1) > 0
        goals = codes.masked_fill(~counts[:, None], -1)
        every = torch.arange(len(codes), device=codes.device)
        places = [_told(goals[:, level]) for level in range(len(self.sizes))]
        read = self._entered(context, codes).transpose(0, 1).flatten(0, 1)
        if any(rows is not None for rows in places):
            told = [every if rows is None else rows for rows in places]
            read = read.index_select(
                0, torch.cat([level * len(codes) + rows for level, rows in enumerate(told)])
            )
        sizes = [len(codes) if rows is None else len(rows) for rows in places]
        said = torch.split(self._read(self.input_dropout(read)), sizes)
        total = read.new_zeros(())
        for level, (x, rows) in enumerate(zip(said, places, strict=True)):
            here = slice(None) if rows is None else rows
            if lessons is None:
                total = total + self._surprise(level, x, goals[here, level])
            else:
                logits = self.heads[level](x).float()
                total = total - (lessons[level][here] * logits.log_softmax(1)).sum()
        return total / counts.sum().clamp(min=1)

    def _surprise(self, level: int, x: Tensor, codes: Tensor) -> Tensor:
        """Sum of the cross-entropies of int64[n] codes of one level, -1 for none, after states."""
        head = cast(nn.Linear, self.heads[level])
        if self.sizes[level] < _WIDE or not len(codes):
            return F.cross_entropy(head(x).float(), codes, ignore_index=-1, reduction="sum")
        rows = torch.cat([x.float(), x.new_ones(len(x), 1, dtype=torch.float32)], 1)
        table = torch.cat([head.weight, head.bias[:, None]], 1)
        return full_softmax(rows, table, codes) * (codes >= 0).sum()

    def begin(self, context: Tensor) -> Tensor:
        """See :class:`onoma.neural.beam.Speller`; context is float[n, width]."""
        dtype = compute_dtype(context)
        said: Tensor = self.enter(context)[:, None, :].to(dtype)
        return said

    def step(self, state: Tensor, level: int, codes: Tensor | None) -> tuple[Tensor, Tensor]:
        """See :class:`onoma.neural.beam.Speller`."""
        if codes is not None:
            table = cast(nn.Embedding, self.tables[level - 1]).weight
            state = state + F.embedding(codes, table.to(state.dtype))
        x = self._read(state + self.positions[level].to(state.dtype))
        return self.heads[level](x), state

    def reorder(self, state: Tensor, parents: Tensor) -> Tensor:
        """See :class:`onoma.neural.beam.Speller`."""
        n, beams, width = state.shape
        if beams == 1:
            return state  # one state a user broadcasts over the beams
        rows = parents + torch.arange(n, device=parents.device)[:, None] * beams
        return state.reshape(-1, width).index_select(0, rows.view(-1)).view(*parents.shape, width)


def _told(goals: Tensor) -> Tensor | None:
    """int64[r], the places of int64[m] goals that are codes; None where leaving out saves little.

    Matrix libraries build a kernel for every shape they meet, so r is a multiple of 128; the places
    beyond those of codes are of -1.
    """
    told, none = (goals >= 0).nonzero()[:, 0], (goals < 0).nonzero()[:, 0]
    beyond = -len(told) % 128
    return None if len(none) <= beyond else torch.cat([told, none[:beyond]])
