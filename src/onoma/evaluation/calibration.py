"""Whether probabilities are what they say, and whether the world has moved since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-4  # share of a bin, so that an empty one has a logarithm


@dataclass(frozen=True)
class Reliability:
    """Predicted and observed rates, by bins of equally many cases.

    Attributes:
        said: float64[b], mean prediction.
        seen: float64[b], share of positives.
        count: int64[b].
    """

    said: NDArray[np.float64]
    seen: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two rates (Naeini et al., 2015)."""
        total = max(int(self.count.sum()), 1)
        return float((np.abs(self.said - self.seen) * self.count).sum() / total)


def reliability(
    chances: NDArray[np.floating], labels: NDArray[np.bool_], bins: int = 15
) -> Reliability:
    """The reliability curve of float[n] probabilities against bool[n] labels."""
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        np.array([float(np.mean(chances[part])) for part in parts]),
        np.array([float(np.mean(labels[part])) for part in parts]),
        np.array([len(part) for part in parts], dtype=np.int64),
    )


def whole(logits: NDArray[np.floating], kept: float) -> NDArray[np.float64]:
    """Logits of all cases from those of a model that saw a share ``kept`` of the negatives.

    He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, 2014, section 6.3.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < kept <= 1:
        raise ValueError(f"kept is {kept}; it must be above 0 and at most 1")
    return np.asarray(logits + np.log(kept), dtype=np.float64)


def drift(then: NDArray[np.integer], now: NDArray[np.integer]) -> float:
    """Population stability index of two samples of codes; above 0.25 is usually called a shift."""
    size = int(max(then.max(initial=0), now.max(initial=0))) + 1
    a, b = (np.maximum(np.bincount(part, minlength=size) / max(len(part), 1), _LEAST)
            for part in (then, now))  # fmt: skip
    return float(((b - a) * np.log(b / a)).sum())
