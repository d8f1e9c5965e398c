"""What is in the answers of servers of OpenAI's form, checked before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.language.base import BadAnswer, Weights

_ROUNDING = 1e-3  # how far above 0 a sum of logarithms may come by rounding


def first_choice(
    data: Mapping[str, Any], part: str, where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first choice and its message or delta.

    Args:
        data: the answer.
        part: ``message`` or ``delta``.
        where: who gave it, for the error.

    Raises:
        BadAnswer: there is none.
    """
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get(part) if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        error = data.get("error")
        said = error.get("message") if isinstance(error, dict) else None
        what = f"the server says: {said}" if said else "there is no answer in it"
        raise BadAnswer("malformed", str(what)[:200], where=where)
    return choice, message


def weights(data: Mapping[str, Any], n: int, where: str) -> Weights:
    """The log-probabilities of n continuations.

    Raises:
        BadAnswer: they are not n, or none.
    """
    logprobs, tokens = data.get("logprobs"), data.get("tokens")
    if not (
        isinstance(logprobs, list)
        and isinstance(tokens, list)
        and len(logprobs) == len(tokens) == n
        and all(is_logprob(value) for value in logprobs)
        and all(type(count) is int and count > 0 for count in tokens)
    ):
        raise BadAnswer("malformed", f"not {n} log-probabilities", where=where)
    return Weights(np.array(logprobs, np.float64), np.array(tokens, np.int64))


def in_order(data: Mapping[str, Any], n: int, where: str) -> list[dict[str, Any]]:
    """The n choices of an answer to n prompts, in the order of the prompts.

    Raises:
        BadAnswer: they are not n.
    """
    choices = data.get("choices")
    placed: dict[int, dict[str, Any]] = {}
    for row, choice in enumerate(choices if isinstance(choices, list) else []):
        index = choice.get("index", row) if isinstance(choice, dict) else None
        if type(index) is int:
            placed[index] = choice
    if not isinstance(choices, list) or len(choices) != n or set(placed) != set(range(n)):
        raise BadAnswer("malformed", f"not {n} echoes", where=where)
    return [placed[index] for index in range(n)]


def vectors(data: Mapping[str, Any], n: int, where: str) -> NDArray[np.float64]:
    """float64[n, d], the vectors of n texts, of unit length.

    Raises:
        BadAnswer: they are not n, or no vectors.
    """
    listed = data.get("data")
    rows: dict[int, Any] = {}
    for place, one in enumerate(listed if isinstance(listed, list) else []):
        index = one.get("index", place) if isinstance(one, dict) else None
        if type(index) is int:
            rows[index] = one.get("embedding")
    if not isinstance(listed, list) or len(listed) != n or set(rows) != set(range(n)):
        raise BadAnswer("malformed", f"not {n} vectors", where=where)
    try:
        made = np.array([rows[i] for i in range(n)], np.float64)
    except (TypeError, ValueError):
        made = np.zeros(0)
    norms = np.linalg.norm(made, axis=1) if made.ndim == 2 else np.zeros(1)
    if made.ndim != 2 or not np.isfinite(norms).all() or not (norms > 0).all():
        raise BadAnswer("malformed", "vectors that are none", where=where)
    return made / norms[:, None]


def is_logprob(value: Any) -> bool:
    """Whether it is the logarithm of a probability."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value <= _ROUNDING
