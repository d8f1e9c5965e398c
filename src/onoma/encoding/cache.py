"""Vectors are computed once: files named by a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from onoma.dataset import Split
from onoma.dataset.files import cache_folder, replacing
from onoma.encoding.base import Encoder, TextEncoder
from onoma.encoding.joined import Composite
from onoma.errors import OnomaError

_VERSION = 1  # raise when an encoder's arithmetic changes


def cache_key(encoder: Encoder, split: Split) -> str:
    """Twenty hex digits over the encoder's name and settings and the data that it reads."""
    settings = json.dumps(encoder.settings(), sort_keys=True, default=str)
    record = f"{_VERSION} {encoder.name} {settings} {encoder.fingerprint(split)}"
    return hashlib.sha256(record.encode()).hexdigest()[:20]


def cached(encoder: Encoder, split: Split) -> NDArray[np.float32]:
    """The encoder's vectors, from the cache when they are there, computed and kept when not.

    Of an encoder made of others the parts are kept, one by one. A file that cannot be read is
    replaced; where none can be written, or the encoder says that its vectors are not whole,
    nothing is kept.

    Args:
        encoder: the encoder.
        split: the data.

    Returns:
        float32[n_items, dim].

    Raises:
        OnomaError: the encoder returned rows that are not finite or not one an item.
    """
    if isinstance(encoder, Composite):
        views = [cached(part, split) for part in encoder.parts]
        return _checked(encoder, encoder.join(views, split), split)
    return _kept(
        encoder,
        cache_key(encoder, split),
        split.dataset.n_items,
        lambda: _checked(encoder, encoder.encode(split), split),
    )


def cached_texts(encoder: TextEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of any texts, kept like those of a catalogue.

    Args:
        encoder: reads words; one that has to learn first learns from these texts.
        texts: n texts.

    Returns:
        float32[n, dim], a zero row for an empty text.

    Raises:
        OnomaError: the encoder returned rows that are not finite or not one a text.
    """
    settings = json.dumps(encoder.settings(), sort_keys=True, default=str)
    digest = hashlib.sha256(f"{_VERSION} {encoder.name} {settings}".encode())
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return _kept(
        encoder,
        f"texts-{digest.hexdigest()[:20]}",
        len(texts),
        lambda: _sound(encoder, encoder.fit(texts).encode_texts(texts)),
    )


def _kept(
    encoder: Encoder, key: str, rows: int, compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    path = cache_folder() / f"{encoder.name}-{key}.safetensors"
    try:
        vectors = load_file(path)["vectors"]
        if vectors.ndim == 2 and len(vectors) == rows:
            return vectors
    except (OSError, SafetensorError, KeyError):
        pass
    vectors = compute()
    if encoder.whole:
        with suppress(OSError), replacing(path) as beside:
            save_file({"vectors": np.ascontiguousarray(vectors)}, beside)
    return vectors


def _checked(encoder: Encoder, vectors: NDArray[np.float32], split: Split) -> NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != split.dataset.n_items:
        raise OnomaError(
            f"{vectors.shape} vectors for {split.dataset.n_items} items",
            where=f"encoder {encoder.name}",
        )
    return _sound(encoder, vectors)


def _sound(encoder: Encoder, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise OnomaError("vectors that are not finite", where=f"encoder {encoder.name}")
    return np.asarray(vectors, dtype=np.float32)
