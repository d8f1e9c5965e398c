"""The conformance suite of recommenders that ask a language model, over a small real one."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests

sys.path.insert(0, str(Path(__file__).parents[1]))


@cache
def tiny_model() -> dict:
    """The specification of the tests' model; what it answered once is kept on disk."""
    from tiny import tiny_folder

    return {"model": str(tiny_folder()), "cache": True}


class PromptedConformance(Conformance):
    """Inherit, and give :meth:`make` with ``model=tiny_model()`` and a short ``shortlist``."""

    def test_history_matters(self, model, n_items):
        """A model of random weights puts a short list in another order after some history."""
        scores = model.score(Requests(Ragged.from_rows([[at] for at in range(n_items)])))
        orders = np.unique(np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :3], axis=0)
        assert len(orders) > 1
