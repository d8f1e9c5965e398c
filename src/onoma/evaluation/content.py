"""Item text as sparse TF-IDF rows: a yardstick of likeness that needs no training."""

from __future__ import annotations

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Dataset

_NOT_TEXT = ("id", "url", "path", "image", "audio", "poster", "link")
_MOST_WORDS = 50_000


def content_matrix(dataset: Dataset) -> sp.csr_matrix | None:
    """Unit-length TF-IDF rows over every text and list column of the catalogue.

    Words that stand on one item only, or on more than half of those with text, say nothing about
    likeness and are left out.

    Returns:
        float32 CSR [n_items, words], zero rows where nothing is known; None without any text.
    """
    columns = [
        pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(" ")
        if isinstance(kind, pl.List)
        else pl.col(name)
        for name, kind in dataset.items.schema.items()
        if (kind == pl.String or (isinstance(kind, pl.List) and kind.inner == pl.String))
        and not any(part in _NOT_TEXT for part in name.lower().split("_"))
    ]
    if not columns:
        return None
    words = (
        dataset.items.select(
            pl.concat_str(columns, separator=" ", ignore_nulls=True)
            .str.to_lowercase()
            .str.extract_all(r"[\p{L}\p{N}]{2,}")
            .alias("word")
        )
        .with_row_index("item")
        .explode("word")
        .drop_nulls()
        .group_by("item", "word")
        .len("times")
    )
    known = words["item"].n_unique()
    kept = (
        words.group_by("word")
        .len("items")
        .filter((pl.col("items") > 1) & (pl.col("items") <= max(2, known / 2)))
        .sort(["items", "word"], descending=[True, False])
        .head(_MOST_WORDS)
        .with_row_index("column")
    )
    cells = words.join(kept, on="word").sort("item", "column")
    if not cells.height:
        return None
    idf = np.log(known / cells["items"].to_numpy())
    weight = (1 + np.log(cells["times"].to_numpy())) * idf
    rows = cells["item"].to_numpy()
    length = np.sqrt(np.bincount(rows, weight**2, minlength=dataset.n_items))
    values = (weight / np.maximum(length[rows], 1e-12)).astype(np.float32)
    return sp.csr_matrix(
        (values, (rows, cells["column"].to_numpy())), shape=(dataset.n_items, kept.height)
    )


def cosines(
    matrix: sp.csr_matrix, left: NDArray[np.integer], right: NDArray[np.integer]
) -> NDArray[np.float64]:
    """float64[n], the cosine of each pair of items; rows of ``matrix`` have unit length."""
    return np.asarray(matrix[left].multiply(matrix[right]).sum(axis=1)).ravel()
