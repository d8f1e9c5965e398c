"""Why these items: contributions of the history, and what both have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Dataset, Ragged
from onoma.errors import OnomaError
from onoma.explanation.attributes import SharedAttributes
from onoma.explanation.base import Attribution, Explanation, Reason
from onoma.explanation.names import shared_prefix
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.inputs import Additive, Differentiable

if TYPE_CHECKING:
    from onoma.indexing import ItemIndex


def default_method(model: Recommender) -> str:
    """Exact parts where scores add up, SPINRec where they have gradients, else leave-one-out."""
    if isinstance(model, Additive):
        return "exact"
    return "spinrec" if isinstance(model, Differentiable) else "leave-one-out"


def check_method(model: Recommender, attribution: Attribution) -> None:
    """Whether an attribution can read a recommender.

    Raises:
        OnomaError: it needs what the recommender does not have.
    """
    wanted = {"additive": Additive, "differentiable": Differentiable}.get(attribution.needs)
    if wanted is not None and not isinstance(model, wanted):
        raise OnomaError(
            f"{attribution.name} needs a recommender that is {attribution.needs}; "
            f"{model.name} is not",
            where="explain",
            fix=f"Use {default_method(model)} or leave-one-out",
        )


def explain(
    model: Recommender,
    history: Sequence[int] | NDArray[np.integer],
    targets: Sequence[int] | NDArray[np.integer],
    attribution: Attribution,
    *,
    attributes: SharedAttributes | None = None,
    index: ItemIndex | None = None,
) -> list[Explanation]:
    """One explanation for each of some items that one history was answered with.

    Args:
        model: fitted.
        history: item codes, oldest first; a target that occurs in it is left out of it.
        targets: item codes.
        attribution: from :func:`onoma.explanation.build`.
        attributes: where shared attributes are looked up; None for none.
        index: the names, where shared beginnings are wanted.

    Raises:
        OnomaError: the attribution cannot read this recommender.
    """
    check_method(model, attribution)
    had, asked = np.asarray(history, np.int32), np.asarray(targets, np.int32)
    rows = Ragged.from_rows([had] * len(asked))
    rows = rows.where(rows.values != np.repeat(asked, rows.lengths))
    if not len(asked):
        return []
    contributions = attribution.attribute(model, rows, asked)
    scores = model.score(Requests(rows)).numpy()[np.arange(len(asked)), asked]
    out = []
    for row, target in enumerate(asked):
        own = slice(rows.offsets[row], rows.offsets[row + 1])
        items, brought = rows[row].astype(np.int32), contributions[own]
        reasons = _reasons(items, brought, int(target), attributes, index)
        out.append(
            Explanation(
                int(target), items, brought, attribution.name, float(scores[row]), tuple(reasons)
            )
        )
    return out


def _reasons(
    items: NDArray[np.int32],
    brought: NDArray[np.float32],
    target: int,
    attributes: SharedAttributes | None,
    index: ItemIndex | None,
) -> list[Reason]:
    order = np.argsort(-brought, kind="stable")
    by_weight = [int(item) for item in items[order]]
    reasons = []
    positive = np.maximum(brought[order], 0)
    if (whole := float(positive.sum())) > 0:
        first = dict.fromkeys(
            item for item, gain in zip(by_weight, positive, strict=True) if gain > 0
        )
        shown = tuple(first)[:3]
        share = float(positive[np.isin(by_weight, shown)].sum()) / whole
        reasons.append(Reason("history", shown, {"share": share}))
    if attributes is not None:
        reasons += attributes.reasons(by_weight, target)
    if index is not None and (alike := shared_prefix(index, by_weight, target)) is not None:
        reasons.append(alike)
    return reasons


def titled(dataset: Dataset, explanation: Explanation) -> dict[str, Any]:
    """An explanation for programs: the owner's ids and titles for codes, JSON values only."""
    from onoma.explanation.say import say

    def item(code: int) -> dict[str, str]:
        return {"item_id": str(dataset.item_ids[code]), "title": dataset.titles([code])[0]}

    order = np.argsort(-explanation.contributions, kind="stable")
    return {
        **item(explanation.target),
        "method": explanation.method,
        "score": explanation.score,
        "contributions": [
            {**item(int(explanation.history[place])),
             "contribution": float(explanation.contributions[place])}
            for place in order
        ],
        "reasons": [
            {"kind": reason.kind, "items": [item(code) for code in reason.items],
             **dict(reason.data), "text": say(reason, dataset.titles)}
            for reason in explanation.reasons
        ],
    }  # fmt: skip
