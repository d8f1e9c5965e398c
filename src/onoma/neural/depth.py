"""A small causal transformer that spells a name from a state, code by code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import CausalBlock
from onoma.neural.device import autocast
from onoma.neural.noise import Noise


@dataclass
class DepthState:
    """Keys and values of the levels already read, one list a block.

    Level 0 reads the context, which all beams of a row share: its tensors keep one column and are
    broadcast, never copied. Each tensor is float[n, b, heads, width / heads].
    """

    context: Tensor
    keys: list[list[Tensor]]
    values: list[list[Tensor]]


class DepthDecoder(nn.Module):
    """Logits of each code given the context and the codes before; one head a level.

    Args:
        sizes: vocabulary of each level.
        context_width: width of the state that is spelled.
        width: inner width.
        blocks: transformer blocks.
        heads: attention heads.
        dropout: rate inside the blocks.
        noise: the model's randomness.

    It is a :class:`onoma.neural.beam.Speller`.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        context_width: int,
        width: int,
        blocks: int,
        heads: int,
        dropout: float,
        noise: Noise,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.enter = nn.Linear(context_width, width)
        self.levels = nn.Parameter(torch.randn(len(sizes), width) * 0.02)
        self.codes = nn.ParameterList(torch.randn(size, width) * 0.02 for size in sizes[:-1])
        self.blocks = nn.ModuleList(
            CausalBlock(width, heads, 4, dropout, noise) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(self, context: Tensor, codes: Tensor) -> list[Tensor]:
        """Teacher forcing in one pass.

        Args:
            context: float[m, context_width].
            codes: int64[m, depth]; -1 after the end of a name.

        Returns:
            One float[m, size] of logits a level.
        """
        read = codes.clamp(min=0)
        entered = [self.enter(context)]
        entered += [F.embedding(read[:, at], table) for at, table in enumerate(self.codes)]
        x = torch.stack(entered, 1) + self.levels
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return [head(x[:, at]) for at, head in enumerate(self.heads)]

    def begin(self, context: Tensor) -> DepthState:
        """The state before the first code, from float[n, context_width]."""
        return DepthState(context, [[] for _ in self.blocks], [[] for _ in self.blocks])

    def step(
        self, state: DepthState, level: int, codes: Tensor | None
    ) -> tuple[Tensor, DepthState]:
        """Logits float[n, b, size] of one level, after reading int64[n, b] codes."""
        with autocast(state.context.device.type):
            if codes is None:
                x = self.enter(state.context)[:, None]
            else:
                x = F.embedding(codes, self.codes[level - 1])
            x = x + self.levels[level]
            for at, block in enumerate(self.blocks):
                assert isinstance(block, CausalBlock)
                x = self._attend(block, x, state.keys[at], state.values[at])
            return self.heads[level](self.norm(x)), state

    def _attend(
        self, block: CausalBlock, x: Tensor, keys: list[Tensor], values: list[Tensor]
    ) -> Tensor:
        n, b, width = x.shape
        qkv = block.qkv(block.before_attention(x)).view(n, b, 3, block.heads, -1)
        q, k, v = qkv.unbind(2)
        keys.append(k)
        values.append(v)
        scale = q.shape[-1] ** -0.5
        weights = (
            torch.stack([(q * key).sum(-1) for key in keys], -1).float().mul(scale).softmax(-1)
        )
        weights = weights.to(x.dtype)
        seen = sum(
            (weights[..., at, None] * value for at, value in enumerate(values)),
            start=torch.zeros((), dtype=x.dtype, device=x.device),
        )
        x = x + block.mix(seen.reshape(n, b, width))
        out: Tensor = x + block.down(F.gelu(block.up(block.before_feed(x))))
        return out

    def reorder(self, state: DepthState, parents: Tensor) -> DepthState:
        """The state of beams int64[n, b'], each a column of the beams before."""

        def pick(tensors: list[Tensor]) -> list[Tensor]:
            return tensors[:1] + [
                t.gather(1, parents[:, :, None, None].expand(-1, -1, *t.shape[2:]))
                for t in tensors[1:]
            ]

        return DepthState(
            state.context, [pick(k) for k in state.keys], [pick(v) for v in state.values]
        )
