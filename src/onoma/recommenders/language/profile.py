"""Candidates ordered for a profile that a language model wrote from the user's reviews.

Bang and Song, "LLM-based User Profile Management for Recommender System", 2025 (PURE).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from string import ascii_uppercase
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.dataset.events import log_rows
from onoma.language import BadAnswer, Decoding, LanguageError, LanguageModel
from onoma.language.templates import Template, joined, lettered
from onoma.recommenders.language.base import Model, Prompted, Question
from onoma.recommenders.language.memory import Embed, Memory, Profile, Review

NOTHING = "nothing"


class ProfileRanker(Prompted):
    """Builds a user's profile from their training reviews when they first ask, then orders by it.

    Users without reviews, and strangers, are told by their latest titles alone. Letters are ordered
    by :func:`ordered`; those that come twice count once, and what is left out follows in the order
    in which it was told. Both are counted, and so is what became of the extractor's and the
    updater's answers.

    Args:
        model: which language model.
        recent: titles that are told.
        shortlist: candidates that are asked about at most, 26.
        reviews: of a user, the latest ones, that the profile is built from.
        cap: entries of a list of the profile.
        encoder: sentence vectors that tell near-duplicates, of ``onoma.encoding.sentence``.
        prompt: a template with places for ``told``, ``history`` and ``candidates``.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        seed: of the order in which candidates are told.
    """

    name: ClassVar[str] = "profile-llm"
    reads: ClassVar[frozenset[str]] = frozenset({"history", "users", "candidates"})

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 3,
        shortlist: int = 20,
        reviews: int = 5,
        cap: int = 5,
        encoder: str = "minilm",
        prompt: str = "rank-told",
        domain: str | dict[str, str] = "products",
        seed: int = 0,
    ) -> None:
        super().__init__(model, recent, shortlist, seed)
        if shortlist > len(ascii_uppercase) or reviews < 1 or cap < 1:
            raise ValueError("shortlist is at most 26, reviews and cap at least 1")
        self.reviews, self.cap, self.encoder = reviews, cap, encoder
        self.prompt, self.domain = prompt, domain
        self._template = Template.load(prompt)
        self._rows: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._profiles: dict[int, Profile] = {}
        self._lock = threading.Lock()

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        own = ("model", "recent", "shortlist", "reviews", "cap", "encoder", "prompt", "domain",
               "seed")  # fmt: skip
        return {name: getattr(self, name) for name in own}

    def fit(self, split: Split) -> Self:
        """Note which reviews are of training."""
        super().fit(split)
        written = "review_text" in split.dataset.interactions.columns
        self._rows = log_rows(split).train if written else np.zeros(0, dtype=np.int64)
        self._profiles = {}
        self.__dict__.pop("_written", None)
        return self

    @cached_property
    def _written(self) -> dict[int, list[Review]]:
        """The latest training reviews of each user, oldest first, each text once."""
        if not len(self._rows):
            return {}
        log = self.dataset.interactions[self._rows]
        stars = log["rating"].to_list() if "rating" in log.columns else [None] * log.height
        texts = log["review_text"].fill_null("").str.strip_chars().to_list()
        out: dict[int, dict[str, Review]] = {}
        who = zip(log["user"].to_list(), log["item"].to_list(), strict=True)
        said = zip(texts, stars, self._rows.tolist(), strict=True)
        for (user, item), (text, given, row) in zip(who, said, strict=True):
            if text:
                told = float("nan") if given is None else float(given)
                review = Review(self._titles[item], text, told, row)
                out.setdefault(user, {}).setdefault(text, review)
        return {user: list(own.values())[-self.reviews :] for user, own in out.items()}

    @cached_property
    def _embed(self) -> Embed:
        from onoma.encoding.sentence import Sentence

        return Sentence(self.encoder, quiet=True).encode_texts

    def profile(self, user: int) -> Profile:
        """What is known of a user code; empty for strangers and users without reviews."""
        with self._lock:
            if user in self._profiles:
                return self._profiles[user]
        found, counts = Profile(), Counter[str]()
        said = self._written.get(user, [])
        memory = Memory(self.language, self._embed, self.cap, domain=self.domain) if said else None
        for review in said:
            assert memory is not None
            found, more = memory.read(found, review)
            counts += more
        with self._lock:
            if user not in self._profiles:
                self._profiles[user] = found
                self.answers.update(counts)
        return found

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """Places counted from the end, in the order of the letters."""
        _ = self._written  # one for all threads
        answers = self.language.each(self._asked, questions)
        out: list[NDArray[np.float64] | BadAnswer] = []
        for question, answer in zip(questions, answers, strict=True):
            if isinstance(answer, BadAnswer):
                out.append(answer)
                continue
            order, repaired = whole(answer, len(question.candidates))
            self.answers["repaired"] += repaired
            values = np.empty(len(order))
            values[order] = -np.arange(len(order), dtype=np.float64)
            out.append(values)
        return out

    def _asked(self, question: Question) -> list[int]:
        known = self.profile(question.user) if question.user >= 0 else Profile()
        messages = self._template.messages(
            self.domain,
            told=str(known) or NOTHING,
            history=joined(self.titles(question.history[-self.recent :]), "; ") or NOTHING,
            candidates=lettered(self.titles(question.candidates)),
        )
        return ordered(self.language, messages, len(question.candidates))

    def arrays(self) -> Mapping[str, Any]:
        """Counts, and the rows of the log that are training's."""
        return {**super().arrays(), "rows": self._rows}

    def _restore(self, arrays: Mapping[str, Any]) -> None:
        super()._restore(arrays)
        self._rows = np.asarray(arrays["rows"], dtype=np.int64)


def ordered(model: LanguageModel, messages: Sequence[Mapping[str, Any]], size: int) -> list[int]:
    """Places of lettered candidates as a model orders them, repeats and all.

    A model that tells probabilities is not made to write: letters come by how likely each is to be
    the first of the answer. Others write an order that a schema holds.

    Raises:
        BadAnswer: there is no order.
    """
    letters = list(ascii_uppercase[:size])
    if "logprobs" in model.able:
        try:
            likely = model.logprobs(messages, letters).logprobs
        except LanguageError:
            pass  # of services only the server knows whether it can
        else:
            return [int(place) for place in np.argsort(-likely, kind="stable")]
    order = {"type": "array", "items": {"enum": letters}, "minItems": size, "maxItems": size}
    schema = {
        "type": "object",
        "properties": {"order": order},
        "required": ["order"],
        "additionalProperties": False,
    }
    done = model.complete(messages, schema=schema, decoding=Decoding(max_tokens=24 + 8 * size))
    return [letters.index(letter) for letter in done.data["order"]]


def whole(order: Sequence[int], size: int) -> tuple[list[int], int]:
    """An order of all ``size`` places, and how many were named twice and stand elsewhere now."""
    named = list(dict.fromkeys(order))
    missing = [place for place in range(size) if place not in set(named)]
    return [*named, *missing], len(order) - len(named)
