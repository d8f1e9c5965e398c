"""Losses that pull one space of vectors towards another: as a whole, or row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Distance = Literal["rmse", "mse", "cosine"]


def mk_mmd(
    a: Tensor, b: Tensor, powers: Sequence[int] = (-3, -2, -1, 0, 1), bandwidth: float | None = None
) -> Tensor:
    """Squared maximum mean discrepancy under a sum of Gaussian kernels.

    The kernels are ``exp(-distance^2 / (2^k * bandwidth))``. It is 0 where both samples are of one
    distribution, however their rows are ordered; it says nothing of which row belongs to which.

    Args:
        a: float[n, d], a sample of one space.
        b: float[m, d], of the other.
        powers: the k.
        bandwidth: default the mean squared distance between different rows of both samples, taken
            as a constant.

    Returns:
        Scalar, the biased estimate, at least 0 up to rounding.

    Gretton et al., JMLR 2012, eq. 5; the multiples as in PAD (S101).
    """
    both = torch.cat([a, b]).float()
    squared = _squared(both)
    if bandwidth is None:
        count = max(len(both) * (len(both) - 1), 1)
        scale = (squared.detach().sum() / count).clamp(min=1e-12)
    else:
        scale = torch.as_tensor(bandwidth, device=both.device)
    kernel = torch.stack([torch.exp(-squared / (2.0**k * scale)) for k in powers]).sum(0)
    n = len(a)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def _squared(rows: Tensor) -> Tensor:
    """float[n, n] squared distances by one product."""
    norms = rows.square().sum(1)
    return (norms[:, None] + norms[None] - 2 * rows @ rows.T).clamp(min=0)


def reconstruction(hidden: Tensor, target: Tensor, distance: Distance = "rmse") -> Tensor:
    """How far hidden units are from a vector they are to carry, averaged over rows.

    Args:
        hidden: float[n, h]; the first m units are read where h is larger.
        target: float[n, m], m at most h; rows of zeros do not count.
        distance: ``rmse`` and ``mse`` over the units, or ``cosine``: one less the cosine.

    Returns:
        Scalar; 0 where no row counts.

    Raises:
        ValueError: more targets than hidden units.
    """
    width = target.shape[1]
    if width > hidden.shape[1]:
        raise ValueError(f"{width} targets for {hidden.shape[1]} hidden units")
    known = target.abs().sum(1) > 0
    if not bool(known.any()):
        return hidden.sum() * 0
    units, target = hidden[known, :width].float(), target[known].float()
    if distance == "cosine":
        return (1 - F.cosine_similarity(units, target, dim=1)).mean()
    mse = F.mse_loss(units, target)
    return mse if distance == "mse" else (mse + 1e-12).sqrt()


def apart(states: Tensor, taught: Tensor, distance: float) -> Tensor:
    """How far states are from what they are to be, averaged over rows.

    Args:
        states: float[n, d].
        taught: float[n, d].
        distance: what the Euclidean distance counts beside one less the cosine.

    Returns:
        Scalar, at least 0; 0 where there is no row.

    Xu et al., SLMRec, ICLR 2025.
    """
    if not len(states):
        return states.sum() * 0
    states, taught = states.float(), taught.float()
    angle = 1 - F.cosine_similarity(states, taught, dim=1)
    return (angle + distance * (states - taught).norm(dim=1)).mean()


def uniformity(rows: Tensor, sharpness: float = 2.0) -> Tensor:
    """How much rows crowd together: the mean of exp(-sharpness * distance^2) over pairs.

    Args:
        rows: float[n, d] of unit length.
        sharpness: of the kernel.

    Returns:
        Scalar between 0 and 1, 1 where all rows are the same; 0 where there is no pair.

    Wang and Isola, ICML 2020, without the logarithm.
    """
    n = len(rows)
    if n < 2:
        return rows.sum() * 0
    kernel = torch.exp(-sharpness * _squared(rows.float()))
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))
