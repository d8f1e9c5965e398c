"""Whether an explanation says what the recommender does: take items away and look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.inputs import Differentiable

BINS = 10
_ROWS = 256
# Figures of which less is better; the others are better when larger.
LOWER = frozenset({"del", "pos", "cdcg"})


@dataclass(frozen=True)
class Curve:
    """What remains of a recommendation as its history shrinks.

    Attributes:
        share: float64[n, steps], the target's probability (or score) over that for the whole
            history; NaN where that is not positive.
        rank: int64[n, steps], the target's rank, 1 for the best, among items outside the whole
            history: what was taken away stays masked.
    """

    share: NDArray[np.float64]
    rank: NDArray[np.int64]


def fidelity(
    model: Recommender,
    history: Ragged,
    contributions: NDArray[np.floating],
    targets: NDArray[np.integer],
    *,
    ks: tuple[int, ...] = (5, 10, 20),
    bins: int = BINS,
) -> dict[str, NDArray[np.float64]]:
    """Areas under the perturbation curves of explanations, a figure a row.

    With the items of a row sorted by contribution, ``round(length * step / bins)`` of them are
    deleted from the top (or all but as many kept, from the bottom), for steps 0 to ``bins``; the
    area is the trapezoid rule over the share of the history. Items keep their order in time.

    Args:
        model: fitted.
        history: n rows of item codes without the row's target.
        contributions: float[total].
        targets: int[n] item codes.
        ks: cut-offs.
        bins: steps of the curve.

    Returns:
        float64[n] each: ``del`` (probability left as top items go; less is better), ``ins``
        (reached as top items come), ``pos@k`` (still among the first k as top items go; less is
        better), ``neg@k`` (as bottom items go), ``cdcg`` (``1 / log2(1 + rank)`` as top items go;
        less is better). NaN for ``del`` and ``ins`` where the whole history gives the target no
        positive score.

    Metrics of Barkan et al., arXiv 2511.18047, by their description; scores are divided by that
    of the whole history.
    """
    gone = perturb(model, history, contributions, targets, bins=bins)
    come = perturb(model, history, contributions, targets, bins=bins, insert=True)
    out = {"del": _area(gone.share), "ins": _area(come.share)}
    for k in ks:
        out[f"pos@{k}"] = _area((gone.rank <= k).astype(np.float64))
        out[f"neg@{k}"] = _area((come.rank <= k).astype(np.float64))
    out["cdcg"] = _area(1 / np.log2(1 + gone.rank))
    return out


def deletion(
    model: Recommender,
    history: Ragged,
    contributions: NDArray[np.floating],
    targets: NDArray[np.integer],
    *,
    bins: int = BINS,
) -> NDArray[np.float64]:
    """float64[n], the ``del`` of :func:`fidelity` alone, at half its cost."""
    return _area(perturb(model, history, contributions, targets, bins=bins).share)


def perturb(
    model: Recommender,
    history: Ragged,
    contributions: NDArray[np.floating],
    targets: NDArray[np.integer],
    *,
    bins: int = BINS,
    insert: bool = False,
) -> Curve:
    """The curve of deletion from the top, or of insertion from the top."""
    counts = np.rint(history.lengths[:, None] * np.arange(bins + 1) / bins).astype(np.int64)
    return fixed(model, history, contributions, targets, counts, insert=insert)


def fixed(
    model: Recommender,
    history: Ragged,
    contributions: NDArray[np.floating],
    targets: NDArray[np.integer],
    counts: NDArray[np.integer],
    *,
    insert: bool = False,
) -> Curve:
    """The curve at chosen numbers of items: exactly so many deleted, or kept.

    Args:
        model: fitted.
        history: n rows of item codes.
        contributions: float[total].
        targets: int[n] item codes.
        counts: int[n, steps].
        insert: keep so many from the top instead of deleting them.
    """
    place, rows = rank_in_rows(history, -np.asarray(contributions, np.float64)), history.rows()
    whole, _ = _answers(model, history, history, targets)
    share = np.empty(counts.shape)
    rank = np.empty(counts.shape, dtype=np.int64)
    for step in range(counts.shape[1]):
        top = place < counts[rows, step]
        kept = history.where(top if insert else ~top)
        now, rank[:, step] = _answers(model, kept, history, targets)
        share[:, step] = np.divide(now, whole, out=np.full(len(now), np.nan), where=whole > 0)
    return Curve(share, rank)


def rank_in_rows(history: Ragged, keys: NDArray[np.floating]) -> NDArray[np.int64]:
    """int64[total], place of each value in its row by rising key, the earlier among equals."""
    rows = history.rows()
    order = np.lexsort((keys, rows))
    out = np.empty(len(rows), dtype=np.int64)
    out[order] = np.arange(len(rows)) - history.offsets[rows]
    return out


def _answers(
    model: Recommender, kept: Ragged, masked: Ragged, targets: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """float64[n] probability or score of the targets, int64[n] their ranks."""
    value = np.empty(len(kept))
    rank = np.empty(len(kept), dtype=np.int64)
    for start in range(0, len(kept), _ROWS):
        part = slice(start, min(start + _ROWS, len(kept)))
        scores = model.score(Requests(kept.slice(part.start, part.stop)))
        seen = masked.slice(part.start, part.stop)
        wanted = torch.from_numpy(targets[part].astype(np.int64))[:, None]
        codes = torch.from_numpy(np.asarray(seen.values, dtype=np.int64))
        scores[torch.from_numpy(seen.rows()), codes] = -torch.inf
        mine = scores.gather(1, wanted)
        column = torch.arange(scores.shape[1])
        ahead = (scores > mine) | ((scores == mine) & (column < wanted))
        rank[part] = 1 + ahead.sum(dim=1).numpy()
        logits = isinstance(model, Differentiable)
        found = (mine[:, 0] - scores.logsumexp(dim=1)).exp() if logits else mine[:, 0]
        value[part] = found.numpy()
    return value, rank


def _area(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n], mean height of a curve over equal steps by the trapezoid rule."""
    inner = (curve[:, 1:] + curve[:, :-1]) / 2
    return np.asarray(inner.mean(axis=1))
