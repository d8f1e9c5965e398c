"""Softmax losses over a whole catalogue that never hold the logits of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from onoma.neural.device import matrix_dtype

_ROWS = 256  # 256 x 12,000 bf16 logits stay in the second-level cache's reach


Watch = Callable[[slice, Tensor], None]


class _FullSoftmax(torch.autograd.Function):
    """Forward computes the loss and both gradients, ``_ROWS`` rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, watch: Watch | None
    ) -> Tensor:
        dtype = matrix_dtype(states.device.type)
        h, w = states.to(dtype), table.to(dtype)
        n = int((targets >= 0).sum())
        d_states = torch.empty_like(h)
        d_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=h.device)
        # exp without the usual maximum is safe while |logits| < 60; the bound is Cauchy-Schwarz.
        no_peak = torch.zeros((), device=h.device)
        bounded = bool(states.norm(dim=1).max() * table.norm(dim=1).max() < 60)
        for start in range(0, len(h), _ROWS):
            rows = slice(start, start + _ROWS)
            logits, counts = h[rows] @ w.T, targets[rows] >= 0
            goal = targets[rows].clamp(min=0)
            at = torch.arange(len(goal), device=h.device)
            hit = logits[at, goal].float()
            if bounded:
                p, peak = logits.exp_(), no_peak
            else:
                top = logits.amax(1, keepdim=True)
                p, peak = logits.sub_(top).exp_(), top[:, 0].float()
            mass = p.sum(1, dtype=torch.float32)
            total += ((mass.log() + peak - hit) * counts).sum()
            if watch is not None:
                watch(rows, p)
            p.mul_((counts / mass).to(dtype)[:, None])
            p[at, goal] -= counts.to(dtype)
            d_states[rows] = p @ w
            d_table += p.T @ h[rows]
        n = max(n, 1)
        ctx.save_for_backward(d_states.float() / n, d_table / n)
        return total / n

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        d_states, d_table = ctx.saved_tensors
        return d_states * grad, d_table * grad, None, None


def full_softmax(
    states: Tensor, table: Tensor, targets: Tensor, watch: Watch | None = None
) -> Tensor:
    """Mean cross-entropy of ``states @ table.T`` against targets.

    Args:
        states: float[m, d].
        table: float[n_items, d].
        targets: int64[m], -1 for rows that do not count.
        watch: called with each slice of rows and its float[r, n_items] probabilities, each row up
            to a factor, while they exist; it must not change them.

    Returns:
        Scalar with gradients for states and table; memory O(256 x n_items), not O(m x n_items).
    """
    loss: Tensor = _FullSoftmax.apply(states, table, targets, watch)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, log_count: Tensor
) -> Tensor:
    """An estimate of :func:`full_softmax` from negatives shared by all rows.

    Every negative's logit loses the log of how often its item was expected in the sample, so the
    sum of exponentials estimates the whole catalogue's (Bengio and Senecal 2008, eq. 8).

    Args:
        states: float[m, d].
        table: float[n_items, d].
        targets: int64[m], -1 for rows that do not count.
        negatives: int64[s]; a row's own target among them is left out.
        log_count: float32[s], log of the expected count of each negative's item in a sample of
            size s (``log(s / n_items)`` for a uniform one).

    Returns:
        Scalar mean loss.
    """
    dtype = matrix_dtype(states.device.type)
    positive = (states * table[targets.clamp(min=0)]).sum(1, keepdim=True)
    logits = (states.to(dtype) @ table[negatives].to(dtype).T).float() - log_count
    logits = logits.masked_fill(targets[:, None] == negatives, -torch.inf)
    loss = torch.logsumexp(torch.cat([positive, logits], 1), 1) - positive[:, 0]
    return loss[targets >= 0].mean()
