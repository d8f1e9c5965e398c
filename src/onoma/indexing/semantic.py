"""Method ``semantic``: the path of an item in the shop's own categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing import columns
from onoma.indexing.index import IndexMethod, ItemIndex
from onoma.indexing.paths import centres, free_names, nearest_leaf, with_counters

if TYPE_CHECKING:
    from onoma.dataset.split import Split

_TREE = 0.8  # where fewer tags stand under their usual parent, the tags are no tree


class SemanticNames(IndexMethod):
    """A code for every category from the root down, then a counter (SemID of Hua et al. 2023).

    Tags that form no tree (a restaurant is Greek and a diner) are ordered by how common they are
    instead, and the first ``keep`` of those that more than ``common`` items have are the path.

    Args:
        column: of the catalogue; lists, or texts parted by ``|``.
        keep: tags kept where there is no tree.
        common: rarer tags are left out where there is no tree.
    """

    name = "semantic"
    needs_vectors = False

    def __init__(self, column: str = "categories", keep: int = 5, common: int = 10) -> None:
        if keep < 1 or common < 0:
            raise OnomaError(f"keep is {keep} and common {common}; they must be at least 1 and 0")
        self.column, self.keep, self.common = column, keep, common

    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Read the categories of the catalogue; vectors, if any, place new items later.

        Raises:
            MissingColumn: the catalogue has no such column, or it holds neither texts nor lists
                of texts.
        """
        held = columns.read(split, self.column, columns.is_tags)
        tags = [_listed(value) for value in held.to_list()]
        tree = _treeness(tags) >= _TREE
        if not tree:
            tags = self._by_frequency(tags)
        paths, sizes = _paths(tags)
        tensors: dict[str, NDArray[np.generic]] = {}
        if vectors is not None:
            leaves, middle = centres(paths, vectors)
            tensors = {"leaves": leaves, "centres": middle}
        names, vocabularies = with_counters(paths, sizes, None, seed)
        meta = {
            "column": self.column, "keep": self.keep, "common": self.common, "seed": seed,
            "tree": tree, "leaves": len(np.unique(paths, axis=0)),
            "disambiguated": True, "counter": True,
        }  # fmt: skip
        return ItemIndex(names, vocabularies, self.name, tensors, meta)

    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """The category whose mean vector is nearest; see :meth:`ItemIndex.assign`.

        Raises:
            OnomaError: the index was built without vectors.
        """
        if "centres" not in index.tensors:
            raise OnomaError("built without vectors: new items cannot be placed")
        paths = nearest_leaf(index.tensors["leaves"], index.tensors["centres"], vectors)
        return free_names(index, paths)

    def _by_frequency(self, tags: list[list[str]]) -> list[list[str]]:
        count = Counter(tag for row in tags for tag in set(row))
        return [
            sorted(
                {tag for tag in row if count[tag] > self.common}, key=lambda tag: (-count[tag], tag)
            )[: self.keep]
            for row in tags
        ]


def _listed(value: Sequence[str] | str | None) -> list[str]:
    if value is None:
        return []
    parts = value.split("|") if isinstance(value, str) else value
    return [part.strip() for part in parts if part and part.strip()]


def _treeness(tags: list[list[str]]) -> float:
    """Share of tags that stand under the parent they most often stand under."""
    pairs = Counter((above, tag) for row in tags for above, tag in zip(row, row[1:], strict=False))
    usual: dict[str, int] = {}
    for (_, tag), times in pairs.items():
        usual[tag] = max(usual.get(tag, 0), times)
    return sum(usual.values()) / max(pairs.total(), 1) if pairs else 1.0


def _paths(tags: list[list[str]]) -> tuple[NDArray[np.int32], list[int]]:
    """int32[n, depth] nodes from the root down and the nodes of each level.

    Items without a tag are a category of their own.
    """
    depth = max(1, max(map(len, tags), default=1))
    paths = np.full((len(tags), depth), -1, dtype=np.int32)
    nodes: list[dict[tuple[str, ...], int]] = [{} for _ in range(depth)]
    for row, parts in enumerate(tags):
        whole = tuple(parts) or ("",)
        for level in range(len(whole)):
            known = nodes[level]
            paths[row, level] = known.setdefault(whole[: level + 1], len(known))
    return paths, [len(level) for level in nodes]
