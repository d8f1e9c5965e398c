"""What an explanation is, and what every way of finding contributions must offer."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.recommenders.base import Recommender


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for an item, as data; :func:`onoma.explanation.say` puts it in words.

    Attributes:
        kind: ``history`` (items that raised the score), ``attribute`` (what the catalogue says
            of both), ``name`` (names that begin alike).
        items: item codes of the history it rests on, the strongest first.
        data: JSON values: ``share`` for history; ``column`` and ``value`` for an attribute;
            ``levels`` and ``depth`` for names.
    """

    kind: Literal["history", "attribute", "name"]
    items: tuple[int, ...]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """Why a recommender scores an item as it does for a history.

    Attributes:
        target: item code.
        history: int32[l] item codes, oldest first, without the target itself.
        contributions: float32[l], what each item of the history brings; negative where it speaks
            against the target.
        method: a key of ``explanation.ATTRIBUTIONS``.
        score: the recommender's score of the target for this history.
        reasons: the strongest first.
    """

    target: int
    history: NDArray[np.int32]
    contributions: NDArray[np.float32]
    method: str
    score: float
    reasons: tuple[Reason, ...] = ()


def dice(seed: int, history: Ragged, targets: NDArray[np.integer]) -> list[np.random.Generator]:
    """A generator a row, by the row alone: what is drawn for one does not depend on the others.

    Args:
        seed: of all.
        history: n rows of item codes.
        targets: int[n] item codes.
    """
    made = []
    for row, target in enumerate(targets):
        told = f"{seed} {target} {history[row].tolist()}"
        digest = hashlib.sha256(told.encode()).digest()
        made.append(np.random.default_rng(int.from_bytes(digest, "little")))
    return made


def chances(
    seed: int, history: Ragged, targets: NDArray[np.integer], times: int
) -> NDArray[np.float32]:
    """float32[times, total] in [0, 1): for every item of the histories, by :func:`dice`."""
    out = np.empty((times, len(history.values)), dtype=np.float32)
    for row, rng in enumerate(dice(seed, history, targets)):
        own = out[:, history.offsets[row] : history.offsets[row + 1]]
        own[:] = rng.random(own.shape, dtype=np.float32)
    return out


class Attribution(ABC):
    """A way to share a recommendation out among the items of a history.

    Class attributes:
        name: the word used on the command line.
        needs: ``additive`` or ``differentiable`` recommenders, or any.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["any", "additive", "differentiable"]] = "any"

    @classmethod
    def create(cls, split: Split, seed: int = 0) -> Self:
        """One that may read ``split.train``; equal seeds give equal rows equal contributions."""
        return cls()

    @abstractmethod
    def attribute(
        self, model: Recommender, history: Ragged, targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[total], one contribution for every item of the histories.

        Args:
            model: fitted.
            history: n rows of item codes, none of which is the row's target.
            targets: int[n] item codes.
        """
