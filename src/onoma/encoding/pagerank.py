"""Which items matter to an item: walks over who took both that come back now and then."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.cooccurrence import interactions

_CELLS = 1 << 24  # 64 MB of walks at a time


def important(
    split: Split,
    items: NDArray[np.integer],
    top: int,
    restart: float = 0.15,
    steps: int = 20,
) -> NDArray[np.int64]:
    """The items with the largest personalised PageRank from each item, itself left out.

    Two items are joined as strongly as there are training users who have both; a walk goes to a
    neighbour in proportion and returns to its start with probability ``restart`` (Haveliwala, WWW
    2002; LLM-Rec's important neighbours, Lyu et al., NAACL Findings 2024). No item is joined with
    itself. The graph itself is never made: a step goes from items to their users and back.

    Args:
        split: of which ``train`` is read and nothing else.
        items: int[m] item codes to start from.
        top: items wanted of each.
        restart: probability of a return in each step.
        steps: of the power iteration.

    Returns:
        int64[m, top], best first, the lower code among equals; -1 where no walk reaches more.
    """
    held = interactions(split.train, split.dataset.n_items)
    back = sp.csr_array(held.T)
    counts = np.asarray(held.sum(axis=0), dtype=np.float32)
    degree = np.asarray(back @ held.sum(axis=1), dtype=np.float32) - counts
    rate = np.divide(1 - restart, degree, out=np.zeros_like(degree), where=degree > 0)
    out = np.full((len(items), top), -1, dtype=np.int64)
    step = max(1, _CELLS // max(held.shape))
    for start in range(0, len(items), step):
        part = np.asarray(items[start : start + step], dtype=np.int64)
        rows = np.arange(len(part))
        walk = np.zeros((len(part), held.shape[1]), dtype=np.float32)
        walk[rows, part] = 1
        for _ in range(steps):
            going = walk * rate
            # Along users and back, less what would come straight home.
            walk = np.asarray((back @ (held @ going.T)).T) - going * counts
            walk[rows, part] += restart
        walk[rows, part] = 0
        order = np.argsort(-walk, axis=1, kind="stable")[:, :top]
        reached = np.take_along_axis(walk, order, axis=1) > 1e-9
        out[start : start + step, : order.shape[1]] = np.where(reached, order, -1)
    return out
