"""Softmax losses over a whole catalogue that never hold the logits of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onoma.neural.device import matrix_dtype

_ROWS = 256  # 256 x 12,000 bf16 logits stay in the second-level cache's reach


class _FullSoftmax(torch.autograd.Function):
    """Forward computes the loss and both gradients, ``_ROWS`` rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, draws: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        dtype = matrix_dtype(states.device.type)
        h, w = states.to(dtype), table.to(dtype)
        n = len(h)
        d_states = torch.empty_like(h)
        d_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=h.device)
        drawn = targets.new_empty(n if draws is not None else 0)
        # exp without the usual maximum is safe while |logits| < 60; the bound is Cauchy-Schwarz.
        no_peak = torch.zeros((), device=h.device)
        bounded = bool(states.norm(dim=1).max() * table.norm(dim=1).max() < 60)
        for start in range(0, n, _ROWS):
            rows = slice(start, start + _ROWS)
            logits, goal = h[rows] @ w.T, targets[rows]
            at = torch.arange(len(goal), device=h.device)
            hit = logits[at, goal].float()
            if bounded:
                p, peak = logits.exp_(), no_peak
            else:
                top = logits.amax(1, keepdim=True)
                p, peak = logits.sub_(top).exp_(), top[:, 0].float()
            mass = p.sum(1, dtype=torch.float32)
            total += (mass.log() + peak - hit).sum()
            if draws is not None:
                drawn[rows] = _draw(p, mass, draws[rows])
            p.mul_(mass.reciprocal().to(dtype)[:, None])
            p[at, goal] -= 1
            d_states[rows] = p @ w
            d_table += p.T @ h[rows]
        ctx.save_for_backward(d_states.float() / n, d_table / n)
        ctx.mark_non_differentiable(drawn)
        return total / n, drawn

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Any:
        d_states, d_table = ctx.saved_tensors
        return d_states * grad, d_table * grad, None, None


def _draw(p: Tensor, mass: Tensor, uniform: Tensor) -> Tensor:
    """One column a row with probability p / mass: a block first, then inside the block."""
    n, width = p.shape
    side = max(1, int(width**0.5))
    blocks = width // side
    cut = side * blocks
    sums = p[:, :cut].view(n, blocks, side).sum(2, dtype=torch.float32)
    ends = sums.cumsum(1)
    goal = uniform * mass
    block = torch.searchsorted(ends, goal[:, None])[:, 0].clamp(max=blocks - 1)
    rest = goal - torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0)
    column = block[:, None] * side + torch.arange(side, device=p.device)
    inside = p.gather(1, column).float().cumsum(1)
    offset = torch.searchsorted(inside, rest[:, None].contiguous())[:, 0].clamp(max=side - 1)
    return block * side + offset


def _softmax(
    states: Tensor, table: Tensor, targets: Tensor, draws: Tensor | None
) -> tuple[Tensor, Tensor]:
    loss, drawn = _FullSoftmax.apply(states, table, targets, draws)  # type: ignore[no-untyped-call]
    return loss, drawn


def full_softmax(states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``states @ table.T`` against targets.

    Args:
        states: float[m, d].
        table: float[n_items, d].
        targets: int64[m].

    Returns:
        Scalar with gradients for states and table; memory O(256 x n_items), not O(m x n_items).
    """
    loss: Tensor = _softmax(states, table, targets, None)[0]
    return loss


def full_softmax_and_draw(
    states: Tensor, table: Tensor, targets: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """:func:`full_softmax`, and for each row one item drawn from the model's own distribution.

    Args:
        states: float[m, d].
        table: float[n_items, d].
        targets: int64[m].
        uniform: float32[m] in [0, 1).

    Returns:
        (loss, int64[m] items).
    """
    return _softmax(states, table, targets, uniform)


def sampled_softmax(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, log_count: Tensor
) -> Tensor:
    """An estimate of :func:`full_softmax` from negatives shared by all rows.

    Every negative's logit loses the log of how often its item was expected in the sample, so the
    sum of exponentials estimates the whole catalogue's (Bengio and Senecal 2008, eq. 8).

    Args:
        states: float[m, d].
        table: float[n_items, d].
        targets: int64[m].
        negatives: int64[s]; a row's own target among them is left out.
        log_count: float32[s], log of the expected count of each negative's item in a sample of
            size s (``log(s / n_items)`` for a uniform one).

    Returns:
        Scalar mean loss.
    """
    dtype = matrix_dtype(states.device.type)
    positive = (states * table[targets]).sum(1, keepdim=True)
    logits = (states.to(dtype) @ table[negatives].to(dtype).T).float() - log_count
    logits = logits.masked_fill(targets[:, None] == negatives, -torch.inf)
    return (torch.logsumexp(torch.cat([positive, logits], 1), 1) - positive[:, 0]).mean()
