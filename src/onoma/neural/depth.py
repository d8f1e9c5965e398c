"""A small transformer over the codes of one name: spells the next item from a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import CausalBlock
from onoma.neural.noise import Dropout, Noise


@dataclass(frozen=True)
class DepthState:
    """Keys and values of the codes said so far.

    Attributes:
        context: one float[n, 1, 2 * width] a layer; a user's beams share it, it is never copied.
        said: per code said, one float[n, b, 2 * width] a layer, in the order of the beams.
    """

    context: tuple[Tensor, ...]
    said: tuple[tuple[Tensor, ...], ...]


class DepthDecoder(nn.Module):
    """Logits of each code given a context and the codes before it.

    Position 0 reads the context, position ``l`` the code of level ``l - 1``; each answers through
    the head of its own level alone (the depth transformer of RQ-Transformer, Lee et al., CVPR
    2022). Is a :class:`onoma.neural.beam.Speller`.

    Args:
        sizes: vocabulary of each level.
        width: model width d, also of the context.
        layers: number of blocks.
        heads: attention heads.
        dropout: rate inside the blocks.
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
        heads: int = 4,
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
                nn.init.normal_(cast(nn.Embedding, table).weight, std=0.02)
        self.tables = tables
        self.positions = nn.Parameter(torch.randn(len(self.sizes), width) * 0.02)
        self.input_dropout = Dropout(dropout, noise)
        self.blocks = nn.ModuleList(
            CausalBlock(width, heads, expand, dropout, noise) for _ in range(layers)
        )
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
        parts = [context] + [
            table(codes[:, level].clamp(min=0)) for level, table in enumerate(self.tables[:-1])
        ]
        x = self.input_dropout(torch.stack(parts, dim=1) + self.positions)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return [head(x[:, level]) for level, head in enumerate(self.heads)]

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
        n = len(codes) if lessons is None else int((lessons[0].sum(1) > 0).sum())
        for level, row in enumerate(self.forward(context, codes)):
            if lessons is None:
                goal = codes[:, level]
                total.append(F.cross_entropy(row.float(), goal, ignore_index=-1, reduction="sum"))
            else:
                total.append(-(lessons[level] * row.float().log_softmax(1)).sum())
        return torch.stack(total).sum() / max(n, 1)

    def begin(self, context: Tensor) -> tuple[Tensor, DepthState]:
        """See :class:`onoma.neural.beam.Speller`; context is float[n, width]."""
        return context[:, None, :], DepthState((), ())

    def step(
        self, state: tuple[Tensor, DepthState], level: int, codes: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, DepthState]]:
        """See :class:`onoma.neural.beam.Speller`."""
        context, past = state
        blocks = [cast(CausalBlock, block) for block in self.blocks]
        first = None
        if codes is None:
            x = context + self.positions[0]
        else:
            table = cast(nn.Embedding, self.tables[level - 1]).weight
            if table.shape[0] <= codes.numel():
                # What the first block makes of a code before it looks around depends on the code
                # alone: computed once a code, not once a beam.
                spoken = table + self.positions[level]
                block = blocks[0]
                first = F.embedding(codes, block.qkv(block.before_attention(spoken)))
                x = F.embedding(codes, spoken)
            else:
                x = F.embedding(codes, table) + self.positions[level]
        new = []
        for layer, block in enumerate(blocks):
            qkv = block.qkv(block.before_attention(x)) if first is None or layer else first
            query, keys_values = qkv[..., : self.width], qkv[..., self.width :]
            new.append(keys_values)
            before = [] if codes is None else [past.context[layer]]
            before += [said[layer] for said in past.said]
            x = x + block.mix(_attend(query, [*before, keys_values], block.heads))
            x = x + block.down(F.gelu(block.up(block.before_feed(x))))
        logits = self.heads[level](self.norm(x))
        if codes is None:
            past = replace(past, context=tuple(new))
        elif level + 1 < len(self.sizes):
            past = replace(past, said=(*past.said, tuple(new)))
        return logits, (context, past)

    def reorder(
        self, state: tuple[Tensor, DepthState], parents: Tensor
    ) -> tuple[Tensor, DepthState]:
        """See :class:`onoma.neural.beam.Speller`."""
        context, past = state
        if not past.said:
            return state
        beams = past.said[0][0].shape[1]
        rows = (parents + torch.arange(len(parents), device=parents.device)[:, None] * beams).view(
            -1
        )
        said = tuple(
            tuple(
                cached.reshape(-1, cached.shape[-1]).index_select(0, rows).view(*parents.shape, -1)
                for cached in position
            )
            for position in past.said
        )
        return context, replace(past, said=said)


def _attend(query: Tensor, cached: list[Tensor], heads: int) -> Tensor:
    """Attention of one query a beam over a few positions; float[n, b, width].

    A handful of keys is too few for matrix kernels: products and sums over whole batches are
    several times as fast, and a context of one row broadcasts over the beams.
    """
    n, b, width = query.shape
    q = query.reshape(n, b, heads, -1) * (width // heads) ** -0.5
    split = [c.view(*c.shape[:2], 2, heads, -1).unbind(2) for c in cached]
    keys, values = [pair[0] for pair in split], [pair[1] for pair in split]
    weights = torch.stack([(q * key).sum(-1) for key in keys]).float().softmax(0).to(q.dtype)
    out = weights[0][..., None] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        out = torch.addcmul(out, weight[..., None], value)
    return out.reshape(n, b, width)
