"""Method ``hybrid``: one name after another."""

from __future__ import annotations

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

    The first name loses its counter: the second tells equals apart. ``independent`` as the
    second gives every item a word of its own behind the path it shares.

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
        return _joined(made, self.parts)

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Both names; see :meth:`ItemIndex.assign`."""
        made = _taken_apart(index)
        grown = [part.extended(part.assign(vectors)) for part in made]
        return _joined(grown, index.meta["parts"]).codes[index.n_items :]


def _mapping(part: str | dict[str, Any]) -> dict[str, Any]:
    return {"method": part} if isinstance(part, str) else dict(part)


def _method(part: dict[str, Any]) -> IndexMethod:
    from onoma.indexing import build

    settings = dict(part)
    if "method" not in settings:
        raise OnomaError("a part of a hybrid has no method", where="index method hybrid")
    return build(settings.pop("method"), **settings)


def _joined(made: list[ItemIndex], parts: list[dict[str, Any]]) -> ItemIndex:
    first, second = made
    counted = bool(first.meta.get("counter"))
    front = without_counters(first) if counted else first.codes
    counters = first.sizes[-1] if counted else 0
    front_sizes = [size - counters for size in first.sizes[: front.shape[1]]]
    # A first name that ends early is filled with a code of its own, so that the second begins at
    # the same level everywhere and only its own levels carry its vocabularies.
    fill = np.array(front_sizes, dtype=np.int32)
    short = bool((front < 0).any())
    names = np.concatenate([np.where(front < 0, fill, front), second.codes], axis=1)
    sizes = [size + short for size in front_sizes] + list(second.sizes)
    tensors: dict[str, NDArray[np.generic]] = {}
    for label, part in zip(("first", "second"), made, strict=True):
        tensors[f"{label}/codes"] = part.codes
        tensors |= {f"{label}/{key}": value for key, value in part.tensors.items()}
    meta = {
        "parts": parts, "disambiguated": False,
        "made": [{"method": m.method, "sizes": list(m.sizes), "meta": m.meta} for m in made],
    }  # fmt: skip
    return ItemIndex(
        names.astype(np.int32), tuple(map(int, sizes)), HybridNames.name, tensors, meta
    )


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
