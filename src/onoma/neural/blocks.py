"""Transformer parts shared by every model."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.noise import Dropout, Noise


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

    def forward(self, x: Tensor) -> Tensor:
        """float[b, l, width] to the same."""
        b, length, width = x.shape
        qkv = self.qkv(self.before_attention(x))
        q, k, v = qkv.view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = _causal_attention(q, k, v)
        x = x + self.dropout(self.mix(seen.transpose(1, 2).reshape(b, length, width)))
        return self._feed(x)

    def last(self, x: Tensor, ends: Tensor) -> Tensor:
        """What :meth:`forward` gives at one place of each row, float[b, width]; a few times faster.

        Args:
            x: float[b, l, width].
            ends: int64[b], the places.
        """
        b, length, width = x.shape
        rows = torch.arange(b, device=x.device)
        normed = self.before_attention(x)
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(normed[rows, ends], weight[:width], bias[:width])
        kv = F.linear(normed, weight[width:], bias[width:])
        k, v = kv.view(b, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = torch.arange(length, device=x.device) <= ends[:, None]
        mixed = F.scaled_dot_product_attention(
            q.view(b, self.heads, 1, -1), k, v, attn_mask=seen[:, None, None, :]
        )
        return self._feed(x[rows, ends] + self.dropout(self.mix(mixed.reshape(b, width))))

    def _feed(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.up(self.before_feed(x))))
        out: Tensor = x + self.dropout(self.down(hidden))
        return out


def _causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """float[b, heads, l, d] attention over what came before.

    On processors in float32: the backward pass of the bf16 kernel takes ten times as long.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
    return out.to(q.dtype)


class SequenceEncoder(nn.Module):
    """Item vectors with positions through causal blocks: a state for every prefix.

    Args:
        width: model width d.
        blocks: number of blocks.
        heads: attention heads.
        length: longest sequence.
        dropout: rate inside the blocks.
        input_dropout: rate on the summed input.
        noise: the model's randomness.
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
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.input_dropout = Dropout(input_dropout, noise)
        self.blocks = nn.ModuleList(
            CausalBlock(width, heads, expand, dropout, noise) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, items: Tensor) -> Tensor:
        """float[b, l, d] item vectors, left aligned, to float[b, l, d] states."""
        x = self.input_dropout(items + self.positions[: items.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def last(self, items: Tensor, ends: Tensor) -> Tensor:
        """Float[b, d], the states at int64[b] places; the last block computes nothing else."""
        x = self.input_dropout(items + self.positions[: items.shape[1]])
        *before, final = self.blocks
        for block in before:
            x = block(x)
        out: Tensor = self.norm(cast(CausalBlock, final).last(x, ends))
        return out
