"""One of a few short answers: how likely each is, else which one the model writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onoma.language import Decoding, LanguageError, LanguageModel, Message


def weighed(
    language: LanguageModel, messages: Sequence[Message], options: Sequence[str]
) -> NDArray[np.float64]:
    """The shares of the options among themselves as the answer to a question.

    A model that cannot weigh answers to messages (most services) writes one, held to the options
    by a schema, and that one has the whole share.

    Args:
        language: the model.
        messages: the question.
        options: n distinct texts, such as digits, letters or labels.

    Returns:
        float64[n], adding up to 1.

    Raises:
        BadAnswer: the question is too long, or what was written is none of the options.
        LanguageError: the model cannot be used.
    """
    if "logprobs" in language.able:
        try:
            found = language.logprobs(messages, list(options)).logprobs
        except LanguageError:
            # Of services only the server knows whether it can.
            pass
        else:
            shares = np.exp(found - found.max())
            return np.asarray(shares / shares.sum())
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": list(options)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    room = Decoding(max_tokens=24 + 2 * max(len(option) for option in options))
    said = language.complete(messages, schema=schema, decoding=room).data["answer"]
    return np.array([float(option == said) for option in options])
