"""HSTU: pointwise gated attention with relative position and time, and many candidates at once."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import Trunk
from onoma.neural.noise import Dropout, Noise

BUCKETS = 128
_STEP = 0.301  # a bucket is a doubling of the gap in seconds, in units of natural logarithms


def buckets(later: Tensor, earlier: Tensor) -> Tensor:
    """int64, the logarithm of the seconds between; ``BUCKETS + 1`` where a time is unknown."""
    gap = (later - earlier).abs().clamp(min=1)
    found = (gap.double().log() / _STEP).long().clamp(max=BUCKETS)
    return found.masked_fill((later < 0) | (earlier < 0), BUCKETS + 1)


class HSTUBlock(nn.Module):
    """One layer (Zhai et al., ICML 2024, section 3.1).

    ``A = silu(q k + bias) / N``, no softmax, and ``y = x + W(norm(A v) * u)``, no feed-forward.

    Args:
        width: model width.
        heads: attention heads.
        length: N, the longest sequence; the divisor in training and in answering alike.
        dropout: rate.
        noise: the model's randomness.
        relative: whether the bias by position and time is there.
    """

    def __init__(
        self, width: int, heads: int, length: int, dropout: float, noise: Noise, relative: bool
    ) -> None:
        super().__init__()
        self.heads, self.length, self.relative = heads, length, relative
        self.norm = nn.LayerNorm(width)
        self.uvqk = nn.Linear(width, 4 * width, bias=False)
        self.norm_mixed = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout, noise)
        if relative:
            self.by_distance = nn.Parameter(torch.randn(length + 1) * 0.02)
            self.by_gap = nn.Parameter(torch.randn(BUCKETS + 1) * 0.02)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """float[b, l, width] to u float[b, l, width] and v, q, k float[b, heads, l, c]."""
        b, length, _ = x.shape
        u, v, q, k = F.silu(self.uvqk(self.norm(x))).chunk(4, dim=2)

        def by_head(part: Tensor) -> Tensor:
            return part.reshape(b, length, self.heads, -1).transpose(1, 2)

        return u, by_head(v), by_head(q), by_head(k)

    def weigh(self, q: Tensor, k: Tensor, distance: Tensor, gaps: Tensor | None) -> Tensor:
        """float[b, heads, n, l] weights of every pair, before the mask.

        Args:
            q: float[b, heads, n, c].
            k: float[b, heads, l, c].
            distance: int64, broadcast to [b, n, l], how many places the key is before the query.
            gaps: int64[b, n, l] :func:`buckets`; None where no time is known.
        """
        scores = q @ k.transpose(2, 3)
        if self.relative:
            bias = self.by_distance[distance.clamp(0, self.length)]
            if gaps is not None:
                # One entry more for unknown times, which is always 0.
                bias = bias + F.pad(self.by_gap, (0, 1))[gaps]
            scores = scores + bias.unsqueeze(-3).to(scores.dtype)
        return F.silu(scores) / self.length

    def close(self, x: Tensor, mixed: Tensor, u: Tensor) -> Tensor:
        """The gated output of float[b, heads, l, c] mixtures on the residual path."""
        b, _, length, _ = mixed.shape
        joined = mixed.transpose(1, 2).reshape(b, length, -1)
        out: Tensor = x + self.out(self.dropout(self.norm_mixed(joined) * u))
        return out


class HSTUTrunk(Trunk):
    """Layers of :class:`HSTUBlock` over item vectors with learned absolute positions.

    Args:
        width: model width.
        blocks: layers.
        heads: attention heads.
        length: longest history.
        dropout: rate inside the layers.
        input_dropout: rate on what enters.
        noise: the model's randomness.
        relative: whether the relative bias is there.
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
        relative: bool = True,
    ) -> None:
        super().__init__()
        self.scale = width**0.5
        # One place more than a history has: a candidate stands behind it.
        self.positions = nn.Parameter(torch.randn(length + 1, width) * 0.02)
        self.input_dropout = Dropout(input_dropout, noise)
        self.blocks = nn.ModuleList(
            HSTUBlock(width, heads, length, dropout, noise, relative) for _ in range(blocks)
        )

    def forward(self, items: Tensor, times: Tensor | None = None) -> Tensor:
        """float[b, l, d] item vectors and int64[b, l] seconds (-1: unknown) to float[b, l, d]."""
        return self._run(items, times)[0]

    def _run(
        self, items: Tensor, times: Tensor | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """States, and each layer's keys and values."""
        length = items.shape[1]
        place = torch.arange(length, device=items.device)
        distance = place[:, None] - place
        mask = distance >= 0
        # Times of the items read so far: the next one's would tell when the target happened.
        gaps = None if times is None else buckets(times[:, :, None], times[:, None, :])
        x = self._enter(items, self.positions[:length])
        kept = []
        for block in self.blocks:
            layer = cast(HSTUBlock, block)
            u, v, q, k = layer.split(x)
            kept.append((k, v))
            x = layer.close(x, (layer.weigh(q, k, distance, gaps) * mask) @ v, u)
        return x, kept

    def candidates(
        self,
        items: Tensor,
        ends: Tensor,
        candidates: Tensor,
        times: Tensor | None = None,
        chunk: int = 1024,
    ) -> Tensor:
        """States of many candidates behind one history, in one pass (M-FALCON, section 3.4).

        Each candidate stands in the place after the last item, at that item's time, and sees the
        history and itself, never another candidate. The history is computed once.

        Args:
            items: float[b, l, d] item vectors, left aligned.
            ends: int64[b], the place of each history's last item.
            candidates: float[b, m, d] item vectors.
            times: int64[b, l] seconds, -1 where unknown.
            chunk: candidates at a time, which bounds the memory.

        Returns:
            float[b, m, d], what :meth:`forward` gives at place ``ends + 1`` with the candidate
            there.
        """
        _, kept = self._run(items, times)
        place = torch.arange(items.shape[1], device=items.device)
        distance = (ends[:, None] + 1 - place)[:, None, :]
        mask = (distance > 0)[:, None]
        gaps = own_gap = None
        if times is not None:
            now = times.gather(1, ends[:, None])
            gaps = buckets(now, times)[:, None, :]
            own_gap = buckets(now, now)[:, :, None]
        own = torch.zeros(1, 1, 1, dtype=torch.int64, device=items.device)
        out = []
        for part in torch.split(candidates, chunk, dim=1):
            x = self._enter(part, self.positions[ends + 1][:, None])
            for block, (k, v) in zip(self.blocks, kept, strict=True):
                layer = cast(HSTUBlock, block)
                u, own_v, q, own_k = layer.split(x)
                mixed = (layer.weigh(q, k, distance, gaps) * mask) @ v
                # A candidate and itself: rows of one key each.
                b, heads, m, c = q.shape
                pairs = (b * m, heads, 1, c)
                q1, k1 = (z.transpose(1, 2).reshape(pairs) for z in (q, own_k))
                gap = None if own_gap is None else own_gap.repeat_interleave(m, dim=0)
                alone = layer.weigh(q1, k1, own, gap).reshape(b, m, heads).transpose(1, 2)
                x = layer.close(x, mixed + alone[..., None] * own_v, u)
            out.append(x)
        return torch.cat(out, dim=1)

    def _enter(self, items: Tensor, positions: Tensor) -> Tensor:
        out: Tensor = self.input_dropout(items * self.scale + positions)
        return out


def shortened(length: int, longest: int, alpha: float) -> tuple[int, float]:
    """How stochastic length treats a history (section 3.2, eq. 4).

    Args:
        length: items of the history.
        longest: N, the longest one.
        alpha: between 1 and 2; cost grows with N to this power instead of N squared.

    Returns:
        Items to keep, and the probability of keeping only them.
    """
    kept = max(2, round(longest ** (alpha / 2)))
    if length <= kept:
        return length, 0.0
    return kept, max(0.0, 1.0 - longest**alpha / length**2)
