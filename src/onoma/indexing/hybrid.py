"""Method ``hybrid``: one name after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.paths import without_counters

if TYPE_CHECKING:
    from onoma.dataset.split import Split


class HybridNames(IndexMethod):
    """What two methods say of an item, joined (HID of Hua et al. 2023).

    The first name loses the code that tells equals apart: the second does that. ``independent``
    as the second gives every item a word of its own behind the path it shares.

    Args:
        first: a method, or a mapping with ``method`` and its settings.
        second: the same; its names must be different for all items.
    """

    name = "hybrid"
    needs_vectors = False

    def __init__(
        self,
        first: str | dict[str, Any] = "collaborative",
        second: str | dict[str, Any] = "independent",
    ) -> None:
        self.parts = [_mapping(first), _mapping(second)]

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Build both; see :meth:`IndexMethod.build`."""
        made = [_method(part).build(split, vectors, seed) for part in self.parts]
        first, second = made
        front, sizes = without_counters(first)
        short = bool(first.meta.get("counter"))
        tensors: dict[str, NDArray[np.generic]] = {}
        for label, part in zip(("first", "second"), made, strict=True):
            tensors[f"{label}/codes"] = part.codes
            tensors |= {f"{label}/{key}": value for key, value in part.tensors.items()}
        meta = {
            "parts": self.parts,
            "made": [{"method": m.method, "sizes": list(m.sizes), "meta": m.meta} for m in made],
            "disambiguated": bool(second.meta.get("disambiguated")),
            "counter": bool(second.meta.get("counter")),
            "uncounted": len(sizes) + int(second.meta.get("uncounted", 0)),
        }  # fmt: skip
        names = np.concatenate([_filled(front, sizes), second.codes], axis=1)
        vocabularies = (*(size + short for size in sizes), *second.sizes)
        return ItemIndex(names, vocabularies, self.name, tensors, meta)

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Both names; see :meth:`ItemIndex.assign`."""
        first, second = _taken_apart(index)
        width = index.depth - second.depth
        since = index.codes[second.n_items :]
        second = second.extended(since[:, width:])
        if width == first.depth:
            front, sizes = first.extended(since[:, :width]).assign(vectors), first.sizes
        else:
            # What tells equals apart is no part of the joined name: it may be given out again.
            front, sizes = without_counters(replace(first, codes=first.assign(vectors)))
        return np.concatenate([_filled(front, sizes), second.assign(vectors)], axis=1)


def _mapping(part: str | dict[str, Any]) -> dict[str, Any]:
    return {"method": part} if isinstance(part, str) else dict(part)


def _method(part: dict[str, Any]) -> IndexMethod:
    from onoma.indexing import build

    settings = dict(part)
    if "method" not in settings:
        raise OnomaError("a part of a hybrid has no method", where="index method hybrid")
    return build(settings.pop("method"), **settings)


def _filled(front: NDArray[np.int32], sizes: Sequence[int]) -> NDArray[np.int32]:
    """First names of one length: the second begins at the same level everywhere.

    A name that ends early goes on with a code of its own, so that the levels of the second name
    alone carry its vocabularies.
    """
    return np.where(front < 0, np.array(sizes, dtype=np.int32), front)


def _taken_apart(index: ItemIndex) -> list[ItemIndex]:
    made = []
    for label, about in zip(("first", "second"), index.meta["made"], strict=True):
        tensors = {
            key.removeprefix(f"{label}/"): value
            for key, value in index.tensors.items()
            if key.startswith(f"{label}/")
        }
        codes = tensors.pop("codes").astype(np.int32)
        made.append(
            ItemIndex(codes, tuple(about["sizes"]), about["method"], tensors, about["meta"])
        )
    return made
