"""Gradients along a straight way from one history to another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged
from onoma.explanation.base import Attribution
from onoma.recommenders.base import Recommender
from onoma.recommenders.inputs import Aside, Differentiable, Entry

Of = Literal["logit", "log-probability"]
_CELLS = 1 << 24  # numbers of the vectors that enter at the same time


class PathGradients(Attribution):
    """Integrated gradients from nothing to the history (Sundararajan et al., ICML 2017).

    What enters the recommender moves from zeros b to the vectors x of the history in equal steps;
    an item's contribution is the mean gradient in its slot times x - b. With many steps the
    contributions add up to the difference between the two ends.

    Args:
        steps: points on the path, the last of which is the history itself; 1 is gradient times
            input.
        of: what is differentiated. The logit of the target alone asks what speaks for it; its
            log-probability also what speaks against all others.
    """

    name = "path"
    needs = "differentiable"

    def __init__(self, steps: int = 10, of: Of = "logit") -> None:
        self.steps, self.of = steps, of

    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total]."""
        assert isinstance(model, Differentiable)
        entry = model.enter(history)
        nothing = torch.zeros_like(entry.vectors)
        return along(model, history, entry, nothing, targets, self.steps, self.of)


class GradientInput(PathGradients):
    """Gradient at the history times what enters."""

    name = "gradient"

    def __init__(self, of: Of = "logit") -> None:
        super().__init__(1, of)


def along(
    model: Recommender,
    history: Ragged,
    entry: Entry,
    start: Tensor,
    targets: NDArray[np.integer],
    steps: int,
    of: Of,
) -> NDArray[np.float32]:
    """Contributions of the items of histories on the way from other vectors.

    Args:
        model: a differentiable recommender.
        history: n rows of item codes.
        entry: what they enter as.
        start: float32[n, slots, width], the other end of the path.
        targets: int[n] item codes.
        steps: points on the path.
        of: what is differentiated.

    Returns:
        float32[total]; items that share a slot share its contribution.
    """
    n, slots, width = entry.vectors.shape
    by_slot = np.empty((n, slots), dtype=np.float32)
    size = max(1, _CELLS // (steps * slots * width))
    for first in range(0, n, size):
        part = slice(first, min(first + size, n))
        x, b = entry.vectors[part], start[part]
        mean = _mean_gradient(model, x, b, entry.lengths[part], targets[part], steps, of)
        by_slot[part] = (mean * (x - b)).sum(dim=2).cpu().numpy()
    rows = history.rows()
    read = entry.slots >= 0
    place = rows[read] * slots + entry.slots[read]
    shared = np.bincount(place, minlength=n * slots)
    out = np.zeros(len(rows), dtype=np.float32)
    out[read] = by_slot.ravel()[place] / shared[place]
    return out + model.aside(history, targets) if isinstance(model, Aside) else out


def _mean_gradient(
    model: Recommender,
    x: Tensor,
    b: Tensor,
    lengths: NDArray[np.int64],
    targets: NDArray[np.integer],
    steps: int,
    of: Of,
) -> Tensor:
    """float32[n, slots, width], the mean over points 1/steps .. 1."""
    assert isinstance(model, Differentiable)
    n = len(x)
    t = torch.arange(1, steps + 1, device=x.device).repeat_interleave(n)[:, None, None] / steps
    points = (b.repeat(steps, 1, 1) + t * (x - b).repeat(steps, 1, 1)).requires_grad_(True)
    with torch.enable_grad():
        scores = model.score_entry(points, np.tile(lengths, steps))
        wanted = torch.from_numpy(np.tile(targets.astype(np.int64), steps))[:, None]
        whole = scores.gather(1, wanted).sum()
        if of == "log-probability":
            whole = whole - scores.logsumexp(dim=1).sum()
        (gradient,) = torch.autograd.grad(whole, points)
    return gradient.view(steps, *x.shape).mean(dim=0)
