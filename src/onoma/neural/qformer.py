"""A query transformer: learnt queries that read vectors, beside a text that they may see."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import CausalBlock
from onoma.neural.noise import Noise

Sight = Literal["both", "causal"]


class QueryBlock(CausalBlock):
    """A look at what is read, self-attention that queries and text share, and two feed-forwards.

    Li et al., BLIP-2, ICML 2023, section 3.1. Only queries look at what is read; they do so first,
    and not after the self-attention, so that texts are beside queries that know it in every block:
    with the few blocks that items need it would otherwise be in none, or in half of them.

    Args:
        width: model width d.
        heads: attention heads.
        expand: the feed-forwards' width in widths.
        dropout: rate.
        noise: the model's randomness.
    """

    def __init__(self, width: int, heads: int, expand: int, dropout: float, noise: Noise) -> None:
        super().__init__(width, heads, expand, dropout, noise)
        self.before_look = nn.LayerNorm(width)
        self.asks = nn.Linear(width, width)
        self.shows = nn.Linear(width, 2 * width)
        self.look_mix = nn.Linear(width, width)
        self.before_text = nn.LayerNorm(width)
        self.text_up = nn.Linear(width, expand * width)
        self.text_down = nn.Linear(expand * width, width)

    def beside(self, x: Tensor, mask: Tensor, shown: Tensor | None, queries: int) -> Tensor:
        """float[b, q + t, width], queries in front of a text, to the same.

        Args:
            x: of both; either may be empty.
            mask: bool[b, 1, q + t, q + t], who may see whom.
            shown: float[b, s, width], what queries look at; not needed without queries.
            queries: how many of them, q.
        """
        if queries:
            assert shown is not None
            x = torch.cat([self._look(x[:, :queries], shown), x[:, queries:]], 1)
        q, k, v = self._split(x)
        x = self._attended(x, self.attend(q, k, v, mask))
        parts = [self._feed(x[:, :queries])] if queries else []
        if x.shape[1] > queries:
            text = x[:, queries:]
            hidden = self.dropout(F.gelu(self.text_up(self.before_text(text))))
            parts.append(text + self.dropout(self.text_down(hidden)))
        return torch.cat(parts, 1)

    def _look(self, x: Tensor, shown: Tensor) -> Tensor:
        b, n, width = x.shape
        q = self.asks(self.before_look(x)).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = self.shows(shown).view(b, -1, 2, self.heads, width // self.heads).permute(
            2, 0, 3, 1, 4
        )  # fmt: skip
        everything = torch.ones((1, 1, 1, k.shape[2]), dtype=torch.bool, device=x.device)
        seen = self.attend(q, k, v, everything)
        mixed = self.look_mix(seen.transpose(1, 2).reshape(b, n, width))
        out: Tensor = x + self.dropout(mixed)
        return out


class QueryTransformer(nn.Module):
    """Turns one vector into a few states by queries, and reads texts alone or beside them.

    Args:
        into: dimensions of a vector that is read.
        width: model width d, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads.
        queries: learnt queries q.
        spread: states s that a vector is expanded to, which the queries look at.
        length: tokens of a text at most.
        dropout: rate.
        noise: the model's randomness.
        expand: the feed-forwards' width in widths.
    """

    # Parts that only texts go through.
    of_text = ("before_text", "text_up", "text_down", "places", "text_norm")

    def __init__(
        self,
        into: int,
        width: int,
        blocks: int,
        heads: int,
        queries: int,
        spread: int,
        length: int,
        dropout: float,
        noise: Noise,
        expand: int = 4,
    ) -> None:
        super().__init__()
        self.width, self.spread = width, spread
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.5)
        self.expansion = nn.Linear(into, spread * width)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(
            QueryBlock(width, heads, expand, dropout, noise) for _ in range(blocks)
        )
        self.norm, self.text_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def shown(self, vectors: Tensor) -> Tensor:
        """float[b, s, width], what float[b, into] vectors are expanded to."""
        found: Tensor = self.expansion(vectors)
        return found.view(len(vectors), self.spread, self.width)

    def forward(self, vectors: Tensor) -> Tensor:
        """float[b, into] vectors to float[b, q, width], the queries' states without a text."""
        x = self.queries.expand(len(vectors), -1, -1)
        count, shown = x.shape[1], self.shown(vectors)
        mask = torch.ones((1, 1, count, count), dtype=torch.bool, device=x.device)
        for block in self.blocks:
            assert isinstance(block, QueryBlock)
            x = block.beside(x, mask, shown, count)
        out: Tensor = self.norm(x)
        return out

    def read(self, words: Tensor, known: Tensor) -> Tensor:
        """The states of texts that see no query.

        Args:
            words: float[b, t, width], vectors of tokens.
            known: bool[b, t], where there is one; the first always is.

        Returns:
            float[b, t, width].
        """
        x = words + self.places[: words.shape[1]]
        mask = known[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        for block in self.blocks:
            assert isinstance(block, QueryBlock)
            x = block.beside(x, mask, None, 0)
        out: Tensor = self.text_norm(x)
        return out

    def together(
        self, vectors: Tensor, words: Tensor, known: Tensor, sight: Sight
    ) -> tuple[Tensor, Tensor]:
        """Queries and texts in one pass.

        Args:
            vectors: float[b, into], what the queries look at.
            words: float[b, t, width].
            known: bool[b, t].
            sight: ``both`` see each other; or ``causal``, where queries see queries alone, and a
                token the queries and the tokens before it.

        Returns:
            float[b, q, width] of the queries and float[b, t, width] of the texts.
        """
        b, t, _ = words.shape
        count = len(self.queries)
        x = torch.cat(
            [self.queries.expand(b, -1, -1), words + self.places[:t]], dim=1
        )  # fmt: skip
        there = torch.cat([known.new_ones((b, count)), known], dim=1)
        mask = there[:, None, None, :].expand(-1, 1, count + t, -1)
        if sight == "causal":
            order = torch.arange(count + t, device=x.device).clamp(min=count - 1)
            mask = mask & (order[None, :] <= order[:, None])
        shown = self.shown(vectors)
        for block in self.blocks:
            assert isinstance(block, QueryBlock)
            x = block.beside(x, mask, shown, count)
        return self.norm(x[:, :count]), self.text_norm(x[:, count:])
