"""How alike the answers of one list are to the model that gave them, mode by mode."""

from __future__ import annotations

from onoma.dataset import Cases
from onoma.evaluation.beyond import intra_list_distance
from onoma.recommenders.base import Recommender, Requests


def alike(model: Recommender, cases: Cases, *, k: int = 20) -> dict[str, float]:
    """Mean cosine between two of the first k answers, for each mode; empty without vectors.

    Args:
        model: fitted; its own ``item_vectors`` are compared.
        cases: whose lists are looked at.
        k: length of a list.
    """
    vectors = model.item_vectors()
    if vectors is None or not len(cases):
        return {}
    asked = Requests.of(cases)
    return {
        mode: 1 - intra_list_distance(model.recommend(asked, k, mode=mode).items, vectors)
        for mode in model.modes
    }
