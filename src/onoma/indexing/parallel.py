"""Method ``parallel``: every code is an expert's own view of the item, in no order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onoma.errors import OnomaError
from onoma.indexing.autoencoder import AutoencodedNames, Bottleneck, Codebooks
from onoma.indexing.kmeans import nearest


class ParallelCodes(Codebooks):
    """Experts with a codebook each, that may not say the same.

    The latent is cut into one part an expert.

    Args:
        levels: experts.
        size: centroids each.
        width: of the latent, all experts together.
        commitment: weight of the pull to the centroid.
        apart: weight of the squared correlation between directions of different experts.
        decay: share of the running sums that a step keeps.
    """

    def __init__(
        self, levels: int, size: int, width: int, commitment: float, apart: float, decay: float
    ) -> None:
        super().__init__(levels, size, width // levels, decay)
        self.commitment, self.apart = commitment, apart

    def begin(self, latents: Tensor, generator: torch.Generator) -> None:
        """k-means of every part."""
        for level, part in enumerate(self._parts(latents)):
            self.start(level, part, generator)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The centroids side by side; commitment, and how much experts repeat each other."""
        codes, _ = self.codes(latents.detach())
        said = self.said(codes)
        loss = self.commitment * F.mse_loss(latents, said, reduction="sum") / len(latents)
        spread = latents - latents.mean(0)
        spread = spread / spread.square().mean(0).add(1e-6).sqrt()
        expert = torch.arange(latents.shape[1]) // self.books.shape[2]
        others = expert[:, None] != expert[None, :]
        loss = loss + self.apart * (spread.T @ spread / len(latents))[others].square().mean()
        return latents + (said - latents).detach(), codes, loss

    def codes(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest centroid of every part."""
        pairs = [
            nearest(part, book) for part, book in zip(self._parts(latents), self.books, strict=True)
        ]
        return torch.stack([code for code, _ in pairs], 1), torch.stack(
            [distance for _, distance in pairs]
        ).sum(0)

    def said(self, codes: Tensor) -> Tensor:
        """The centroids side by side."""
        return torch.cat([book[codes[:, i]] for i, book in enumerate(self.books)], 1)

    @torch.no_grad()
    def after_step(self, latents: Tensor, codes: Tensor) -> None:
        """Running means."""
        for level, part in enumerate(self._parts(latents)):
            self.follow(level, part, codes[:, level])

    def after_epoch(self, latents: Tensor, generator: torch.Generator) -> None:
        """Unused centroids restart."""
        for level, part in enumerate(self._parts(latents)):
            self.revive(level, part, generator)

    def _parts(self, latents: Tensor) -> list[Tensor]:
        return [part.contiguous() for part in latents.chunk(len(self.books), 1)]


class ParallelNames(AutoencodedNames):
    """Codes of parallel experts (the multi-expert quantiser of REG4Rec, 2025), no residual order.

    A gate over the experts is left out: it can switch an expert off, whose code then says nothing;
    the decoder weighs the experts instead.

    Args:
        commitment: weight of the commitment loss.
        apart: weight of the decorrelation of the experts.
        decay: of the running means.

    The rest as for :class:`onoma.indexing.autoencoder.AutoencodedNames`; ``latent`` is cut into
    ``levels`` parts.
    """

    name = "parallel"

    def __init__(
        self,
        levels: int = 4,
        size: int = 256,
        latent: int = 64,
        hidden: Sequence[int] = (512, 256, 128),
        epochs: int = 100,
        batch: int = 1024,
        lr: float = 1e-3,
        commitment: float = 0.25,
        apart: float = 1.0,
        decay: float = 0.95,
    ) -> None:
        super().__init__(levels, size, latent, hidden, epochs, batch, lr)
        if latent % levels:
            raise OnomaError(f"latent is {latent}, not a multiple of the {levels} levels")
        if commitment < 0 or apart < 0 or not 0 <= decay < 1:
            raise OnomaError(
                f"commitment is {commitment}, apart {apart} and decay {decay}; the first two must "
                "be at least 0, decay from 0 to below 1"
            )
        self.commitment, self.apart, self.decay = commitment, apart, decay

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            **super().settings(), "commitment": self.commitment, "apart": self.apart,
            "decay": self.decay,
        }  # fmt: skip

    def bottleneck(self, latent: int, size: int) -> Bottleneck:
        """One codebook an expert."""
        return ParallelCodes(self.levels, size, latent, self.commitment, self.apart, self.decay)
