"""The one figure that contributions are about."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.inputs import Differentiable

_ROWS = 256


def told(model: Recommender, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
    """float32[n]: log-probability of the targets where scores are logits, else the score.

    Args:
        model: fitted.
        history: n rows of item codes.
        targets: int[n] item codes.
    """
    out = np.empty(len(history), dtype=np.float32)
    for start in range(0, len(history), _ROWS):
        stop = min(start + _ROWS, len(history))
        scores = model.score(Requests(history.slice(start, stop)))
        wanted = torch.from_numpy(targets[start:stop].astype(np.int64))[:, None]
        found = scores.gather(1, wanted)[:, 0]
        if isinstance(model, Differentiable):
            found = found - scores.logsumexp(dim=1)
        out[start:stop] = found.numpy()
    return out
