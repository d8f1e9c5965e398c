"""Transformer parts shared by every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.noise import Dropout, Noise


class Trunk(nn.Module):
    """Item vectors to a state for every prefix: float[b, l, d], left aligned, to the same."""

    def last(self, items: Tensor, ends: Tensor) -> Tensor:
        """Float[b, d], the states at int64[b] places."""
        states: Tensor = self(items)
        return states[torch.arange(len(ends), device=ends.device), ends]


def check_heads(width: int, heads: int) -> None:
    """Refuse heads that attention cannot have.

    Raises:
        ValueError: they do not divide the width.
    """
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")


class CausalBlock(nn.Module):
    """Pre-norm block: causal self-attention, then a GELU feed-forward (Vaswani et al. 2017).

    Rows are left aligned, so the causal mask alone hides the padding behind them.
    """

    def __init__(self, width: int, heads: int, expand: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.before_feed = nn.LayerNorm(width)
        self.up = nn.Linear(width, expand * width)
        self.down = nn.Linear(expand * width, width)
        self.dropout = Dropout(dropout, noise)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """float[b, l, width] to the same; a bool mask [b, 1, 1, l] takes the causal one's place."""
        return self._close(x, self.attend(*self._split(x), mask))

    def last(self, x: Tensor, ends: Tensor) -> Tensor:
        """What :meth:`forward` gives at one place of each row, float[b, width]; a few times faster.

        Args:
            x: float[b, l, width].
            ends: int64[b], the places.
        """
        b, length, width = x.shape
        rows = torch.arange(b, device=x.device)
        normed = self.before_attention(x)
        q = F.linear(normed[rows, ends], self.qkv.weight[:width], self.qkv.bias[:width])
        seen = torch.arange(length, device=x.device) <= ends[:, None]
        mixed = self.glance(q.view(b, self.heads, -1), normed, seen)
        return self._feed(x[rows, ends] + self.dropout(self.mix(mixed)))

    def glance(self, q: Tensor, normed: Tensor, seen: Tensor) -> Tensor:
        """What one query a row attends to, without a key or value of any place.

        The key's weights multiply the query and the value's weights the mean of what is seen, so
        the work does not grow with width times width times length. A key's bias adds the same to
        all scores of a head and is left out.

        Args:
            q: float[b, heads, c].
            normed: float[b, l, width].
            seen: bool[b, l].

        Returns:
            float[b, width].
        """
        b, heads, size = q.shape
        width = normed.shape[2]
        _, key, value = self.qkv.weight.view(3, heads, size, width)
        asked = (q.transpose(0, 1) @ key).transpose(0, 1)
        scores = asked @ normed.transpose(1, 2) * size**-0.5
        weights = scores.masked_fill(~seen[:, None, :], -torch.inf).softmax(2)
        mean = (weights.to(normed.dtype) @ normed).transpose(0, 1)
        mixed = (mean @ value.transpose(1, 2)).transpose(0, 1).reshape(b, width)
        return mixed + self.qkv.bias[2 * width :].to(mixed.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """float[b, heads, n, c] of queries against float[b, heads, l, c]; None: n = l, causal."""
        return _attention(q, k, v, mask)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values float[b, heads, l, c] of float[b, l, width]."""
        b, length, _ = x.shape
        parts = self.qkv(self.before_attention(x)).view(b, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return q, k, v

    def _close(self, x: Tensor, seen: Tensor) -> Tensor:
        """What float[b, l, width] becomes by what was attended to, float[b, heads, l, c]."""
        return self._feed(self._attended(x, seen))

    def _attended(self, x: Tensor, seen: Tensor) -> Tensor:
        return x + self.dropout(self.mix(seen.transpose(1, 2).reshape(x.shape)))

    def _feed(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.up(self.before_feed(x))))
        out: Tensor = x + self.dropout(self.down(hidden))
        return out


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """float[b, heads, l, d] attention over what the mask shows; None: over what came before.

    On processors in float32: the backward pass of the bf16 kernel takes ten times as long.
    """
    causal = mask is None
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), mask, is_causal=causal
        )
    return out.to(q.dtype)


class SequenceEncoder(Trunk):
    """Item vectors with positions through causal blocks: a state for every prefix.

    Args:
        width: model width d.
        blocks: number of blocks.
        heads: attention heads.
        length: longest sequence.
        dropout: rate inside the blocks.
        input_dropout: rate on the summed input.
        noise: the model's randomness.
        expand: the feed-forward's width in widths.
        block: makes a block of (width, heads, expand, dropout, noise).
        positions: whether learned absolute positions are added.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        length: int,
        dropout: float,
        input_dropout: float,
        noise: Noise,
        expand: int = 4,
        *,
        block: Callable[[int, int, int, float, Noise], CausalBlock] = CausalBlock,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02) if positions else None
        self.input_dropout = Dropout(input_dropout, noise)
        self.blocks = nn.ModuleList(
            block(width, heads, expand, dropout, noise) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, items: Tensor) -> Tensor:
        """float[b, l, d] item vectors, left aligned, to float[b, l, d] states."""
        x = self.enter(items)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def enter(self, items: Tensor) -> Tensor:
        """What the first block reads: positions added, some of it dropped."""
        placed = items if self.positions is None else items + self.positions[: items.shape[1]]
        out: Tensor = self.input_dropout(placed)
        return out

    def last(self, items: Tensor, ends: Tensor) -> Tensor:
        """Float[b, d], the states at int64[b] places; the last block computes nothing else."""
        x = self.enter(items)
        *before, final = self.blocks
        for block in before:
            x = block(x)
        out: Tensor = self.norm(cast(CausalBlock, final).last(x, ends))
        return out
