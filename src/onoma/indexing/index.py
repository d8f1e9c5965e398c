"""The second contract: the names of a catalogue, and what every way of naming must offer."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import replacing, write_text
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.dataset.split import Split
    from onoma.indexing.health import Health
    from onoma.indexing.trie import Trie

_FORMAT = 1


@dataclass(frozen=True)
class ItemIndex:
    """One name for every item.

    Attributes:
        codes: int32[n_items, depth], row ``i`` is the name of item ``i``; -1 after the end of a
            name shorter than the longest.
        sizes: vocabulary of each level; a code of level ``l`` is in ``0 .. sizes[l] - 1``.
        method: the word that named them, a key of ``indexing.METHODS``.
        tensors: what naming new items needs (codebooks and the like).
        meta: settings and measurements of the naming, JSON values only.
    """

    codes: NDArray[np.int32]
    sizes: tuple[int, ...]
    method: str
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def n_items(self) -> int:
        """Number of named items."""
        return len(self.codes)

    @property
    def depth(self) -> int:
        """Length of the longest name."""
        return self.codes.shape[1]

    @cached_property
    def trie(self) -> Trie:
        """The names as a tensor trie; built once, never saved."""
        from onoma.indexing.trie import Trie

        return Trie.build(self.codes, self.sizes)

    def health(self) -> Health:
        """Collisions, use of every vocabulary and balance of the prefixes."""
        from onoma.indexing.health import Health

        return Health.of(self)

    def assign(self, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """int32[m, depth]: names for new items that no item and no other new item has.

        Args:
            vectors: float32[m, dim], encoded as the catalogue was.

        Raises:
            OnomaError: a wrong width, or no free name is left.
        """
        from onoma.indexing import build

        names = build(self.method).assign(self, np.asarray(vectors, dtype=np.float32))
        if len(names) != len(vectors):
            raise OnomaError(
                f"{len(names)} names for {len(vectors)} new items",
                where=f"index method {self.method}",
            )
        return names

    def reconstruct(self) -> NDArray[np.float32] | None:
        """float32[n_items, dim], the vectors that the names stand for; None where they do not.

        Decoded from the codes and ``tensors`` alone; what a disambiguation code adds is nothing.
        """
        from onoma.indexing import METHODS, build

        return build(self.method).reconstruct(self) if self.method in METHODS else None

    def extended(self, codes: NDArray[np.int32]) -> ItemIndex:
        """The same names followed by those of new items (from :meth:`assign`)."""
        return replace(self, codes=np.concatenate([self.codes, codes.astype(np.int32)]))

    def save(self, folder: str | Path) -> Path:
        """Write ``index.safetensors`` and ``index.json``, each whole or not at all."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        tensors = {"codes": self.codes, **{f"tensors.{k}": v for k, v in self.tensors.items()}}
        with replacing(folder / "index.safetensors") as beside:
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, beside)
        about = {
            "format": _FORMAT, "method": self.method, "sizes": list(self.sizes),
            "items": self.n_items, "meta": self.meta,
        }  # fmt: skip
        write_text(json.dumps(about, indent=2) + "\n", folder / "index.json")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> ItemIndex:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: a file is missing, cut short, or does not fit the other.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from onoma.indexing.trie import check_codes

        folder = Path(folder)
        fix = "Build the index again"
        try:
            about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "index.safetensors")
        except FileNotFoundError as error:
            raise OnomaError(
                f"no {Path(str(error.filename or 'index')).name}", where=str(folder), fix=fix
            ) from None
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            raise OnomaError(f"unreadable index ({error})", where=str(folder), fix=fix) from None
        try:
            if about["format"] != _FORMAT:
                raise OnomaError(
                    f"index format {about['format']}, expected {_FORMAT}",
                    where=str(folder), fix=fix,
                )  # fmt: skip
            codes = tensors.pop("codes").astype(np.int32)
            sizes = tuple(int(size) for size in about["sizes"])
            count, method, meta = int(about["items"]), str(about["method"]), dict(about["meta"])
        except (KeyError, TypeError, ValueError) as error:
            raise OnomaError(
                f"index.json or index.safetensors lacks or misstates {error}",
                where=str(folder), fix=fix,
            ) from None  # fmt: skip
        try:
            check_codes(codes, sizes)
        except OnomaError as error:
            raise OnomaError(str(error), where=str(folder), fix=fix) from None
        if len(codes) != count:
            raise OnomaError(f"{len(codes)} names, {count} promised", where=str(folder), fix=fix)
        rest = {key.removeprefix("tensors."): value for key, value in tensors.items()}
        return cls(codes, sizes, method, rest, meta)


class IndexMethod(ABC):
    """A way to name items.

    Class attributes:
        name: the word used in recipes.
        needs_vectors: whether :meth:`build` reads item vectors.
    """

    name: ClassVar[str]
    needs_vectors: ClassVar[bool] = True

    @abstractmethod
    def build(
        self, split: Split, vectors: NDArray[np.float32] | None = None, seed: int = 0
    ) -> ItemIndex:
        """Name every item; reads ``split.train`` at most, never validation or test.

        Args:
            split: the data.
            vectors: float32[n_items, dim], a zero row where nothing is known of an item.
            seed: equal seeds give equal names.

        Raises:
            OnomaError: vectors are missing, misshapen or not finite.
        """

    @abstractmethod
    def assign(self, index: ItemIndex, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Free names for new items; see :meth:`ItemIndex.assign`."""

    def reconstruct(self, index: ItemIndex) -> NDArray[np.float32] | None:
        """What the names say of the vectors; see :meth:`ItemIndex.reconstruct`."""
        return None
