"""Point-wise ranking: how would they rate it, one candidate at a time (S064)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.language import BadAnswer, Message
from onoma.language.templates import line
from onoma.recommenders.language.base import Question
from onoma.recommenders.language.options import weighed
from onoma.recommenders.language.shown import Shown

RATINGS = ("1", "2", "3", "4", "5")


class PointWise(Shown):
    """Scores a candidate by the rating that the model expects, from the chances of the five digits.

    One question a candidate; the history is read once for all of them. A model that only writes
    gives whole ratings, and with them ties. An example shows, in turn, the item that was taken, as
    a 5, and one that was not, as a 1. Arguments as of :class:`Shown`.
    """

    name: ClassVar[str] = "pointwise-llm"
    template: ClassVar[str] = "rank-pointwise"

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """The expected rating of each candidate; without a rating it follows the others."""
        jobs = [(question, int(item)) for question in questions for item in question.candidates]
        rated = iter(self.language.each(lambda job: self._rated(*job), jobs))
        out: list[NDArray[np.float64] | BadAnswer] = []
        for question in questions:
            found = [next(rated) for _ in question.candidates]
            bad = [one for one in found if isinstance(one, BadAnswer)]
            if len(bad) == len(found):
                out.append(bad[0])
                continue
            if bad:
                self.answers["candidates without an answer"] += len(bad)
            out.append(np.array([np.nan if isinstance(f, BadAnswer) else f for f in found]))
        return out

    def _rated(self, question: Question, item: int) -> float:
        turns = [
            (
                self._one(example.history, int(example.items[place % 2])),
                RATINGS[-1 - 4 * (place % 2)],
            )
            for place, example in enumerate(self.examples(question))
        ]
        messages = self.after(turns, self._one(question.history, item))
        return float(weighed(self.language, messages, RATINGS) @ np.arange(1.0, 6.0))

    def _one(self, history: NDArray[np.int32], item: int) -> list[Message]:
        return self.asked(history=self.history(history), candidate=line(self.titles([item])[0]))
