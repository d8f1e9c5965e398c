"""What methods share whose codes come from a trained autoencoder: the network and its training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.errors import OnomaError
from onoma.indexing.kmeans import kmeans, nearest
from onoma.indexing.quantised import QuantisedNames

_ROWS = 1 << 14  # rows encoded at a time outside training


class Bottleneck(nn.Module):
    """Codes between an encoder and a decoder; buffers and parameters are kept with the index."""

    def begin(self, latents: Tensor, generator: torch.Generator) -> None:
        """Start from float32[n, latent], the points as the fresh encoder sees them."""

    @abstractmethod
    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32[b, latent] said again with gradients, int64[b, levels] codes, a scalar loss."""

    @abstractmethod
    def codes(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """int64[n, levels] codes and float32[n] squared distance to what they say."""

    @abstractmethod
    def said(self, codes: Tensor) -> Tensor:
        """float32[n, latent], what int64[n, levels] codes stand for."""

    def after_step(self, latents: Tensor, codes: Tensor) -> None:
        """Learn from a batch by other means than gradients."""

    def after_epoch(self, latents: Tensor, generator: torch.Generator) -> None:
        """Look after codes that no point used."""


class Codebooks(Bottleneck):
    """Centroids that start by k-means and follow the running means of what they serve.

    Running means: van den Oord et al., VQ-VAE, NeurIPS 2017, appendix A.1. A centroid that serves
    no point restarts where points are served worst (after Zeghidour et al., SoundStream, 2021).

    Args:
        levels: codebooks.
        size: centroids each.
        width: of the points of one codebook.
        decay: share of a centroid's running sums that a step keeps.
    """

    books: Tensor
    count: Tensor
    total: Tensor

    def __init__(self, levels: int, size: int, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("books", torch.zeros(levels, size, width))
        self.register_buffer("count", torch.zeros(levels, size), persistent=False)
        self.register_buffer("total", torch.zeros(levels, size, width), persistent=False)

    def start(self, level: int, points: Tensor, generator: torch.Generator) -> Tensor:
        """k-means of float32[n, width]; int64[n] the centroid of each."""
        book = self.books[level]
        book.copy_(kmeans(points, len(book), generator))
        found, _ = nearest(points, book)
        # A centroid weighs what it serves, so that the first batches do not overturn it.
        self.count[level] = torch.bincount(found, minlength=len(book)).float().clamp(min=1)
        self.total[level] = book * self.count[level][:, None]
        return found

    def follow(self, level: int, points: Tensor, found: Tensor) -> None:
        """Move the centroids towards the points of a batch."""
        book = self.books[level]
        fresh = torch.bincount(found, minlength=len(book)).float()
        sums = torch.zeros_like(book).index_add_(0, found, points)
        self.count[level].mul_(self.decay).add_(fresh, alpha=1 - self.decay)
        self.total[level].mul_(self.decay).add_(sums, alpha=1 - self.decay)
        book.copy_(self.total[level] / self.count[level].clamp(min=1e-6)[:, None])

    def revive(self, level: int, points: Tensor, generator: torch.Generator) -> Tensor:
        """Restart centroids that serve none of the points; int64[n] the centroid of each."""
        book = self.books[level]
        found, distance = nearest(points, book)
        dead = torch.nonzero(torch.bincount(found, minlength=len(book)) == 0)[:, 0]
        if not len(dead):
            return found
        chance = distance.clamp(min=1e-12)
        pick = torch.multinomial(chance, len(dead), generator=generator, replacement=True)
        book[dead] = points[pick]
        self.count[level, dead] = 1.0
        self.total[level, dead] = points[pick]
        return nearest(points, book)[0]


class Autoencoder(nn.Module):
    """A ReLU network to a latent and its mirror back.

    Its matrices start as rotations that keep the size of what a ReLU halves (Saxe et al., ICLR
    2014): from torch's own start the latents of items hardly differ, and a small catalogue gives
    too few steps to draw them apart.

    Args:
        width: of the points.
        hidden: widths between, outermost first.
        latent: width of the latent.
        skip: the latent is the point plus what the network says, which starts at nothing.
    """

    def __init__(self, width: int, hidden: Sequence[int], latent: int, *, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.encoder = _layers([width, *hidden, latent])
        self.decoder = _layers([latent, *reversed(hidden), width])
        if skip:
            for network in (self.encoder, self.decoder):
                last = cast(nn.Linear, network[-1])
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def encode(self, points: Tensor) -> Tensor:
        """float32[n, width] to float32[n, latent]."""
        latents: Tensor = self.encoder(points)
        return points + latents if self.skip else latents

    def decode(self, latents: Tensor) -> Tensor:
        """float32[n, latent] to float32[n, width]."""
        points: Tensor = self.decoder(latents)
        return latents + points if self.skip else points


class AutoencodedNames(QuantisedNames):
    """Codes of a bottleneck that is trained to let the points be rebuilt.

    Subclasses give :meth:`bottleneck`, and :meth:`extra_loss` where rebuilding is not all.

    Args:
        levels: codes before disambiguation.
        size: vocabulary of each.
        latent: width of the bottleneck.
        hidden: widths of the network between.
        epochs: passes over the points.
        batch: points a step.
        lr: peak of the AdamW learning rate, which rises for a twentieth of the steps and falls
            to zero by a cosine.
    """

    _skip = False

    def __init__(
        self,
        *,
        levels: int = 3,
        size: int = 256,
        latent: int = 32,
        hidden: Sequence[int] = (512, 256, 128),
        epochs: int = 50,
        batch: int = 256,
        lr: float = 3e-3,
    ) -> None:
        numbers = {"levels": levels, "size": size, "latent": latent, "epochs": epochs,
                   "batch": batch}  # fmt: skip
        for word, number in numbers.items():
            least = 2 if word == "batch" else 1
            if number < least:
                raise OnomaError(f"{word} is {number}; it must be at least {least}")
        if lr <= 0:
            raise OnomaError(f"lr is {lr}; it must be positive")
        self.levels, self.size, self.latent = levels, size, latent
        self.hidden, self.epochs, self.batch, self.lr = tuple(hidden), epochs, batch, lr

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "levels": self.levels, "size": self.size, "latent": self.latent,
            "hidden": list(self.hidden), "epochs": self.epochs, "batch": self.batch, "lr": self.lr,
        }  # fmt: skip

    @abstractmethod
    def bottleneck(self, latent: int, size: int) -> Bottleneck:
        """A fresh one for latents of width ``latent`` and ``size`` codes a level."""

    def extra_loss(self, said: Tensor, rows: Tensor) -> Tensor | None:
        """A scalar beside the reconstruction, for the points ``rows``; None for nothing."""
        return None

    def extra_modules(self, latent: int) -> nn.Module | None:
        """What :meth:`extra_loss` trains; thrown away afterwards."""
        return None

    def learn(self, points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Train; the weights and codebooks are what is kept."""
        n, width = points.shape
        size = min(self.size, max(1, n // 4))
        # Module initialisation reads the global state: borrow it and put it back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=generator)))
            network, bottleneck = self._parts(width, size)
            beside = self.extra_modules(self._latent_width(width))
        if n > 1:
            self._train(points, network, bottleneck, beside, generator)
        kept = {f"network.{key}": value for key, value in network.state_dict().items()}
        kept |= {f"bottleneck.{key}": value for key, value in bottleneck.state_dict().items()}
        return {**kept, "size": torch.tensor(size), "width": torch.tensor(width)}

    def quantise(
        self, points: Tensor, learnt: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """Codes of the trained bottleneck and how far they are from the latent."""
        network, bottleneck = self._kept(learnt)
        pairs = []
        with torch.no_grad():
            for block in torch.split(points, _ROWS):
                pairs.append(bottleneck.codes(network.encode(block)))
        codes = torch.cat([codes for codes, _ in pairs])
        return codes.numpy().astype(np.int32), torch.cat([far for _, far in pairs]).numpy()

    def said(self, codes: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """What the decoder makes of the codes."""
        network, bottleneck = self._kept(learnt)
        blocks = [network.decode(bottleneck.said(block)) for block in torch.split(codes, _ROWS)]
        return torch.cat(blocks)

    def vocabularies(self, learnt: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The same at every level."""
        return (int(learnt["size"]),) * self.levels

    def _latent_width(self, width: int) -> int:
        return width if self._skip else self.latent

    def _parts(self, width: int, size: int) -> tuple[Autoencoder, Bottleneck]:
        latent = self._latent_width(width)
        network = Autoencoder(width, self.hidden, latent, skip=self._skip)
        return network, self.bottleneck(latent, size)

    def _kept(self, learnt: Mapping[str, Tensor]) -> tuple[Autoencoder, Bottleneck]:
        """The trained parts."""
        network, bottleneck = self._parts(int(learnt["width"]), int(learnt["size"]))
        for word, part in (("network", network), ("bottleneck", bottleneck)):
            part.load_state_dict(
                {k.removeprefix(f"{word}."): v for k, v in learnt.items() if k.startswith(word)}
            )
        bottleneck.eval()
        return network, bottleneck

    def _train(
        self,
        points: Tensor,
        network: Autoencoder,
        bottleneck: Bottleneck,
        beside: nn.Module | None,
        generator: torch.Generator,
    ) -> None:
        n = len(points)
        with torch.no_grad():
            few = points[torch.randperm(n, generator=generator)[: 64 * self.batch]]
            bottleneck.begin(network.encode(few), generator)
        modules = [network, bottleneck, *([] if beside is None else [beside])]
        weights = [p for module in modules for p in module.parameters()]
        optimiser = torch.optim.AdamW(weights, lr=self.lr, weight_decay=1e-4, fused=True)
        steps = max(-(-n // self.batch) * self.epochs, 4)
        rise = max(0.05, 1.5 / steps)  # a rise of one step alone would divide by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.lr, total_steps=steps, pct_start=rise, cycle_momentum=False
        )
        for _ in range(self.epochs):
            for rows in torch.split(torch.randperm(n, generator=generator), self.batch):
                if len(rows) == 1:
                    continue  # a batch of one has no spread
                batch = points[rows]
                latents = network.encode(batch)
                said, codes, loss = bottleneck(latents)
                loss = loss + F.mse_loss(network.decode(said), batch) * batch.shape[1]
                more = self.extra_loss(said, rows)
                loss = loss if more is None else loss + more
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                bottleneck.after_step(latents.detach(), codes)
            with torch.no_grad():
                rows = torch.randperm(n, generator=generator)[: 16 * self.batch]
                bottleneck.after_epoch(network.encode(points[rows]), generator)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for into, out in pairwise(widths):
        layer = nn.Linear(into, out)
        nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
        nn.init.zeros_(layer.bias)
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])
