"""Where a new item would land, by the same steps as when it is put, and nothing kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.serving.view import View

_SHOWN = 6


@dataclass(frozen=True)
class Landing:
    """A place in the tree.

    Attributes:
        name: the codes that the item would get.
        known: whether the content space knows any of its words.
        beside: items that share the longest beginning of the name, as the service lists items.
        alike: items whose content is most alike.
    """

    name: list[int]
    known: bool
    beside: list[dict[str, Any]]
    alike: list[dict[str, Any]]


def land(view: View, title: str, categories: list[str]) -> Landing:
    """Name an item as :meth:`View.changed` would, without changing anything.

    Args:
        view: what is served.
        title: of the new item.
        categories: values of its ``categories``, where the catalogue has that column.

    Raises:
        OnomaError: the model takes no new items.
    """
    if view.late:
        raise OnomaError(
            f"{view.model.name} names no new items: they are answered by likeness", where="names"
        )
    attributes = {"categories": categories} if categories else {}
    rows = view.catalogue.rows([{"item_id": "\0new", "title": title, "attributes": attributes}])
    grown = view.model.extend(view.space.catalogue, rows)
    codes = grown.index.codes  # type: ignore[attr-defined]
    names, own = codes[:-1], codes[-1]
    shared = np.logical_and.accumulate((names == own) & (own >= 0), axis=1).sum(axis=1)
    shared[view.catalogue.gone[: len(names)]] = 0
    vector = view.space.place(rows)[0]
    near = view.space.vectors @ vector
    near[view.catalogue.gone] = 0
    # Items beside it that are alike in content come first.
    order = np.lexsort((-near[: len(names)], -shared))[:_SHOWN]
    by_content = np.argsort(-near, kind="stable")[:_SHOWN]
    return Landing(
        [code for code in own.tolist() if code >= 0],
        bool(vector.any()),
        [_item(view, code) for code in order.tolist() if shared[code]],
        [_item(view, code) for code in by_content.tolist() if near[code] > 0],
    )


def _item(view: View, code: int) -> dict[str, Any]:
    return {
        "item_id": view.catalogue.ids[code],
        "title": view.catalogue.titles[code],
        "name": view.name_of(code),
    }
