"""Words and pairs of words, weighted by rarity, folded into a few dozen directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import TextEncoder, unit_rows
from onoma.encoding.svd import truncated_svd
from onoma.encoding.text import FIELDS, item_texts, words_of


class TfIdf(TextEncoder):
    """TF-IDF over words and word pairs, then a truncated SVD.

    A count c weighs ``1 + ln c`` and a term in d of n texts ``1 + ln((1 + n) / (1 + d))``; rows
    have unit length before and after the decomposition.

    Args:
        dim: directions kept; fewer where the catalogue has fewer terms or items.
        min_df: texts a term must occur in.
        max_terms: the most frequent terms that are kept.
        pairs: whether pairs of neighbouring words are terms.
        fields: columns of the catalogue to read.
    """

    name = "tfidf"

    def __init__(
        self,
        dim: int = 256,
        min_df: int = 2,
        max_terms: int = 200_000,
        pairs: bool = True,
        fields: Sequence[str] = FIELDS,
    ) -> None:
        super().__init__(fields)
        if dim < 1 or min_df < 1 or max_terms < 1:
            raise ValueError("dim, min_df and max_terms must be at least 1")
        self.dim, self.min_df, self.max_terms, self.pairs = dim, min_df, max_terms, pairs
        self._terms: pl.DataFrame | None = None

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "dim": self.dim,
            "min_df": self.min_df,
            "max_terms": self.max_terms,
            "pairs": self.pairs,
            "fields": list(self.fields),
        }

    def encode(self, split: Split) -> NDArray[np.float32]:
        """Fit on the catalogue's texts, then encode them."""
        texts = item_texts(split.dataset.items, self.fields)
        return self.fit(texts).encode_texts(texts)

    def fit(self, texts: Sequence[str]) -> Self:
        """Choose terms, weights and directions."""
        counts = self._counts(texts)
        known = counts.group_by("term").agg(pl.len().alias("df"))
        known = known.filter(pl.col("df") >= self.min_df)
        known = known.sort("df", "term", descending=[True, False])
        known = known.head(self.max_terms).sort("term").with_row_index("column")
        weight = 1 + np.log((1 + len(texts)) / (1 + known["df"].to_numpy()))
        self._weights = weight.astype(np.float32)
        self._terms = known.select("term", pl.col("column").cast(pl.Int64))
        if known.height == 0:
            self._directions = np.zeros((0, 1), dtype=np.float32)
            return self
        _, _, vt = truncated_svd(self._matrix(counts, len(texts)), self.dim)
        self._directions = vt.T.copy()
        return self

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """Fit on the catalogue's texts where that has not been done, then encode the new ones."""
        if self._terms is None:
            self.fit(item_texts(catalogue, self.fields))
        return super().encode_new(catalogue, items, width)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts by the fitted terms; a text of unknown terms alone has a zero row.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        return unit_rows(self._matrix(self._counts(texts), len(texts)) @ self._directions)

    def _counts(self, texts: Sequence[str]) -> pl.DataFrame:
        """(row, term, count) of all terms."""
        words = words_of(texts)
        if self.pairs:
            following = pl.concat_str("term", pl.col("term").shift(-1), separator=" ")
            same = pl.col("row") == pl.col("row").shift(-1)
            pairs = words.select("row", pl.when(same).then(following).alias("term")).drop_nulls()
            words = pl.concat([words, pairs])
        return words.group_by("row", "term").agg(pl.len().alias("count"))

    def _matrix(self, counts: pl.DataFrame, n: int) -> sp.csr_array:
        """float32[n, n_terms] with unit rows."""
        if self._terms is None:
            raise RuntimeError("fit comes first")
        known = counts.join(self._terms, on="term").sort("row", "column")
        columns = known["column"].to_numpy()
        values = (1 + np.log(known["count"].to_numpy())).astype(np.float32) * self._weights[columns]
        matrix = sp.csr_array(
            (values, (known["row"].to_numpy().astype(np.int64), columns)),
            shape=(n, self._terms.height),
            dtype=np.float32,
        )
        lengths = np.sqrt(matrix.multiply(matrix).sum(axis=1))
        scale = np.divide(1, lengths, out=np.zeros(n, dtype=np.float32), where=lengths > 0)
        return sp.csr_array(sp.diags_array(scale.astype(np.float32)) @ matrix)
