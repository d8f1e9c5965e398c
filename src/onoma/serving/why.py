"""Why the answered items: contributions of the history, shared attributes and names."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma import explanation
from onoma.explanation import Attribution, Explanation, say
from onoma.explanation.exact import Exact
from onoma.explanation.leave_one_out import LeaveOneOut
from onoma.recommenders.inputs import Additive
from onoma.serving.view import View

MOST = 20  # items of one answer that are explained
READ = 100  # items of a history whose contributions are asked for, the latest
_ONE = threading.Lock()  # an explanation costs as much as hundreds of answers: one at a time


def attribution(view: View) -> Attribution:
    """Exact parts where scores add up, else what is lost without each item."""
    return Exact() if isinstance(view.answers, Additive) else LeaveOneOut()


def explain(view: View, history: NDArray[np.integer], ids: Sequence[str]) -> list[dict[str, Any]]:
    """``contributions`` and ``reasons`` of items for a history; withdrawn items are in neither.

    Args:
        view: what answered.
        history: item codes, oldest first.
        ids: the answered items; those that the view does not know get empty lists.
    """
    codes = [view.catalogue.code.get(each, -1) for each in ids]
    known = [code for code in codes if 0 <= code < len(view.catalogue)]
    had = history[-READ:]
    index = getattr(view.model, "index", None)
    if index is not None and len(index.codes) < len(view.catalogue):
        index = None  # new items have no names
    found: dict[int, Explanation] = {}
    if len(had) and known:
        with _ONE:
            for one in explanation.explain(
                view.answers, had, known, attribution(view),
                attributes=view.texts.attributes, index=index,
            ):  # fmt: skip
                found[one.target] = one
    return [_told(view, found.get(code)) for code in codes]


def _told(view: View, one: Explanation | None) -> dict[str, Any]:
    catalogue = view.catalogue
    if one is None:
        return {"contributions": [], "reasons": []}

    def item(code: int) -> dict[str, Any]:
        return {"item_id": catalogue.ids[code], "title": catalogue.titles[code]}

    def titles(codes: Sequence[int]) -> list[str]:
        return [catalogue.titles[code] or catalogue.ids[code] for code in codes]

    order = np.argsort(-one.contributions, kind="stable").tolist()
    reasons = []
    for reason in one.reasons:
        if items := tuple(code for code in reason.items if not catalogue.gone[code]):
            shown = explanation.Reason(reason.kind, items, reason.data)
            reasons.append(
                {
                    "kind": reason.kind,
                    "text": say(shown, titles),
                    "items": [item(code) for code in items],
                    **{key: reason.data.get(key) for key in ("share", "column", "value")},
                    **{key: reason.data.get(key) for key in ("levels", "depth")},
                }
            )
    return {
        "contributions": [
            {**item(int(one.history[place])), "contribution": float(one.contributions[place])}
            for place in order
            if not catalogue.gone[one.history[place]]
        ],
        "reasons": reasons,
    }
