"""Questions about events: which families and kinds there are, what they need, what fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onoma.recommenders.text import preferences
from onoma.recommenders.text.corpus import Corpus
from onoma.recommenders.text.prompts import PAST, Prompt, Value, Values

LIKED = 4.0  # stars from which on an item counts as liked


@dataclass(frozen=True)
class Question:
    """One example.

    Attributes:
        prompt: how it is asked.
        values: what fills it.
        event: of the corpus that it is about.
        written: tokens of the question, the word of each, and tokens of the answer, where they
            are not those of the prompt.
    """

    prompt: Prompt
    values: Values
    event: int = -1
    written: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]] | None = None


def user_word(user: int) -> str:
    """How a user code is written; strangers are somebody."""
    return f"user_{user}" if user >= 0 else "somebody"


def able(corpus: Corpus, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
    """int64[m], the events that at least one of the prompts can ask about."""
    found = np.zeros(len(corpus), dtype=bool)
    for prompt in prompts:
        fits = np.ones(len(corpus), dtype=bool)
        for name in prompt.fields | ({"stars"} if prompt.kind in ("match", "like") else set()):
            fits &= _known(corpus, name)
        found |= fits
    return np.flatnonzero(found)


def _known(corpus: Corpus, name: str) -> NDArray[np.bool_]:
    """bool[n], where the log says something of a field."""
    if name in PAST:
        return corpus.before.lengths > 0
    if name == "stars":
        return ~np.isnan(corpus.stars)
    if name in ("headline", "review", "sentence", "feature", "preference"):
        texts = getattr(corpus, _COLUMNS[name])
        return np.array([bool(text) for text in texts], dtype=bool)
    if name == "description":
        return np.array([bool(text) for text in corpus.descriptions], dtype=bool)[corpus.items]
    return np.ones(len(corpus), dtype=bool)


_COLUMNS = {
    "headline": "headlines", "review": "reviews", "sentence": "sentences",
    "feature": "features", "preference": "preferences",
}  # fmt: skip


class Asker:
    """Makes questions about the events of a corpus.

    Args:
        corpus: the events.
        known: items that wrong answers are drawn from.
        candidates: items to choose from.
    """

    def __init__(self, corpus: Corpus, known: NDArray[np.integer], candidates: int) -> None:
        self.corpus, self.known, self.candidates = corpus, known, candidates

    def question(
        self, prompts: Sequence[Prompt], event: int, rng: np.random.Generator
    ) -> Question | None:
        """One of the prompts, drawn from those whose fields the event can fill; None if none."""
        for at in rng.permutation(len(prompts)):
            values = self.values(prompts[at], event, rng)
            if values is not None:
                return Question(prompts[at], values, event)
        return None

    def values(self, prompt: Prompt, event: int, rng: np.random.Generator) -> Values | None:
        """What fills a prompt for an event; None where something is not known."""
        drawn = {}
        if prompt.kind in _DRAWN:
            found = _DRAWN[prompt.kind](self, event, rng)
            if found is None:
                return None
            drawn = found
        values: Values = {}
        for name in sorted(prompt.fields):
            value = drawn[name] if name in drawn else _FIELDS[name](self.corpus, event)
            if not len(value):
                return None
            values[name] = value
        return values

    def choose(self, event: int, rng: np.random.Generator) -> Values:
        """The target among items drawn from the catalogue, shuffled."""
        target = self.corpus.items[event]
        others = rng.choice(self.known, min(2 * self.candidates, len(self.known)), replace=False)
        others = others[~np.isin(others, [target, *self.corpus.before[event]])]
        shown = np.append(others[: self.candidates - 1], target)
        return {"candidates": rng.permutation(shown)}

    def verify(self, event: int, rng: np.random.Generator) -> Values:
        """The target or another item, and whether it is the target."""
        target = self.corpus.items[event : event + 1]
        if rng.random() < 0.5:
            return {"shown": target, "verdict": "yes"}
        other = rng.choice(self.known, 1)
        return {"shown": other, "verdict": "yes" if other[0] == target[0] else "no"}

    def match(self, event: int, rng: np.random.Generator) -> Values | None:
        """The stars given or others, and whether they were given."""
        stars = self.corpus.stars[event]
        if np.isnan(stars):
            return None
        asked = int(stars) if rng.random() < 0.5 else int(rng.integers(1, 6))
        return {"asked": str(asked), "verdict": "yes" if asked == int(stars) else "no"}

    def like(self, event: int, rng: np.random.Generator) -> Values | None:
        """Whether the stars say that the user liked it."""
        stars = self.corpus.stars[event]
        return None if np.isnan(stars) else {"verdict": "yes" if stars >= LIKED else "no"}

    def preferred(self, event: int, rng: np.random.Generator) -> Values:
        """Of what the user was found to look for, what is nearest to the target: an oracle."""
        corpus = self.corpus
        words = corpus.aspects[corpus.items[event]]
        return {"preference": preferences.nearest(corpus.preferences[event], words)}

    def steered(self, event: int, rng: np.random.Generator) -> Values:
        """A wish for what the target is like."""
        words = self.corpus.aspects[self.corpus.items[event]]
        return {"preference": preferences.sentence(words, True)}


def star_word(stars: float) -> str:
    """How stars are written: whole, or with a half."""
    return "" if np.isnan(stars) else f"{stars:g}"


_DRAWN: dict[str, Callable[[Asker, int, np.random.Generator], Values | None]] = {
    "choose": Asker.choose,
    "verify": Asker.verify,
    "match": Asker.match,
    "like": Asker.like,
    "preferred": Asker.preferred,
    "steered": Asker.steered,
}
_FIELDS: dict[str, Callable[[Corpus, int], Value]] = {
    "user": lambda c, e: user_word(int(c.users[e])),
    "item": lambda c, e: c.items[e : e + 1],
    "history": lambda c, e: c.before[e],
    "title": lambda c, e: c.titles[c.items[e]],
    "titles": lambda c, e: [c.titles[item] for item in c.before[e]],
    "description": lambda c, e: c.descriptions[c.items[e]],
    "stars": lambda c, e: star_word(float(c.stars[e])),
    "headline": lambda c, e: c.headlines[e],
    "review": lambda c, e: c.reviews[e],
    "sentence": lambda c, e: c.sentences[e],
    "feature": lambda c, e: c.features[e],
    "preference": lambda c, e: " ; ".join(c.preferences[e]),
}
