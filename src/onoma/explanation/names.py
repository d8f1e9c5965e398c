"""Names that begin alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onoma.explanation.base import Reason
from onoma.indexing import ItemIndex


def shared_prefix(index: ItemIndex, history: Sequence[int], target: int) -> Reason | None:
    """The items of a history whose names share the longest beginning with the target's.

    Args:
        index: the names.
        history: item codes, the most important first.
        target: an item code.

    Returns:
        A reason with ``levels`` shared, the ``depth`` of the target's name and its first codes as
        ``prefix``; None where not even the first code is shared.
    """
    items = np.array(list(dict.fromkeys(map(int, history))), dtype=np.int64)
    if not len(items):
        return None
    name = index.codes[target]
    equal = (index.codes[items] == name) & (name >= 0)
    levels = np.logical_and.accumulate(equal, axis=1).sum(axis=1)
    longest = int(levels.max())
    if not longest:
        return None
    data = {
        "levels": longest,
        "depth": int((name >= 0).sum()),
        "prefix": [int(code) for code in name[:longest]],
    }
    return Reason("name", tuple(int(item) for item in items[levels == longest]), data)
