"""The encoder contract: a split in, one unit vector an item out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.text import FIELDS, item_texts
from onoma.errors import OnomaError


class Encoder(ABC):
    """Turns every item of a catalogue into a vector.

    Class attributes:
        name: the word used in recipes.
    """

    name: ClassVar[str]

    @property
    def whole(self) -> bool:
        """Whether what :meth:`encode` last read was all there; else no cache keeps its vectors."""
        return True

    @abstractmethod
    def encode(self, split: Split) -> NDArray[np.float32]:
        """float32[n_items, dim]: unit rows, a zero row where nothing is known of the item."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that changes the vectors besides the data; JSON values only, no secrets."""

    @abstractmethod
    def fingerprint(self, split: Split) -> str:
        """Hex digits over the part of the data that :meth:`encode` reads."""

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """Vectors of items that came after :meth:`encode`, in the space of the catalogue's.

        Args:
            catalogue: the items that were encoded.
            items: the new ones, with the same columns where they are known.
            width: dimensions of the catalogue's vectors, where the caller knows.

        Returns:
            float32[m, width]: unit rows, a zero row where nothing is known of the item.

        Raises:
            OnomaError: the encoder has no place for new items, or gives another width.
        """
        raise OnomaError("new items have no vectors", where=f"encoder {self.name}")


class TextEncoder(Encoder):
    """Reads the catalogue's words.

    Args:
        fields: columns of the catalogue to read, in order; missing ones are skipped.
    """

    def __init__(self, fields: Sequence[str] = FIELDS) -> None:
        self.fields = tuple(fields)

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn from texts before any is encoded; most encoders have learnt already."""
        return self

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim]: unit rows, a zero row for an empty text."""

    def encode(self, split: Split) -> NDArray[np.float32]:
        """The vectors of the catalogue's texts."""
        return self.encode_texts(item_texts(split.dataset.items, self.fields))

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """The vectors of the new items' texts."""
        vectors = self.encode_texts(item_texts(items, self.fields))
        if width is not None and vectors.shape[1] != width:
            raise OnomaError(
                f"vectors of width {vectors.shape[1]}, the catalogue's have {width}",
                where=f"encoder {self.name}",
            )
        return vectors

    def fingerprint(self, split: Split) -> str:
        """A hash of the texts."""
        digest = hashlib.sha256()
        for text in item_texts(split.dataset.items, self.fields):
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


class LogEncoder(Encoder):
    """Reads ``split.train`` and nothing else."""

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """Zero rows: no log knows an item before its first interaction."""
        if width is None:
            raise OnomaError("the width is not known", where=f"encoder {self.name}")
        return np.zeros((items.height, width), dtype=np.float32)

    def fingerprint(self, split: Split) -> str:
        """A hash of the training sequences and the catalogue's size."""
        return log_fingerprint(split)


def log_fingerprint(split: Split) -> str:
    """Hex digits over the training sequences and the catalogue's size."""
    digest = hashlib.sha256(str(split.dataset.n_items).encode())
    digest.update(np.ascontiguousarray(split.train.offsets, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(split.train.values, dtype=np.int64).tobytes())
    return digest.hexdigest()


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """float32 rows of length one; rows that are zero, or nearly so, are zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = lengths > 1e-8
    return np.where(known, vectors / np.where(known, lengths, 1), np.float32(0))
