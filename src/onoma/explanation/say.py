"""Reasons in plain words, by template."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onoma.explanation.base import Reason

SHOWN = 2  # titles named in a sentence


def say(reason: Reason, titles: Callable[[Sequence[int]], list[str]]) -> str:
    """One sentence without a full stop.

    Args:
        reason: what is to be said.
        titles: item codes to texts, such as :meth:`onoma.dataset.Dataset.titles`; they are
            shown in quotation marks, and never read as anything but text.
    """
    named = [f"“{title}”" for title in titles(list(reason.items[:SHOWN]))]
    more = len(reason.items) - len(named)
    who = ", ".join(named) + (f" and {more} more" if more > 0 else "")
    if len(named) == 2 and more <= 0:
        who = " and ".join(named)
    if reason.kind == "history":
        return f"because of {who} in your history"
    if reason.kind == "attribute":
        return f"{reason.data['column']}: {reason.data['value']}, like {who}"
    levels, depth = reason.data["levels"], reason.data["depth"]
    return f"its name begins like that of {who} ({levels} of {depth} codes)"
