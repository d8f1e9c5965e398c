"""Losses of GRU4Rec: the next item against a shared sample, pair by pair."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Pairwise = Literal["bpr", "bpr-max", "top1", "top1-max"]


def pairwise(
    kind: Pairwise,
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    regularise: float = 1.0,
) -> Tensor:
    """Mean ranking loss (Hidasi and Karatzoglou, CIKM 2018, sections 3 and 4).

    Args:
        kind: ``bpr`` and ``top1`` weigh all negatives alike, the ``-max`` ones by their softmax.
        states: float[m, d].
        table: float[n_items, d].
        targets: int64[m], -1 for rows that do not count.
        negatives: int64[s], shared by all rows; a row's own target among them is left out.
        regularise: weight of the score penalty in ``bpr-max``.

    Returns:
        Scalar; 0 where no row counts.
    """
    known = targets >= 0
    positive = (states * table[targets.clamp(min=0)]).sum(1, keepdim=True)
    scores = states @ table[negatives].T
    valid = (targets[:, None] != negatives) & known[:, None]
    count = valid.sum(1, keepdim=True).clamp(min=1)
    if kind.endswith("-max"):
        hidden = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        weight = torch.softmax(hidden, 1) * valid
    else:
        weight = valid.to(scores.dtype) / count
    if kind == "bpr":
        rows = -(F.logsigmoid(positive - scores) * weight).sum(1)
    elif kind == "bpr-max":
        won = (torch.sigmoid(positive - scores) * weight).sum(1)
        penalty = (scores.square() * weight).sum(1)
        rows = -torch.log(won + 1e-8) + regularise * penalty
    else:
        rows = ((torch.sigmoid(scores - positive) + torch.sigmoid(scores.square())) * weight).sum(1)
    return (rows * known).sum() / known.sum().clamp(min=1)
