"""The one figure that chooses checkpoints and settings."""

from __future__ import annotations

import numpy as np

from onoma.dataset import Cases
from onoma.recommenders.base import Recommender, Requests


def validation_ndcg(recommender: Recommender, cases: Cases, k: int = 10) -> float:
    """Mean NDCG@k over all cases, seen items left out, binary gains.

    The evaluation room stands above this one and measures much more; both agree on this figure.
    """
    if not len(cases):
        return 0.0
    items = recommender.recommend(Requests.of(cases), k).items.astype(np.int64)
    n_items = max(int(items.max(initial=0)), int(cases.targets.values.max(initial=0))) + 2
    rows = np.arange(len(cases))[:, None]
    wanted = cases.targets.rows() * n_items + cases.targets.values
    hits = np.isin(rows * n_items + items, wanted) & (items >= 0)
    gain = 1 / np.log2(np.arange(k) + 2)
    ideal = np.cumsum(gain)[np.minimum(cases.targets.lengths, k) - 1]
    return float(((hits * gain).sum(1) / ideal).mean())
