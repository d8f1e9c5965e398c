"""Method ``letter``: an RQ-VAE whose codes also agree with who buys what together."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from onoma import encoding
from onoma.errors import OnomaError
from onoma.indexing.autoencoder import Bottleneck
from onoma.indexing.index import ItemIndex
from onoma.indexing.rqvae import RQVAE, ResidualCodes

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_TEMPERATURE = 0.1


class LetterNames(RQVAE):
    """Residual codes with a contrastive collaborative term and a diversity term.

    What the codes say of an item must pick out the item's own collaborative vector from those of
    its batch (Wang et al., LETTER, CIKM 2024). The diversity term is the entropy
    of the batch over the centroids, in place of LETTER's clusters of code vectors: centroids here
    follow running means and take no gradient. Items without training neighbours are left out of
    the contrast; new items are named by their content alone.

    Args:
        behaviour: the encoder of the collaborative vectors.
        contrast: weight of the collaborative term.
        diversity: weight of the diversity term.

    The rest as for :class:`onoma.indexing.rqvae.RQVAE`.
    """

    name = "letter"
    _known: Tensor | None = None

    def __init__(
        self,
        *,
        behaviour: Any = "collaborative",
        contrast: float = 0.1,
        diversity: float = 0.01,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        if contrast < 0 or diversity < 0:
            raise OnomaError(
                f"contrast is {contrast} and diversity {diversity}; both must be at least 0"
            )
        self.behaviour, self.contrast, self.diversity = behaviour, contrast, diversity

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            **super().settings(), "behaviour": self.behaviour, "contrast": self.contrast,
            "diversity": self.diversity,
        }  # fmt: skip

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Name the catalogue by its vectors and ``split.train``."""
        beside = torch.from_numpy(encoding.build(self.behaviour).encode(split))
        taught = copy(self)  # carries the vectors of one build; the method itself keeps nothing
        if vectors is not None and len(vectors) == len(beside):
            beside = beside[torch.from_numpy(np.abs(vectors).sum(axis=1) > 0)]
        taught._known = beside
        return super(LetterNames, taught).build(split, vectors, seed)

    def bottleneck(self, latent: int, size: int) -> Bottleneck:
        """Residual codebooks, evenly used."""
        return ResidualCodes(self.levels, size, latent, self.commitment, self.decay, self.diversity)

    def extra_modules(self, latent: int) -> nn.Module | None:
        """From what the codes say to the collaborative space."""
        if self._known is None:
            raise OnomaError("letter reads the log", fix="Build it with a data set")
        self._project = nn.Linear(latent, self._known.shape[1])
        return self._project

    def extra_loss(self, said: Tensor, rows: Tensor) -> Tensor | None:
        """In-batch softmax of the projected codes against the collaborative vectors."""
        assert self._known is not None
        wanted = self._known[rows]
        has = wanted.any(dim=1)
        if not bool(has.any()):
            return None
        asked = F.normalize(self._project(said[has]), dim=1)
        logits = asked @ F.normalize(wanted[has], dim=1).T / _TEMPERATURE
        return self.contrast * F.cross_entropy(logits, torch.arange(len(logits)))
