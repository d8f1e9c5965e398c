"""The best of a given list, by name.

Liu et al., "Is ChatGPT a Good Recommender? A Preliminary Study" (S112, direct recommendation);
Di Palma et al., "Evaluating ChatGPT as a Recommender System: A Rigorous Approach" (S053, the
settings that put a given list in order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.language import BadAnswer
from onoma.language.templates import Template, bulleted, line
from onoma.recommenders.language.base import Model, Prompted, Question
from onoma.recommenders.language.likelihood import dated


class Pick(Prompted):
    """Shows candidates in a drawn order and takes the names that the model picks, best first.

    Answers are held to the candidates' names, so nothing is invented; a name that comes twice
    counts once, and what is not picked follows by popularity. Behind another recommender in a
    ``cascade`` it puts that one's first answers in order; without candidates, the most popular
    items. With a template that has no place for a history the user is not told of (S053's list
    without a profile), which shows what the profile adds.

    The papers let the model write freely and match the text afterwards; ``titles-llm`` does that.

    Args:
        model: which language model.
        recent: items of the history that are told, the latest ones.
        shortlist: candidates that are shown at most, the most popular first.
        wanted: names that are asked for.
        prompt: a template with places for ``k`` and ``candidates`` and, for a profile, ``history``.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        seed: of the order in which candidates are shown.
    """

    name: ClassVar[str] = "pick-llm"

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 10,
        shortlist: int = 100,
        wanted: int = 10,
        prompt: str = "pick-from-candidates",
        domain: str | dict[str, str] = "movies",
        seed: int = 0,
    ) -> None:
        super().__init__(model, recent, shortlist, seed)
        if wanted < 1:
            raise ValueError("wanted must be at least 1")
        self.wanted, self.prompt, self.domain = wanted, prompt, domain
        self._template = Template.load(prompt)
        if not {"k", "candidates"} <= self._template.placeholders.keys():
            raise OnomaError("no place for k or candidates", where=f"prompt {prompt}")

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        own = {"wanted": self.wanted, "prompt": self.prompt, "domain": self.domain}
        return {**super().settings(), **own}

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """Places of the candidates that were picked, counted from the end; NaN for the others."""
        found = self.language.each(self._picked, questions)
        self.answers["wanted"] += sum(
            min(self.wanted, len(question.candidates)) for question in questions
        )
        self.answers["named"] += sum(
            int((~np.isnan(values)).sum()) for values in found if not isinstance(values, BadAnswer)
        )
        return found

    def _picked(self, question: Question) -> NDArray[np.float64]:
        titles = [dated(title) for title in self.titles(question.candidates)]
        names = distinct([line(title) for title in titles])
        wanted = min(self.wanted, len(names))
        values: dict[str, str | int] = {"k": wanted, "candidates": bulleted(names)}
        if "history" in self._template.placeholders:
            told = [dated(title) for title in self.titles(question.history[-self.recent :])]
            values["history"] = bulleted(told) if told else "- nothing so far"
        messages = self._template.messages(self.domain, **values)
        rows = self.language.generate_items(messages, names, wanted)
        out = np.full(len(names), np.nan)
        out[rows] = np.arange(len(rows), 0, -1)
        return out


def distinct(names: Sequence[str]) -> list[str]:
    """The names, those that repeat an earlier one with a number behind."""
    out: list[str] = []
    taken: set[str] = set()
    for name in names:
        copy, told = 1, name
        while told in taken:
            copy += 1
            told = f"{name} [{copy}]"
        taken.add(told)
        out.append(told)
    return out
