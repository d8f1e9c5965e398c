"""Why this item: contributions of a history, shared attributes and names, and their fidelity."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from onoma.errors import OnomaError
from onoma.explanation.attributes import SharedAttributes
from onoma.explanation.base import Attribution, Explanation, Reason
from onoma.explanation.explain import default_method, explain, titled
from onoma.explanation.fidelity import fidelity
from onoma.explanation.names import shared_prefix
from onoma.explanation.say import say

if TYPE_CHECKING:
    from onoma.dataset import Split

ATTRIBUTIONS = {
    "exact": "onoma.explanation.exact:Exact",
    "leave-one-out": "onoma.explanation.leave_one_out:LeaveOneOut",
    "gradient": "onoma.explanation.path:GradientInput",
    "path": "onoma.explanation.path:PathGradients",
    "spinrec": "onoma.explanation.spinrec:SPINRec",
    "lime": "onoma.explanation.surrogate:Surrogate",
    "shap": "onoma.explanation.shapley:Shapley",
    "cosine": "onoma.explanation.similarity:Cosine",
    "jaccard": "onoma.explanation.similarity:Jaccard",
    "popularity": "onoma.explanation.similarity:Popularity",
    "random": "onoma.explanation.similarity:Chance",
}

__all__ = [
    "ATTRIBUTIONS", "Attribution", "Explanation", "Reason", "SharedAttributes", "build",
    "default_method", "explain", "fidelity", "say", "shared_prefix", "titled",
]  # fmt: skip


def build(name: str, split: Split, seed: int = 0) -> Attribution:
    """A way to find contributions, by name.

    Args:
        name: a key of ``ATTRIBUTIONS``.
        split: what was fitted on; only its training part is read.
        seed: of what is drawn.

    Raises:
        OnomaError: no such name.
    """
    if name not in ATTRIBUTIONS:
        raise OnomaError(
            f"no method of explanation is called {name!r}",
            where="explain",
            fix=f"Use one of {', '.join(ATTRIBUTIONS)}",
        )
    module, _, attribute = ATTRIBUTIONS[name].partition(":")
    cls: type[Attribution] = getattr(import_module(module), attribute)
    return cls.create(split, seed)
