"""Pair-wise ranking: which of two, for every pair and in both orders (S064)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.language import BadAnswer, Message
from onoma.language.templates import line
from onoma.recommenders.language.base import Question
from onoma.recommenders.language.options import weighed
from onoma.recommenders.language.shown import Shown

LETTERS = ("A", "B")


class PairWise(Shown):
    """Scores a candidate by its wins over the others.

    Each pair is asked about in both orders and the chance of being chosen is the mean of the two,
    so that a liking for the first place cancels out; the larger chance wins, equal ones share the
    win. That is c (c - 1) questions for c candidates; the paper asks once a pair. An example shows
    the item that was taken in the first place and in the second by turns. Arguments as of
    :class:`Shown`.
    """

    name: ClassVar[str] = "pairwise-llm"
    template: ClassVar[str] = "rank-pairwise"

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """Wins; a pair without any answer is won by nobody."""
        jobs = [
            (question, order)
            for question in questions
            for pair in combinations(range(len(question.candidates)), 2)
            for order in (pair, pair[::-1])
        ]
        answers = iter(self.language.each(lambda job: self._first(*job), jobs))
        out: list[NDArray[np.float64] | BadAnswer] = []
        for question in questions:
            size = len(question.candidates)
            wins = np.zeros(size)
            bad: list[BadAnswer] = []
            for left, right in combinations(range(size), 2):
                straight, turned = next(answers), next(answers)
                bad += [one for one in (straight, turned) if isinstance(one, BadAnswer)]
                chances = [] if isinstance(straight, BadAnswer) else [straight]
                chances += [] if isinstance(turned, BadAnswer) else [1 - turned]
                if chances:
                    mean = sum(chances) / len(chances)
                    wins[left] += (mean > 0.5) + 0.5 * (mean == 0.5)
                    wins[right] += (mean < 0.5) + 0.5 * (mean == 0.5)
            if bad and len(bad) == size * (size - 1):
                out.append(bad[0])
                continue
            if bad:
                self.answers["pairs without an answer"] += len(bad)
            out.append(wins)
        return out

    def _first(self, question: Question, order: tuple[int, int]) -> float:
        """The chance of the one that is named first."""
        turns = []
        for place, example in enumerate(self.examples(question)):
            pair = example.items[:2] if place % 2 == 0 else example.items[1::-1]
            turns.append((self._two(example.history, pair), LETTERS[place % 2]))
        last = self._two(question.history, question.candidates[list(order)])
        return float(weighed(self.language, self.after(turns, last), LETTERS)[0])

    def _two(self, history: NDArray[np.int32], pair: NDArray[np.int32]) -> list[Message]:
        first, second = (line(title) for title in self.titles(pair))
        return self.asked(history=self.history(history), first=first, second=second)
