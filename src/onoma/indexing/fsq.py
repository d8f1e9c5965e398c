"""Method ``fsq``: codes by rounding, no codebook at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onoma.errors import OnomaError
from onoma.indexing.autoencoder import AutoencodedNames, Bottleneck


class RoundedCodes(Bottleneck):
    """Every direction of the latent is bounded and rounded to few steps; a code is some of them.

    Args:
        levels: codes.
        steps: steps of each direction of one code; their product is its vocabulary.
    """

    def __init__(self, levels: int, steps: Sequence[int]) -> None:
        super().__init__()
        self.levels = levels
        self.steps = torch.tensor(list(steps) * levels)
        # Directions of one spread use their steps alike, however the encoder scales them.
        self.even = nn.BatchNorm1d(len(self.steps), affine=False)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rounded latent, gradients straight through; no loss of its own."""
        bounded, digits = self._digits(latents)
        said = bounded + (digits / (self.steps - 1) - bounded).detach()
        return said, self._codes(digits), latents.new_zeros(())

    def codes(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Rounded all the way."""
        bounded, digits = self._digits(latents)
        return self._codes(digits), (digits / (self.steps - 1) - bounded).square().sum(1)

    def said(self, codes: Tensor) -> Tensor:
        """The steps that the codes stand for, from 0 to 1."""
        steps = self.steps.view(self.levels, -1)
        digits = []
        for place in reversed(range(steps.shape[1])):
            digits.append(codes % steps[:, place])
            codes = codes // steps[:, place]
        return torch.stack(digits[::-1], 2).view(len(codes), -1) / (self.steps - 1)

    def _digits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        bounded = torch.sigmoid(1.7 * self.even(latents))
        return bounded, (bounded.detach() * (self.steps - 1)).round()

    def _codes(self, digits: Tensor) -> Tensor:
        """Mixed-radix numbers."""
        parts = digits.long().view(len(digits), self.levels, -1)
        steps = self.steps.view(self.levels, -1)
        code = torch.zeros(parts.shape[:2], dtype=torch.int64)
        for place in range(parts.shape[2]):
            code = code * steps[:, place] + parts[..., place]
        return code


class FSQ(AutoencodedNames):
    """Finite scalar quantisation (Mentzer et al., ICLR 2024) in groups, a group a code.

    Args:
        levels: codes before disambiguation.
        steps: steps of each direction of a code; the vocabulary is their product.
        rest: as for :class:`onoma.indexing.autoencoder.AutoencodedNames`.
    """

    name = "fsq"

    def __init__(self, *, levels: int = 3, steps: Sequence[int] = (8, 8, 4), **rest: Any) -> None:
        if not steps or min(steps) < 2:
            raise OnomaError(f"steps is {list(steps)}; every direction needs at least 2")
        self.steps = tuple(int(step) for step in steps)
        size = int(torch.tensor(self.steps).prod())
        super().__init__(levels=levels, size=size, latent=levels * len(self.steps), **rest)

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        rest = {k: v for k, v in super().settings().items() if k not in ("size", "latent")}
        return {**rest, "steps": list(self.steps)}

    def bottleneck(self, latent: int, size: int) -> Bottleneck:
        """Rounding; the steps decide the size, whatever the catalogue's."""
        return RoundedCodes(self.levels, self.steps)

    def vocabularies(self, learnt: Any) -> tuple[int, ...]:
        """The product of the steps."""
        return (self.size,) * self.levels
