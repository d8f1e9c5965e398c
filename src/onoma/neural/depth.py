"""A small network over the codes of one name: spells the next item from a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.device import compute_dtype
from onoma.neural.noise import Dropout, Noise

_CODE_SCALE = 0.5  # of a code's initial vector; the state it joins is normalised to 1


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
        fed = self.down(F.relu(self.up(self.norm(x))).square())
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
        said = [self.enter(context).float()]
        for level, table in enumerate(self.tables[:-1]):
            said.append(said[-1] + table(codes[:, level].clamp(min=0)))
        x = self._read(self.input_dropout(torch.stack(said, dim=1) + self.positions))
        return [head(x[:, level]) for level, head in enumerate(self.heads)]

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
        total = []
        n = int((codes[:, 0] >= 0).sum() if lessons is None else (lessons[0].sum(1) > 0).sum())
        for level, row in enumerate(self.forward(context, codes)):
            if lessons is None:
                goal = codes[:, level]
                total.append(F.cross_entropy(row.float(), goal, ignore_index=-1, reduction="sum"))
            else:
                total.append(-(lessons[level] * row.float().log_softmax(1)).sum())
        return torch.stack(total).sum() / max(n, 1)

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
