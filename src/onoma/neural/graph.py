"""Vectors that walk along the graph of users and items, with gradients."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn


class Bipartite(nn.Module):
    """The symmetrically normalised graph of users and items, for message passing.

    An edge weighs ``1 / sqrt(degree of the user * degree of the item)``. The two directions are
    kept as matrices of their own: the gradient of one is the other, and turning a sparse matrix
    round at every step takes longer than the product.

    Args:
        held: [n_users, n_items], one where the user has the item; training edges alone.
    """

    to_users: Tensor
    to_items: Tensor

    def __init__(self, held: sp.csr_array) -> None:
        super().__init__()
        by_user, by_item = (
            sp.diags_array(1 / np.sqrt(np.maximum(held.sum(axis=axis), 1)).astype(np.float32))
            for axis in (1, 0)
        )
        across = sp.csr_array(by_user @ held @ by_item)
        # The graph is the log's; weights that are saved do not hold it.
        self.register_buffer("to_users", _tensor(across), persistent=False)
        self.register_buffer("to_items", _tensor(sp.csr_array(across.T)), persistent=False)

    def layers(self, users: Tensor, items: Tensor, count: int) -> tuple[list[Tensor], list[Tensor]]:
        """Vectors after 0, 1, ... ``count`` steps (He et al., SIGIR 2020, eq. 3).

        Args:
            users: float32[n_users, d].
            items: float32[n_items, d].
            count: steps.

        Returns:
            ``count + 1`` tensors of users and as many of items.
        """
        of_users, of_items = [users], [items]
        for _ in range(count):
            before = of_users[-1], of_items[-1]
            of_users.append(_walk(self.to_users, self.to_items, before[1]))
            of_items.append(_walk(self.to_items, self.to_users, before[0]))
        return of_users, of_items


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, along: Tensor, back: Tensor, vectors: Tensor) -> Tensor:
        ctx.back = back
        return torch.mm(along, vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, None, torch.mm(ctx.back, grad.contiguous())


def _walk(along: Tensor, back: Tensor, vectors: Tensor) -> Tensor:
    out: Tensor = _Walk.apply(along, back, vectors)  # type: ignore[no-untyped-call]
    return out


def _tensor(matrix: sp.csr_array) -> Tensor:
    parts = (matrix.indptr, matrix.indices, matrix.data.astype(np.float32))
    pointers, columns, values = (torch.from_numpy(np.array(part)) for part in parts)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            pointers.long(), columns.long(), values, size=matrix.shape, check_invariants=False
        )
