"""Titles by their likelihood after what somebody says they like, in items, in words or in both.

Sanner, Balog, Radlinski, Wedin and Dixon, "Large Language Models are Competitive Near Cold-start
Recommenders for Language- and Item-based Preferences", RecSys 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.language import BadAnswer
from onoma.language.templates import Template, joined
from onoma.recommenders.language.base import Model, Prompted, Question
from onoma.recommenders.language.likelihood import spoken
from onoma.recommenders.language.tastes import Tastes

Told = Literal["items", "language", "both"]
Form = Literal["completion", "zero-shot", "few-shot"]
_SHOTS = 3


class Preference(Prompted):
    """Scores candidates by how much what is told raises the likelihood of their titles.

    The score is the log-probability of the title after the prompt less that after a neutral one
    (pointwise mutual information), so that neither short nor famous titles are favoured; the paper
    takes the likelihood as it is. Words are those of the query; where none is asked, a text written
    by rule from the history stands in (:class:`Tastes`). Few-shot examples are three users of
    training, never the one who asks, with such a text of all their items but the last, which is
    what was recommended.

    Args:
        model: it must tell probabilities.
        recent: liked titles that are told, the latest ones.
        shortlist: candidates that are scored at most.
        tells: ``items``, ``language`` or ``both``.
        form: ``completion``, ``zero-shot`` or ``few-shot``.
        normalise: whether the neutral likelihood is taken off.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        seed: of the examples.
    """

    name: ClassVar[str] = "preference-llm"
    reads: ClassVar[frozenset[str]] = frozenset({"history", "query", "candidates"})

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 5,
        shortlist: int = 40,
        tells: Told = "both",
        form: Form = "completion",
        normalise: bool = True,
        domain: str | dict[str, str] = "movies",
        seed: int = 0,
    ) -> None:
        super().__init__(model, recent, shortlist, seed)
        for value, kind in ((tells, Told), (form, Form)):
            if value not in get_args(kind):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(kind))}")
        self.tells, self.form, self.normalise, self.domain = tells, form, normalise, domain
        self._neutral = Template.load("likelihood-neutral")
        whole = "preference-completion" if form == "completion" else "preference-instruction"
        self._template = Template.load(whole)
        self._examples: list[dict[str, Any]] = []

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        own = ("model", "recent", "shortlist", "tells", "form", "normalise", "domain", "seed")
        return {name: getattr(self, name) for name in own}

    @cached_property
    def _tastes(self) -> Tastes:
        return Tastes(self.dataset.items)

    @property
    def window(self) -> int | None:
        """None: what stands in for words is said of the whole history."""
        return None

    def fit(self, split: Split) -> Self:
        """Count, and draw the examples."""
        super().fit(split)
        self.__dict__.pop("_tastes", None)
        self._examples = []
        if self.form == "few-shot":
            able = np.flatnonzero(split.train.lengths >= 3)
            for user in np.random.default_rng(self.seed).permutation(able)[: _SHOTS + 1]:
                row = [int(item) for item in split.train[int(user)]]
                words = self._tastes.say([item for item in row[:-1] if item != row[-1]])
                one = {"user": int(user), "items": row[:-1], "words": words, "next": row[-1]}
                self._examples.append(one)
        return self

    def examples(self, told: Sequence[Mapping[str, Any]]) -> Self:
        """Other examples in place of those of training: ``items``, ``words`` and ``next`` each.

        They are told in the form ``few-shot`` alone.
        """
        self._examples = [{"user": None, **one} for one in told]
        return self

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """One pass a question, and one more where the neutral likelihood is taken off."""
        _ = self._tastes, self._titles  # once for all threads
        return self.language.each(self._weigh, questions)

    def _weigh(self, question: Question) -> NDArray[np.float64]:
        titles = [" " + spoken(title) for title in self.titles(question.candidates)]
        found = self.language.logprobs(self.prompt(question), titles).logprobs
        if self.normalise:
            neutral = self.language.logprobs(self._neutral.text(self.domain), titles)
            return found - neutral.logprobs
        return found

    def prompt(self, question: Question) -> str:
        """What the titles are weighed after."""
        words = question.query or self._tastes.say(question.history)
        told = self._told(question.history.tolist(), words)
        if not told:
            return self._neutral.text(self.domain)
        if self.form == "completion":
            return self._template.text(self.domain, told=told)
        shown = [
            f"They say: {self._told(one['items'], one['words'])}\n"
            f"Recommended: {spoken(self.titles([one['next']])[0])}"
            for one in [one for one in self._examples if one["user"] != question.user][:_SHOTS]
            if self.form == "few-shot"
        ]
        return self._template.text(self.domain, told=told, examples="\n".join(shown))

    def _told(self, items: Sequence[int], words: str) -> str:
        parts = []
        if self.tells != "items" and words:
            parts.append(" ".join(words.split()))
        if self.tells != "language" and items:
            titles = [spoken(title) for title in self.titles(list(items)[-self.recent :])]
            parts.append(f"I like {joined(titles)}.")
        return " ".join(parts)

    def arrays(self) -> Mapping[str, Any]:
        """Counts, and the examples as text."""
        text = json.dumps(self._examples).encode()
        return {**super().arrays(), "examples": np.frombuffer(text, dtype=np.uint8)}

    def _restore(self, arrays: Mapping[str, Any]) -> None:
        super()._restore(arrays)
        self._examples = json.loads(np.asarray(arrays["examples"]).tobytes().decode())
