"""Blocks of latent reasoning behind a context that is read once."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from onoma.neural.blocks import CausalBlock
from onoma.neural.noise import Noise

Kept = list[tuple[Tensor, Tensor]]


class GroupBlock(CausalBlock):
    """A pre-norm block that reads a context from both sides, and groups of tokens behind it."""

    def remember(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float[b, l, width] to the same, with keys and values float[b, heads, l, c].

        Args:
            x: float[b, l, width].
            mask: bool[b, l], the tokens that are there.
        """
        q, k, v = self._split(x)
        return self._close(x, self.attend(q, k, v, mask[:, None, None, :])), k, v

    def follow(
        self, x: Tensor, k: Tensor, v: Tensor, own: Kept, mask: Tensor, there: Tensor
    ) -> Tensor:
        """One block of g groups of m tokens, float[b, g, m, width] to the same.

        A token sees the context and all tokens of its group in this block and those before it;
        nothing of another group, and the context sees none of them.

        Args:
            x: float[b, g, m, width].
            k: float[b, heads, l, c], keys of the context.
            v: its values.
            own: keys and values float[b, heads, g, m, c] of earlier blocks; this one's are added.
            mask: bool[b, l], the context that is there.
            there: bool[b, g, m], the tokens of the groups that are there.
        """
        b, groups, m, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(b, groups, m, 3, self.heads, -1)
        q, own_k, own_v = qkv.permute(3, 0, 4, 1, 2, 5)
        own.append((own_k, own_v))
        past = (q.flatten(2, 3) @ k.transpose(2, 3)).view(b, self.heads, groups, m, -1)
        past = past.masked_fill(~mask[:, None, None, None, :], -torch.inf)
        mine = q @ torch.cat([key for key, _ in own], dim=3).transpose(3, 4)
        shown = there[:, None, :, None, :].repeat(1, 1, 1, 1, len(own))
        mine = mine.masked_fill(~shown, -torch.inf)
        logits = torch.cat([past, mine], dim=4).float() / math.sqrt(q.shape[4])
        weights = torch.softmax(logits, dim=4).to(v.dtype)
        length = k.shape[2]
        mixed = (weights[..., :length].flatten(2, 3) @ v).view(b, self.heads, groups, m, -1)
        mixed = mixed + weights[..., length:] @ torch.cat([value for _, value in own], dim=3)
        joined = mixed.permute(0, 2, 3, 1, 4).reshape(b, groups, m, width)
        return self._feed(x + self.dropout(self.mix(joined)))


class BlockReasoner(nn.Module):
    """Reads a context once, then goes on in blocks of latent states (OnePiece, S061).

    Step k reads the states of the step before it plus a vector of its own, by the same layers.

    Args:
        width: model width.
        blocks: layers.
        heads: attention heads.
        steps: K, blocks of reasoning.
        dropout: rate inside the layers.
        noise: the model's randomness.
        expand: the feed-forward's width in widths.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        steps: int,
        dropout: float,
        noise: Noise,
        expand: int = 4,
    ) -> None:
        super().__init__()
        self.width, self.expand = width, expand
        self.blocks = nn.ModuleList(
            GroupBlock(width, heads, expand, dropout, noise) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.marks = nn.Parameter(torch.randn(steps, width) * 0.02)

    def read(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Kept]:
        """States float[b, l, width] of a context, and every layer's keys and values."""
        x, kept = context, []
        for block in self.blocks:
            x, k, v = cast(GroupBlock, block).remember(x, mask)
            kept.append((k, v))
        return self.norm(x), kept

    def candidates(self, x: Tensor, kept: Kept, mask: Tensor, there: Tensor) -> list[Tensor]:
        """The states of groups of candidates and of every step behind them.

        Args:
            x: float[b, g, m, width] candidates.
            kept: of the context, by :meth:`read`.
            mask: bool[b, l], the context that is there.
            there: bool[b, g, m], the candidates that are there.

        Returns:
            K + 1 float[b, g, m, width].
        """
        own: list[Kept] = [[] for _ in self.blocks]
        first = self._follow(x, kept, own, mask, there)
        return self._reason(first, kept, own, mask, there)

    def seeds(self, states: Tensor, kept: Kept, mask: Tensor) -> list[Tensor]:
        """The states of every step behind tokens that are part of the context.

        Args:
            states: float[b, m, width], what :meth:`read` gave for them.
            kept: of the context.
            mask: bool[b, l], the context that is there.

        Returns:
            K + 1 float[b, 1, m, width], the first of them ``states``.
        """
        own: list[Kept] = [[] for _ in self.blocks]
        first = states[:, None]
        there = torch.ones(first.shape[:3], dtype=torch.bool, device=states.device)
        return self._reason(first, kept, own, mask, there)

    def _reason(
        self, first: Tensor, kept: Kept, own: list[Kept], mask: Tensor, there: Tensor
    ) -> list[Tensor]:
        states = [first]
        for mark in self.marks:
            states.append(self._follow(states[-1] + mark, kept, own, mask, there))
        return states

    def _follow(
        self, x: Tensor, kept: Kept, own: list[Kept], mask: Tensor, there: Tensor
    ) -> Tensor:
        for block, (k, v), mine in zip(self.blocks, kept, own, strict=True):
            x = cast(GroupBlock, block).follow(x, k, v, mine, mask, there)
        out: Tensor = self.norm(x)
        return out

    def work(self, context: int, group: int, asked: bool = True) -> int:
        """Multiplications of one forward pass over one context and one group.

        Args:
            context: tokens of the context.
            group: tokens that reason.
            asked: whether they are a block of their own (candidates) or part of the context.
        """
        rounds = len(self.marks) + asked
        tokens = context + rounds * group
        linear = tokens * (4 + 2 * self.expand) * self.width**2
        pairs = context**2 + sum(group * (context + n * group) for n in range(1, rounds + 1))
        return len(self.blocks) * (linear + 2 * pairs * self.width)
