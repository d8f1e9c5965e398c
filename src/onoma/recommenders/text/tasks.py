"""What a text model is trained on: which questions an epoch asks, about which events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.recommenders.text.prompts import Prompt, Values


@dataclass(frozen=True)
class Question:
    """One example: a prompt and what fills it."""

    prompt: Prompt
    values: Values


def user_word(user: int) -> str:
    """How a user code is written; strangers are somebody."""
    return f"user_{user}" if user >= 0 else "somebody"


def sequential(
    prompts: Sequence[Prompt],
    users: NDArray[np.integer],
    history: Ragged,
    targets: NDArray[np.integer],
    rng: np.random.Generator | None = None,
) -> list[Question]:
    """Histories and the items that followed.

    Args:
        prompts: one is drawn for each; the first where ``rng`` is None.
        users: int[n].
        history: n rows, as much as is read.
        targets: int[n].
        rng: draws the prompts.
    """
    n = len(users)
    drawn = np.zeros(n, np.int64) if rng is None else rng.integers(len(prompts), size=n)
    return [
        Question(
            prompts[drawn[row]],
            {
                "user": user_word(int(users[row])),
                "history": history[row] if len(history[row]) else "nothing",
                "item": targets[row : row + 1],
            },
        )
        for row in range(n)
    ]
