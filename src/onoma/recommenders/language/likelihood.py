"""Zero-shot recommendation as language modelling: how likely a title is after liked ones.

Sileo, Vossen and Raymaekers, "Zero-Shot Recommendation as Language Modeling", ECIR 2022.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from onoma.language import BadAnswer
from onoma.language.templates import Template, joined
from onoma.recommenders.language.base import Model, Prompted, Question


class Likelihood(Prompted):
    """Scores a candidate by the log-probability of its title after a prompt of liked titles.

    The paper (section 3) adds up the tokens' log-probabilities as they are; titles are written as
    people say them, without the year and with the article in front. Per token, and by how much the
    prompt raises the title over a neutral one (pointwise mutual information), are ours.

    Args:
        model: it must tell probabilities.
        recent: liked titles in the prompt.
        shortlist: candidates that are scored at most.
        prompt: a template of the library, or a file, with a place for ``titles``.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        normalise: ``sum`` (as published), ``token`` (mean of a token) or ``pmi``.
        seed: unused by the scores; of the base class.
    """

    name: ClassVar[str] = "likelihood-llm"

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 5,
        shortlist: int = 100,
        prompt: str = "likelihood-like",
        domain: str | dict[str, str] = "movies",
        normalise: Literal["sum", "token", "pmi"] = "sum",
        seed: int = 0,
    ) -> None:
        super().__init__(model, recent, shortlist, seed)
        if normalise not in ("sum", "token", "pmi"):
            raise ValueError(f"normalise is sum, token or pmi, not {normalise!r}")
        self.prompt, self.domain, self.normalise = prompt, domain, normalise
        self._template, self._neutral = Template.load(prompt), Template.load("likelihood-neutral")

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        return {
            **super().settings(),
            "prompt": self.prompt,
            "domain": self.domain,
            "normalise": self.normalise,
        }

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """One pass a question: the prompt is read once, the titles are a tree behind it."""
        return self.language.each(self._weigh, questions)

    def _weigh(self, question: Question) -> NDArray[np.float64]:
        liked = [spoken(title) for title in self.titles(question.history[-self.recent :])]
        titles = [" " + spoken(title) for title in self.titles(question.candidates)]
        if liked:
            prompt = self._template.text(self.domain, titles=joined(liked))
        else:
            prompt = self._neutral.text(self.domain)
        found = self.language.logprobs(prompt, titles)
        if self.normalise == "token":
            return found.per_token()
        if self.normalise == "pmi":
            neutral = self.language.logprobs(self._neutral.text(self.domain), titles)
            return found.logprobs - neutral.logprobs
        return found.logprobs


_YEAR = re.compile(r"\s*\((?:19|20)\d\d\)\s*$")
_ARTICLE = re.compile(r"^(?P<rest>.*), (?P<article>The|A|An)$")


def spoken(title: str) -> str:
    """A title as people write it: no year behind, no alias in brackets, the article in front."""
    plain = _YEAR.sub("", title)
    plain = re.sub(r"\s*\([^()]*\)\s*$", "", plain) or plain
    found = _ARTICLE.match(plain)
    return f"{found['article']} {found['rest']}" if found else plain


def dated(title: str) -> str:
    """As :func:`spoken`, with the year behind it where the title has one."""
    year = _YEAR.search(title)
    return f"{spoken(title)} {year[0].strip()}" if year else spoken(title)
