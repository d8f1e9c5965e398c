"""Softmax losses over a whole catalogue that never hold the logits of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from onoma.neural.device import matrix_dtype

_CELLS = 1 << 23  # logits at a time: few passes over the table's gradient, 16 MB of bf16


Watch = Callable[[slice, Tensor], None]


class _FullSoftmax(torch.autograd.Function):
    """Forward computes the loss and both gradients, some hundred rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, watch: Watch | None
    ) -> Tensor:
        dtype = matrix_dtype(states.device.type)
        h, w = states.to(dtype), table.to(dtype)
        counts, goal = (targets >= 0).float(), targets.clamp(min=0)
        n = int(counts.sum())
        d_states = torch.zeros(states.shape, dtype=torch.float32, device=h.device)
        d_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=h.device)
        wanted = w[goal]
        hit = (h.float() * wanted.float()).sum(1)
        part = torch.empty_like(w)
        across = w.T.contiguous()
        largest = float(states.norm(dim=1).max() * table.norm(dim=1).max())
        for rows, p, peak in masses(h, across, largest):
            mass = _row_sums(p)
            total += ((mass.log() + peak - hit[rows]) * counts[rows]).sum()
            if watch is not None:
                watch(rows, p)
            # The small factors take the scale, so that nothing but exp passes over the logits.
            scale = (counts[rows] / mass)[:, None]
            d_states[rows] = (p @ w).float() * scale
            d_table += torch.mm(p.T, (h[rows] * scale).to(dtype), out=part)
        d_states.sub_(wanted * counts[:, None])
        d_table.index_add_(0, goal, h * counts[:, None], alpha=-1)
        n = max(n, 1)
        ctx.save_for_backward(d_states.div_(n), d_table.div_(n))
        return total / n

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        d_states, d_table = ctx.saved_tensors
        return d_states * grad, d_table * grad, None, None


def masses(
    states: Tensor, across: Tensor, largest: float
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """``exp(states @ across)``, some hundred rows at a time in one piece of memory.

    Pages fresh from the system cost as much as the products that fill them.

    Args:
        states: float[m, d].
        across: float[d, n_items].
        largest: no logit is larger in absolute value.

    Yields:
        The rows, their float[r, n_items] exponentials, and the float32[r] or float32[] logarithm
        of what they were divided by. The next ones overwrite them.
    """
    n = across.shape[1]
    size = min(max(128, min(512, _CELLS // max(n, 1))), len(states))
    logits = torch.empty(size, n, dtype=across.dtype, device=across.device)
    no_peak = torch.zeros((), device=across.device)
    for start in range(0, len(states), size):
        rows = slice(start, min(start + size, len(states)))
        p = torch.mm(states[rows], across, out=logits[: rows.stop - start])
        if largest < 60:  # exp is safe without the usual maximum
            yield rows, p.exp_(), no_peak
        else:
            top = p.amax(1, keepdim=True)
            yield rows, p.sub_(top).exp_(), top[:, 0].float()


def _row_sums(p: Tensor) -> Tensor:
    """float32[r], of float[r, n]; a sum that answers in bf16 is 7 times as fast, so 16 of them."""
    if p.dtype == torch.float32:
        return p.sum(1)
    step = -(-p.shape[1] // 16)
    return torch.stack([part.sum(1) for part in torch.split(p, step, dim=1)]).sum(
        0, dtype=torch.float32
    )


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
        Scalar with gradients for states and table; never more than 512 rows of logits at once.
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
