"""Vectors are computed once: files named by a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from onoma.dataset import Split
from onoma.dataset.files import cache_folder, replacing
from onoma.encoding.base import Encoder
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
    replaced; where none can be written, nothing is kept.

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
    path = cache_folder() / f"{encoder.name}-{cache_key(encoder, split)}.safetensors"
    try:
        vectors = load_file(path)["vectors"]
        if vectors.ndim == 2 and len(vectors) == split.dataset.n_items:
            return vectors
    except (OSError, SafetensorError, KeyError):
        pass
    vectors = _checked(encoder, encoder.encode(split), split)
    with suppress(OSError), replacing(path) as beside:
        save_file({"vectors": np.ascontiguousarray(vectors)}, beside)
    return vectors


def _checked(encoder: Encoder, vectors: NDArray[np.float32], split: Split) -> NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != split.dataset.n_items:
        raise OnomaError(
            f"{vectors.shape} vectors for {split.dataset.n_items} items",
            where=f"encoder {encoder.name}",
        )
    if not np.isfinite(vectors).all():
        raise OnomaError("vectors that are not finite", where=f"encoder {encoder.name}")
    return np.asarray(vectors, dtype=np.float32)
