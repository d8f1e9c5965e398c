"""Why an item is recommended: what it shares with the history, and what each title brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onoma.explanation import SharedAttributes, explain, say, shared_prefix
from onoma.explanation.leave_one_out import LeaveOneOut
from onoma.studio.frame import Studio, element

if TYPE_CHECKING:
    from onoma.indexing import ItemIndex
    from onoma.serving.view import View

_RECENT = 50  # items of a history that are left out in turn
_LISTED = 8

Part = tuple[str, float]


class Why:
    """Explanations of what the present view answers.

    Args:
        studio: whose view it is.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def alike(self, history: Sequence[str], targets: Sequence[str]) -> list[str]:
        """What each target has in common with a history, in words; empty where nothing is."""
        view = self._studio.service.view
        had = _recent(view, history)
        attributes, index = self._attributes(), _index(view)
        named = 0 if index is None else index.n_items
        out = []
        for target in view.catalogue.codes(targets).tolist():
            others = [code for code in had if code != target]
            reasons = attributes.reasons(others, target, 1)
            if index is not None and target < named:
                alike = shared_prefix(index, [code for code in others if code < named], target)
                reasons += [] if alike is None else [alike]
            out.append(
                "; ".join(say(reason, lambda codes: _titles(view, codes)) for reason in reasons)
            )
        return out

    def parts(self, history: Sequence[str], target: str) -> list[Part]:
        """What the score loses without each title, the most first (leave-one-out)."""
        view = self._studio.service.view
        (code,) = view.catalogue.codes([target]).tolist()
        (found,) = explain(view.answers, _recent(view, history)[::-1], [code], LeaveOneOut())
        order = np.argsort(-np.abs(found.contributions), kind="stable")[:_LISTED]
        titles = _titles(view, found.history[order].tolist())
        return list(zip(titles, found.contributions[order].tolist(), strict=True))

    def draw(self, parts: Sequence[Part]) -> None:
        """Bars to the right for what speaks for the item, to the left for what speaks against."""
        if not parts:
            element("p", "note", "The history holds nothing besides this title.")
            return
        largest = max(abs(value) for _, value in parts) or 1.0
        with element("ul", "parts"):
            for title, value in parts:
                with element("li"):
                    element("span", "title", title)
                    with element("span", "both", title=f"{value:+.4f}"):
                        side = "for" if value >= 0 else "against"
                        element("i", side).style(f"width:{50 * abs(value) / largest:.1f}%")
                    element("span", "score", f"{value:+.3f}")

    def _attributes(self) -> SharedAttributes:
        studio = self._studio
        return studio.once(
            "attributes", lambda: SharedAttributes(studio.service.view.catalogue.table)
        )


def _recent(view: View, history: Sequence[str]) -> list[int]:
    """Item codes, the latest first."""
    codes = view.catalogue.codes(history).tolist()
    return list(dict.fromkeys(reversed(codes)))[:_RECENT]


def _index(view: View) -> ItemIndex | None:
    return getattr(view.model, "index", None)


def _titles(view: View, codes: Sequence[int]) -> list[str]:
    return [view.catalogue.titles[code] or view.catalogue.ids[code] for code in codes]
