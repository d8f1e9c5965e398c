"""Blocks of T5 (Raffel et al., JMLR 2020): RMS norms, relative positions, no biases, plain ReLU.

Attention has no root of the head width; the first weights carry it. Every block takes ``x`` and
gives back what it adds to ``x``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.device import compute_dtype
from onoma.neural.noise import Dropout, Noise, whole

_BUCKETS, _FAR = 32, 128  # as published


class Norm(nn.Module):
    """Root mean square normalisation in float32 (Zhang and Sennrich, NeurIPS 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


class RelativeBias(nn.Module):
    """What is added to attention by how far key and query are apart, in buckets.

    Half of the buckets hold one distance each, the others grow up to a distance of 128.

    Args:
        heads: attention heads.
        both: whether keys after the query have buckets of their own.
        deviation: of the first weights.
    """

    def __init__(self, heads: int, both: bool, deviation: float) -> None:
        super().__init__()
        self.both = both
        self.weight = nn.Parameter(torch.randn(_BUCKETS, heads) * deviation)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """float32[heads, q, k] of int64[q] and int64[k] places."""
        apart = keys[None, :] - queries[:, None]
        buckets, base = _BUCKETS, torch.zeros_like(apart)
        if self.both:
            buckets //= 2
            base = (apart > 0).long() * buckets
            apart = apart.abs()
        else:
            apart = (-apart).clamp(min=0)
        near = buckets // 2
        far = (apart.clamp(min=1).float() / near).log() / math.log(_FAR / near)
        far = (near + (far * (buckets - near)).long()).clamp(max=buckets - 1)
        return self.weight[base + torch.where(apart < near, apart, far)].permute(2, 0, 1)


class _Heads(torch.autograd.Function):
    """Parts of one product, each with its heads apart; back in one pass over one table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
        b, length, width = x.shape
        ctx.shape = (b, length, parts, heads, width // (parts * heads))
        apart = x.view(ctx.shape).permute(2, 0, 3, 1, 4)
        return tuple(part.contiguous() for part in apart)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        made = grads[0].new_empty(ctx.shape)
        for place, grad in zip(made.permute(2, 0, 3, 1, 4), grads, strict=True):
            place.copy_(grad)
        return made.flatten(2), None, None


class Attention(nn.Module):
    """Queries of one sequence, keys and values of the same or another."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.inner = heads, inner
        first = torch.randn(3 * inner, width) * width**-0.5
        first[:inner] *= head_width**-0.5
        self.qkv = nn.Parameter(first)  # one table: a single product makes all three
        self.out = nn.Linear(inner, width, bias=False)
        nn.init.normal_(self.out.weight, std=inner**-0.5)

    def project(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """Parts float[b, heads, l, head_width] of float[b, l, width].

        The parts are 0 queries, 1 keys, 2 values, from ``first`` to before ``last``.
        """
        made = F.linear(x, self.qkv[first * self.inner : last * self.inner])
        apart: tuple[Tensor, ...] = _Heads.apply(made, last - first, self.heads)  # type: ignore[no-untyped-call]
        return apart

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, both float[b, heads, l, head_width], of float[b, l, width]."""
        k, v = self.project(x, 1, 3)
        return k, v

    def among(self, x: Tensor, bias: Tensor) -> Tensor:
        """Self-attention of float[b, l, width]."""
        queries, keys, values = self.project(x, 0, 3)
        return self.mix(queries, keys, values, bias)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Attend.

        Args:
            queries: float[b, heads, q, head_width].
            keys: float[b, heads, k, head_width].
            values: the same.
            bias: added to the logits, broadcast to float[b, heads, q, k].

        Returns:
            float[b, q, width].
        """
        logits = queries @ keys.transpose(2, 3)
        if bias is not None:
            logits = logits + bias
        seen = logits.softmax(-1).to(values.dtype) @ values
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out


class _Feed(torch.autograd.Function):
    """Product, ReLU, dropout, product; keeps one wide tensor and passes over it in place.

    A unit that ReLU or dropout cut is zero in ``hidden``, so the backward pass needs neither mask.
    Both cut by the bits of the floats, a negative one being a negative integer, too: three times as
    fast on processors.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Tensor, down: Tensor, kept: Tensor | None, scale: float
    ) -> Tensor:
        hidden = F.linear(x, up)
        bits = hidden.view(whole(hidden.dtype)).clamp_min_(0)
        if kept is not None:
            bits.bitwise_and_(kept)
        ctx.save_for_backward(x, up, down, hidden)
        ctx.scale = scale
        out = F.linear(hidden, down)
        return out if scale == 1 else out.mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, up, down, hidden = ctx.saved_tensors
        grad = grad.to(hidden.dtype) * ctx.scale
        back = grad @ down
        torch.ops.aten.threshold_backward.grad_input(back, hidden, 0, grad_input=back)
        flat, wide, narrow = x.flatten(0, -2), back.flatten(0, -2), grad.flatten(0, -2)
        return back @ up, wide.T @ flat, narrow.T @ hidden.flatten(0, -2), None, None


class FeedForward(nn.Module):
    """Two products with a ReLU between them."""

    def __init__(self, width: int, inner: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(inner, width) * width**-0.5)
        self.down = nn.Parameter(torch.randn(width, inner) * inner**-0.5)
        self.cut, self.noise = round(dropout * 256), noise

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        dtype = compute_dtype(x)
        kept, scale = None, 1.0
        if self.training and self.cut:
            shape = torch.Size((*x.shape[:-1], len(self.up)))
            kept = self.noise.kept(shape, self.cut, dtype).to(x.device)
            scale = 256 / (256 - self.cut)
        out: Tensor = _Feed.apply(x.to(dtype), self.up.to(dtype), self.down.to(dtype), kept, scale)  # type: ignore[no-untyped-call]
        return out


class EncoderBlock(nn.Module):
    """Self-attention in both directions, then the feed-forward."""

    def __init__(
        self, width: int, heads: int, head_width: int, inner: int, dropout: float, noise: Noise
    ) -> None:
        super().__init__()
        self.before_attention, self.before_feed = Norm(width), Norm(width)
        self.attention = Attention(width, heads, head_width)
        self.feed = FeedForward(width, inner, dropout, noise)
        self.dropout = Dropout(dropout, noise)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """float[b, l, width] to the same."""
        h = self.before_attention(x)
        x = x + self.dropout(self.attention.among(h, bias))
        out: Tensor = x + self.dropout(self.feed(self.before_feed(x)))
        return out


class Encoder(nn.Module):
    """Blocks that read a sequence in both directions.

    Args:
        width: model width d.
        layers: number of blocks.
        heads: attention heads.
        head_width: of each.
        inner: of the feed-forward.
        dropout: rate on the input, on what each block adds, inside the feed-forward and on the
            output.
        noise: the model's randomness.
        block: the kind of block.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        head_width: int,
        inner: int,
        dropout: float,
        noise: Noise,
    ) -> None:
        super().__init__()
        self.bias = RelativeBias(heads, True, width**-0.5)
        self.blocks = nn.ModuleList(
            EncoderBlock(width, heads, head_width, inner, dropout, noise) for _ in range(layers)
        )
        self.norm = Norm(width)
        self.dropout = Dropout(dropout, noise)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """float[b, l, width] to the same.

        Args:
            x: vectors, left aligned.
            padding: float32[b, 1, 1, l], -inf behind a row's end; None where rows are full.
        """
        places = torch.arange(x.shape[1], device=x.device)
        bias = self.bias(places, places)
        if padding is not None:
            bias = bias + padding
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, bias)
        out: Tensor = self.dropout(self.norm(x))
        return out


