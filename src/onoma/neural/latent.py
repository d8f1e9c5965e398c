"""A sequence encoder that goes on for a few steps in its own states before it answers."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import CausalBlock, SequenceEncoder
from onoma.neural.noise import Dropout, Noise


class ThinkingBlock(CausalBlock):
    """A causal block that remembers its keys and values, and answers queries behind them."""

    def remember(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float[b, l, width] to the same, with keys and values float[b, heads, l, c]."""
        q, k, v = self._split(x)
        return self._close(x, self.attend(q, k, v, None)), k, v

    def follow(
        self, x: Tensor, k: Tensor, v: Tensor, own: list[tuple[Tensor, Tensor]], mask: Tensor
    ) -> Tensor:
        """One step of n independent trains of thought, float[b, n, width] to the same.

        Args:
            x: float[b, n, width].
            k: float[b, heads, l, c], keys of the history.
            v: its values.
            own: keys and values float[b, heads, n, c] of each train's earlier steps; this step's
                are added.
            mask: bool, broadcast to [b, heads, n, l], what of the history a train sees.
        """
        q, own_k, own_v = self._split(x)
        own.append((own_k, own_v))
        past = (q @ k.transpose(2, 3)).masked_fill(~mask, -torch.inf)
        mine = torch.stack([(q * key).sum(3) for key, _ in own], dim=3)
        logits = torch.cat([past, mine], dim=3).float() / math.sqrt(q.shape[3])
        weights = torch.softmax(logits, dim=3).to(v.dtype)
        length = k.shape[2]
        mixed = weights[..., :length] @ v
        for step, (_, value) in enumerate(own):
            mixed = mixed + weights[..., length + step, None] * value
        return self._close(x, mixed)


class LatentEncoder(SequenceEncoder):
    """Causal blocks, then ``steps`` more passes of the last state through them.

    Step k reads the state before it plus a vector of its own, which is no item position, and sees
    the history up to its own place and the steps before it.

    Args:
        steps: K, passes after the history's.
        noise: the model's randomness.
        choices: the other arguments of :class:`SequenceEncoder`.
    """

    def __init__(self, *sizes: Any, steps: int, noise: Noise, dropout: float) -> None:
        width, blocks, heads, length, input_dropout = sizes
        super().__init__(
            width, blocks, heads, length, dropout, input_dropout, noise, block=ThinkingBlock
        )
        self.marks = nn.Parameter(torch.randn(steps, width) * 0.02)
        self.before = nn.LayerNorm(width)
        self.before_dropout = Dropout(dropout, noise)
        self.stream = noise

    def think(
        self, items: Tensor, ends: Tensor | None = None, shaken: tuple[float, ...] = (0.0,)
    ) -> list[Tensor]:
        """The states of every step, once for each amount of noise on what the steps read.

        Args:
            items: float[b, l, d] item vectors, left aligned.
            ends: int64[b] places to think at; None: at all of them.
            shaken: standard deviations; the history is computed once for all of them.

        Returns:
            One float[b, l or 1, K + 1, d] for each entry of ``shaken``; step 0 is the state that
            :meth:`forward` gives.
        """
        length = items.shape[1]
        place = torch.arange(length, device=items.device)
        x, kept = self.enter(items), []
        for block in self.blocks:
            x, k, v = cast(ThinkingBlock, block).remember(x)
            kept.append((k, v))
        if ends is None:
            mask = (place[:, None] >= place)[None, None]
        else:
            x = x[torch.arange(len(ends), device=ends.device), ends][:, None]
            mask = (place <= ends[:, None])[:, None, None, :]
        first = self.norm(x)
        out = []
        for amount in shaken:
            states = [first]
            own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.blocks]
            for mark in self.marks:
                x = states[-1] + mark
                if amount:
                    drawn = self.stream.normal(x.numel()).view(x.shape).to(x.device)
                    x = x + amount * drawn.to(x.dtype)
                x = self.before_dropout(self.before(x))
                for block, (k, v), mine in zip(self.blocks, kept, own, strict=True):
                    x = cast(ThinkingBlock, block).follow(x, k, v, mine, mask)
                states.append(self.norm(x))
            out.append(torch.stack(states, dim=2))
        return out


def contrast(clean: Tensor, noisy: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE of each row's clean state against the noisy states of all rows.

    Args:
        clean: float[m, d].
        noisy: float[m, d], row by row of the same users.
        temperature: divides the cosines.
    """
    near = F.normalize(clean, dim=1) @ F.normalize(noisy, dim=1).T / temperature
    return F.cross_entropy(near, torch.arange(len(near), device=near.device))


def disagreement(logits: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence over all ordered pairs of steps, float[m, steps, n]."""
    log = torch.log_softmax(logits, dim=2)
    p = log.exp()
    steps = logits.shape[1]
    own = (p * log).sum(2)
    cross = torch.einsum("msn,mtn->mst", p, log)
    total = (own[:, :, None] - cross).sum((1, 2))
    return total.mean() / max(1, steps * (steps - 1))
