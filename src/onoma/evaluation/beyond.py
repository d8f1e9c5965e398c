"""What a ranking does besides hitting: coverage, concentration, novelty, diversity, popularity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.evaluation import popularity as _popularity

FORMULAS = {
    "coverage": "items shown to anybody in the first k / items of the catalogue",
    "gini": "Gini coefficient of how often each item of the catalogue is shown"
    " (0: all equally, 1: one item only)",
    "entropy": "Shannon entropy of how often each item is shown, in bits",
    "user_coverage": "lists with at least one answer / lists",
    "retrieved": "mean number of answers among the first k",
    "novelty": "mean of -log2((c + 1) / (total + items)) over shown items, c training count, in"
    " bits (Castells et al., 2015)",
    "intra_list_distance": "mean over pairs of a list of 1 - cosine of content vectors"
    " (Ziegler et al., 2005)",
    "popularity_lift": "(mean training count of shown items - of history items) / of history items"
    " (Abdollahpouri et al., 2019)",
    **_popularity.FORMULAS,
}


def beyond(
    items: NDArray[np.integer],
    counts: NDArray[np.integer],
    *,
    k: int,
    history: Ragged | None = None,
    targets: Ragged | None = None,
    vectors: Any = None,
) -> dict[str, float]:
    """Beyond-accuracy figures of the first k answers.

    Args:
        items: int[n, w] item codes, negative for padding.
        counts: int[n_items], training interactions of each item.
        k: the cut.
        history: n rows of item codes, for the popularity lift and statistical parity.
        targets: n rows of item codes, for equal opportunity and for what hits are worth.
        vectors: float[n_items, d], dense or SciPy sparse, for the intra-list distance; zero rows
            (nothing known) are left out.

    Returns:
        ``{"coverage@k": ..., ...}``, without the figures whose input is missing.
    """
    shown = np.asarray(items)[:, :k]
    answered = shown >= 0
    flat = shown[answered].astype(np.int64)
    if not len(flat):
        return {f"{name}@{k}": 0.0 for name in ("coverage", "user_coverage", "retrieved")}
    exposure = np.bincount(flat, minlength=len(counts))
    information = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    out = {
        f"coverage@{k}": float((exposure > 0).mean()),
        f"gini@{k}": gini(exposure),
        f"entropy@{k}": entropy(exposure),
        f"user_coverage@{k}": float(answered.any(axis=1).mean()),
        f"retrieved@{k}": float(answered.sum(axis=1).mean()),
        f"novelty@{k}": float(information[flat].mean()),
    }
    if history is not None and len(history.values):
        rows = np.flatnonzero(history.lengths > 0)
        sums = np.bincount(history.rows(), counts[history.values], minlength=len(history))
        had = float((sums[rows] / history.lengths[rows]).mean())
        if had > 0:
            out[f"popularity_lift@{k}"] = float(counts[flat].mean()) / had - 1
    if vectors is not None:
        out[f"intra_list_distance@{k}"] = intra_list_distance(shown, vectors)
    out |= _popularity.popularity(shown, counts, k=k, history=history, targets=targets)
    return out


def gini(exposure: NDArray[np.integer]) -> float:
    """Gini coefficient of non-negative counts."""
    ordered = np.sort(np.asarray(exposure, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    if not total:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total))


def entropy(exposure: NDArray[np.integer]) -> float:
    """Shannon entropy of non-negative counts, in bits."""
    share = np.asarray(exposure[exposure > 0], dtype=np.float64)
    share = share / share.sum() if len(share) else share
    return max(0.0, float(-(share * np.log2(share)).sum()))


def intra_list_distance(items: NDArray[np.integer], vectors: Any, chunk: int = 4096) -> float:
    """Mean cosine distance between pairs of one list, over lists with two known items.

    Pairs come from one product: the squared length of the sum of unit vectors is their number plus
    twice the sum of the pairwise cosines.

    Args:
        items: int[n, k] item codes, negative for padding.
        vectors: float[n_items, d], dense or SciPy sparse.
        chunk: lists at a time.
    """
    import scipy.sparse as sp

    matrix = sp.csr_matrix(vectors) if sp.issparse(vectors) else np.asarray(vectors, np.float64)
    length = np.sqrt(np.asarray(_squares(matrix)).ravel())
    total = lists = 0.0
    for start in range(0, len(items), chunk):
        part = np.asarray(items[start : start + chunk], dtype=np.int64)
        known = (part >= 0) & (length[np.maximum(part, 0)] > 0)
        row, column = np.nonzero(known)
        code = part[row, column]
        picks = sp.csr_matrix((1 / length[code], (row, code)), shape=(len(part), matrix.shape[0]))
        m = known.sum(1)
        cosines = (np.asarray(_squares(picks @ matrix)).ravel() - m) / 2
        pairs = m * (m - 1) / 2
        usable = pairs > 0
        total += float((1 - cosines[usable] / pairs[usable]).sum())
        lists += int(usable.sum())
    return total / lists if lists else 0.0


def _squares(matrix: Any) -> NDArray[np.float64]:
    product = matrix.multiply(matrix) if hasattr(matrix, "multiply") else matrix * matrix
    return np.asarray(product.sum(axis=1))