class DecoderBlock(nn.Module):
    """Self-attention over what was said, attention over what was read, the feed-forward."""

    def __init__(
        self, width: int, heads: int, head_width: int, inner: int, dropout: float, noise: Noise
    ) -> None:
        super().__init__()
        self.before_attention, self.before_read = Norm(width), Norm(width)
        self.before_feed = Norm(width)
        self.attention = Attention(width, heads, head_width)
        self.read = Attention(width, heads, head_width)
        self.feed = FeedForward(width, inner, dropout, noise)
        self.dropout = Dropout(dropout, noise)

    def forward(self, x: Tensor, bias: Tensor, states: Tensor, padding: Tensor | None) -> Tensor:
        """float[b, q, width] to the same.

        Args:
            x: what was said.
            bias: float32[heads, q, q], -inf for what comes later.
            states: float[b, l, width] of the encoder.
            padding: as for :class:`Encoder`.
        """
        h = self.before_attention(x)
        x = x + self.dropout(self.attention.among(h, bias))
        return self.finish(x, *self.read.keys(states), padding)

    def finish(self, x: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None) -> Tensor:
        """The part after self-attention, with the keys and values of what was read."""
        queries = self.read.project(self.before_read(x), 0, 1)[0]
        x = x + self.dropout(self.read.mix(queries, keys, values, padding))
        out: Tensor = x + self.dropout(self.feed(self.before_feed(x)))
        return out

    def say(
        self, x: Tensor, queries: Tensor, said: Iterator[tuple[Tensor, Tensor]], bias: Tensor
    ) -> Tensor:
        """Self-attention of one place over itself and the places before it.

        Args:
            x: float[n, b, width], what enters the block.
            queries: float[n, b, heads * head_width].
            said: keys and values float[n, b or 1, heads * head_width], one pair a place.
            bias: float32[heads, places].
        """
        heads = self.attention.heads
        q = queries.reshape(*queries.shape[:2], heads, -1)
        logits, values = [], []
        for keys, value in said:
            n, b, _ = keys.shape
            logits.append((q * keys.reshape(n, b, heads, -1)).sum(-1))
            values.append(value.reshape(n, b, heads, -1))
        share = (torch.stack(logits, -1) + bias).softmax(-1).to(q.dtype)
        seen = values[0] * share[..., 0, None]
        for place, value in enumerate(values[1:], start=1):
            seen = seen + value * share[..., place, None]
        out: Tensor = self.attention.out(seen.flatten(-2))
        return x + out
