"""Fitted recommenders on disk: ``model.safetensors`` for numbers, ``model.json`` for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from onoma.dataset import Dataset
from onoma.dataset.files import replacing, write_text
from onoma.errors import OnomaError

_PARTS = ("data", "indices", "indptr")


def save_model(
    folder: str | Path, name: str, settings: dict[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Write settings and arrays; sparse matrices take three tensors each.

    Args:
        folder: made when missing.
        name: the recommender's.
        settings: JSON values.
        arrays: dense arrays and CSR matrices by name, without full stops.
    """
    folder = Path(folder)
    tensors: dict[str, NDArray[Any]] = {}
    shapes: dict[str, list[int]] = {}
    for key, value in arrays.items():
        if isinstance(value, sp.csr_array):
            shapes[key] = [int(size) for size in value.shape]
            tensors |= {f"{key}.{part}": getattr(value, part) for part in _PARTS}
        else:
            tensors[key] = np.asarray(value)
    with replacing(folder / "model.safetensors") as beside:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, beside)
    record = {"name": name, "settings": settings, "sparse": shapes}
    write_text(json.dumps(record, indent=2) + "\n", folder / "model.json")


def load_model(
    folder: str | Path, name: str, dataset: Dataset
) -> tuple[dict[str, Any], dict[str, Any]]:
    """:func:`read_model` for arrays with one row an item.

    Raises:
        OnomaError: as there, or the arrays were made for a catalogue of another size.
    """
    settings, arrays = read_model(folder, name)
    for key, value in arrays.items():
        if value.ndim and value.shape[0] != dataset.n_items:
            raise OnomaError(
                f"{key} is for {value.shape[0]} items, the catalogue has {dataset.n_items}",
                where=str(folder),
                fix="Use the data the model was fitted on",
            )
    return settings, arrays


def read_model(folder: str | Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and arrays that :func:`save_model` wrote.

    Raises:
        OnomaError: a file is missing, damaged or of another recommender.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "model.json").read_text("utf-8"))
        tensors = load_file(folder / "model.safetensors")
        settings, shapes, said = dict(record["settings"]), record["sparse"], record["name"]
        arrays: dict[str, Any] = {k: v for k, v in tensors.items() if "." not in k}
        for key, shape in shapes.items():
            parts = tuple(tensors[f"{key}.{part}"] for part in _PARTS)
            matrix = sp.csr_array(parts, shape=tuple(shape))
            matrix.check_format(full_check=True)
            arrays[key] = matrix
    except (
        OSError,
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise OnomaError(
            f"cannot read the model ({error})", where=str(folder), fix="Fit it again with onoma run"
        ) from error
    if said != name:
        raise OnomaError(f"the folder holds a {said!r} model, not {name!r}", where=str(folder))
    return settings, arrays


def trained_around(folder: str | Path, name: str, source: str) -> None:
    """Refuse what was trained around another language model.

    Args:
        folder: of a recommender that says ``language``.
        name: of the recommender.
        source: the language model that is here.

    Raises:
        OnomaError: it is another one.
    """
    record, _ = read_model(folder, name)
    if record.get("language") != source:
        raise OnomaError(
            f"trained around {record.get('language')}, the language model is {source}",
            where=str(folder),
            fix="Pull the model it was trained around, or fit it again",
        )
