"""List-wise ranking: the letters of all candidates, best first, in one answer (S064)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from string import ascii_uppercase
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.language import BadAnswer, Decoding, Message
from onoma.language.templates import lettered
from onoma.recommenders.language.base import Question
from onoma.recommenders.language.shown import Shown


class ListWise(Shown):
    """Scores candidates by their place in the order that the model writes.

    The answer is held to as many of the candidates' letters as there are. A schema cannot forbid
    that a letter comes twice: such an answer is no order, is counted, and leaves the candidates as
    any answer of no use does. An example shows the item that was taken as the best, the others in
    the order in which they are told. Arguments as of :class:`Shown`; at most 26 candidates.
    """

    name: ClassVar[str] = "listwise-llm"
    template: ClassVar[str] = "rank-listwise"
    most = len(ascii_uppercase)  # one letter each

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """Places counted from the end; what is no order of all candidates is a bad answer."""
        return self.language.each(self._ordered, questions)

    def _ordered(self, question: Question) -> NDArray[np.float64]:
        size = len(question.candidates)
        letters = list(ascii_uppercase[:size])
        turns = []
        for place, example in enumerate(self.examples(question)):
            # The item that was taken stands in another place each time.
            told = np.roll(example.items, place + 1)
            best = (place + 1) % len(told)
            rest = [letter for at, letter in enumerate(ascii_uppercase[: len(told)]) if at != best]
            answer = json.dumps({"order": [ascii_uppercase[best], *rest]})
            turns.append((self._list(example.history, told), answer))
        messages = self.after(turns, self._list(question.history, question.candidates))
        schema = {
            "type": "object",
            "properties": {
                "order": {
                    "type": "array",
                    "items": {"enum": letters},
                    "minItems": size,
                    "maxItems": size,
                }
            },
            "required": ["order"],
            "additionalProperties": False,
        }
        done = self.language.complete(
            messages, schema=schema, decoding=Decoding(max_tokens=24 + 8 * size)
        )
        order = done.data["order"]
        if sorted(order) != letters:
            raise BadAnswer(
                "malformed", "not an order of all candidates", where=self.language.identity,
                text=done.text,
            )  # fmt: skip
        values = np.empty(size)
        values[[letters.index(letter) for letter in order]] = -np.arange(size, dtype=np.float64)
        return values

    def _list(self, history: NDArray[np.int32], items: NDArray[np.int32]) -> list[Message]:
        return self.asked(history=self.history(history), candidates=lettered(self.titles(items)))
