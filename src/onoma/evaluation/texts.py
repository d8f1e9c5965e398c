"""How near texts are to what people wrote, and how near stars are to what people gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.evaluation.significance import bootstrap_ci

_RIDGE, _ROUNDS = 5.0, 10


def text_figures(said: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """BLEU-4 of the whole (0 to 100) and mean ROUGE F1 (0 to 1) of answers against references.

    BLEU by sacrebleu (Post, WMT 2018), ROUGE-1, -2 and -L by rouge-score (Lin, 2004) with stems;
    empty where neither is installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu import corpus_bleu
    except ImportError:
        return {}
    if not said:
        return {}
    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(kinds), use_stemmer=True)
    scores = [scorer.score(right, left) for left, right in zip(said, written, strict=True)]
    figures = {kind: float(np.mean([s[kind].fmeasure for s in scores])) for kind in kinds}
    bleu: Any = corpus_bleu(list(said), [list(written)])
    return {"bleu": float(bleu.score), **figures}


def coverage(said: Sequence[str], features: Sequence[str]) -> float:
    """Share of texts that hold the word asked for, in any case."""
    if not said:
        return 0.0
    return float(np.mean([w.lower() in t.lower() for t, w in zip(said, features, strict=True)]))


def star_figures(said: NDArray[np.floating], given: NDArray[np.floating]) -> dict[str, float]:
    """RMSE and MAE."""
    error = np.asarray(said, dtype=np.float64) - given
    return {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}


def star_intervals(
    said: NDArray[np.floating],
    given: NDArray[np.floating],
    *,
    lowest: float = 1.0,
    highest: float = 5.0,
    seed: int = 0,
) -> dict[str, Any]:
    """RMSE and MAE with bootstrap intervals; who said nothing is wrong as far as one can be.

    Args:
        said: float[n], NaN where no rating came.
        given: float[n].
        lowest: of the scale.
        highest: of the scale.
        seed: of the bootstrap.

    Returns:
        ``cases``, ``parsed`` (share of ratings that came), and ``rmse`` and ``mae``, each with
        ``mean``, ``low`` and ``high`` at 95 %.
    """
    given = np.asarray(given, dtype=np.float64)
    farthest = np.maximum(given - lowest, highest - given)
    error = np.where(np.isnan(said), farthest, np.abs(np.asarray(said, np.float64) - given))
    both = np.stack([error**2, error], axis=1)
    spans = bootstrap_ci(both, seed=seed)
    root = np.sqrt([both[:, 0].mean(), *spans[0]])
    return {
        "cases": len(given),
        "parsed": float((~np.isnan(said)).mean()),
        "rmse": dict(zip(("mean", "low", "high"), map(float, root), strict=True)),
        "mae": {
            "mean": float(error.mean()), "low": float(spans[1][0]), "high": float(spans[1][1])
        },
    }  # fmt: skip


class Biases:
    """The mean and what users and items add to it; the row that rating models must beat.

    Args:
        users: int[n].
        items: int[n].
        stars: float[n].
        n_users: users there are.
        n_items: items there are.

    Alternating ridge regression, as the bias part of Koren et al., Computer 2009.
    """

    def __init__(
        self,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        stars: NDArray[np.floating],
        n_users: int,
        n_items: int,
    ) -> None:
        self.mean = float(stars.mean()) if len(stars) else 0.0
        self.users, self.items = np.zeros(n_users), np.zeros(n_items)
        count_u = np.bincount(users, minlength=n_users) + _RIDGE
        count_i = np.bincount(items, minlength=n_items) + _RIDGE
        for _ in range(_ROUNDS):
            rest = stars - self.mean - self.users[users]
            self.items = np.bincount(items, rest, n_items) / count_i
            rest = stars - self.mean - self.items[items]
            self.users = np.bincount(users, rest, n_users) / count_u

    def __call__(
        self, users: NDArray[np.integer], items: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """float64[n] stars."""
        return self.mean + self.users[users] + self.items[items]
