"""Methods ``rqvae`` and ``rqkmeans+``: residual codes of a trained autoencoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onoma.errors import OnomaError
from onoma.indexing.autoencoder import AutoencodedNames, Bottleneck, Codebooks
from onoma.indexing.kmeans import nearest
from onoma.indexing.quantised import summed


class ResidualCodes(Codebooks):
    """Each level is the nearest centroid of what the levels before left over.

    The gradient passes straight through, once around the sum.

    Args:
        levels: codebooks.
        size: centroids each.
        width: of the latents.
        commitment: weight of the pull of residuals to their centroid.
        decay: share of a centroid's running sums that a step keeps.
        diversity: weight of the pull towards an even use of the centroids: minus the entropy of
            the batch's mean soft assignment (Baevski et al., wav2vec 2.0, NeurIPS 2020, eq. 4).
    """

    def __init__(
        self,
        levels: int,
        size: int,
        width: int,
        commitment: float,
        decay: float,
        diversity: float = 0.0,
    ) -> None:
        super().__init__(levels, size, width, decay)
        self.commitment, self.diversity = commitment, diversity

    def begin(self, latents: Tensor, generator: torch.Generator) -> None:
        """k-means of the residuals, level by level."""
        left = latents.clone()
        for level, book in enumerate(self.books):
            left -= book[self.start(level, left, generator)]

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sum of the centroids; the loss is commitment and unevenness."""
        left, said = latents, torch.zeros_like(latents)
        codes, loss = [], latents.new_zeros(())
        for book in self.books:
            found, distance = nearest(left.detach(), book)
            pull = F.mse_loss(left, book[found], reduction="sum") / len(latents)
            loss = loss + self.commitment * pull
            if self.diversity:
                loss = loss + self.diversity * _unevenness(left, book, distance)
            left, said = left - book[found], said + book[found]
            codes.append(found)
        return latents + (said - latents).detach(), torch.stack(codes, 1), loss

    def codes(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest centroids all the way down."""
        left, codes = latents.clone(), []
        for book in self.books:
            found, _ = nearest(left, book)
            left -= book[found]
            codes.append(found)
        return torch.stack(codes, 1), left.square().sum(1)

    def said(self, codes: Tensor) -> Tensor:
        """The sum of the centroids."""
        return summed(codes, self.books)

    @torch.no_grad()
    def after_step(self, latents: Tensor, codes: Tensor) -> None:
        """Running means of the residuals."""
        left = latents
        for level, book in enumerate(self.books):
            found = codes[:, level]
            rest = left - book[found]
            self.follow(level, left, found)
            left = rest

    def after_epoch(self, latents: Tensor, generator: torch.Generator) -> None:
        """Unused centroids restart."""
        left = latents.clone()
        for level, book in enumerate(self.books):
            left -= book[self.revive(level, left, generator)]


def _unevenness(left: Tensor, book: Tensor, distance: Tensor) -> Tensor:
    """log(size) minus the entropy of the mean soft assignment; 0 where all are used alike."""
    far = torch.cdist(left, book).square()
    share = (-far / distance.mean().clamp(min=1e-12)).softmax(1).mean(0)
    return math.log(len(book)) + (share * share.clamp(min=1e-12).log()).sum()


class RQVAE(AutoencodedNames):
    """Residual codes of an autoencoder's latent (Rajput et al., TIGER, NeurIPS 2023, section 3.1).

    Args:
        commitment: weight of the commitment loss.
        decay: of the running sums that the centroids follow.

    The rest as for :class:`onoma.indexing.autoencoder.AutoencodedNames`.
    """

    name = "rqvae"

    def __init__(self, *, commitment: float = 0.25, decay: float = 0.95, **rest: Any) -> None:
        super().__init__(**rest)
        if commitment < 0 or not 0 <= decay < 1:
            raise OnomaError(
                f"commitment is {commitment} and decay {decay}; commitment must be at least 0, "
                "decay from 0 to below 1"
            )
        self.commitment, self.decay = commitment, decay

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {**super().settings(), "commitment": self.commitment, "decay": self.decay}

    def bottleneck(self, latent: int, size: int) -> Bottleneck:
        """Residual codebooks."""
        return ResidualCodes(self.levels, size, latent, self.commitment, self.decay)


class RQKMeansPlus(RQVAE):
    """An RQ-VAE that starts as residual k-means.

    The latent has the width of the points and is the point plus what the network adds, at first
    nothing, so the first codebooks are those of ``rqkmeans``.

    Args: as for :class:`RQVAE`, without ``latent``.
    """

    name = "rqkmeans+"
    _skip = True

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (256,),
        epochs: int = 25,
        lr: float = 1e-3,
        **rest: Any,
    ) -> None:
        super().__init__(latent=1, hidden=hidden, epochs=epochs, lr=lr, **rest)

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {key: value for key, value in super().settings().items() if key != "latent"}
