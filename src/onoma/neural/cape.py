"""Context-aware position encoding: how far back an item stands depends on how alike it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from onoma.neural.blocks import CausalBlock
from onoma.neural.noise import Noise


class CAPEBlock(CausalBlock):
    """A causal block whose attention has contextual positions (CAPE, CIKM 2025, section 3).

    Args:
        width: model width.
        heads: attention heads.
        expand: the feed-forward's width in widths.
        dropout: rate.
        noise: the model's randomness.
        steps: entries T of the position table; fractional positions above T - 1 stay there.
    """

    def __init__(
        self, width: int, heads: int, expand: int, dropout: float, noise: Noise, steps: int = 32
    ) -> None:
        super().__init__(width, heads, expand, dropout, noise)
        self.places = nn.Parameter(torch.zeros(width // heads, steps))

    def glance(self, q: Tensor, normed: Tensor, seen: Tensor) -> Tensor:
        """float[b, width] of float[b, heads, c] queries; see :class:`CausalBlock`."""
        b, length, width = normed.shape
        kv = nn.functional.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = kv.view(b, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.attend(q[:, :, None], k, v, seen[:, None, None, :]).reshape(b, width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """float[b, heads, n, c] of queries; a None mask is the causal one."""
        if mask is None:
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        # float32: positions are sums over a history, of which bf16 would keep three digits.
        with torch.autocast(q.device.type, enabled=False):
            raw = q.float() @ k.float().transpose(2, 3) / math.sqrt(q.shape[3])
            logits = raw + contextual(q.float(), raw, mask, self.places)
            weights = torch.softmax(logits.masked_fill(~mask, -torch.inf), dim=3)
            out = weights @ v.float()
        return out.to(v.dtype)


def contextual(q: Tensor, raw: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """What a key's position adds to its attention score.

    The position of key j is the sum over the visible keys from j to the last of 1 - sigmoid(raw
    score): an unlike item counts as a whole step, an alike one as almost none. The table's logits
    are interpolated between the two whole positions around it.

    Args:
        q: float32[b, h, n, c] queries.
        raw: float32[b, h, n, l] scores before the softmax, keys oldest first.
        mask: bool, broadcast to raw; False hides a key and its step.
        places: float32[c, T].

    Returns:
        float32[b, h, n, l].
    """
    gates = torch.sigmoid(-raw) * mask
    position = gates.flip(3).cumsum(3).flip(3).clamp(max=places.shape[1] - 1)
    table = q @ places
    below, above = position.floor(), position.ceil()
    part = position - below
    low = table.gather(3, below.long())
    return low + part * (table.gather(3, above.long()) - low)
