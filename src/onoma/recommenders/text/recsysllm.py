"""RecSysLLM: blanks in records of what people did, with names, people and numbers kept whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onoma.recommenders.text.corpus import Corpus
from onoma.recommenders.text.masking import Piece, blanked, spans
from onoma.recommenders.text.p5 import P5, P5Settings
from onoma.recommenders.text.prompts import Prompt, Values, kept_from, pieces
from onoma.recommenders.text.tasks import Asker, Question

BLANK = "blank"
_ENTITIES = ("user", "item", "history", "stars", "title")
_RECORDS = (
    "{user} took {history} , then {item} .",
    "After {history} , {user} went on to {item} .",
    "{item} , called {title} , got {stars} stars from {user} .",
    "{user} put {headline} over a review of {item} : {sentence}",
)


class RecSysLLMSettings(P5Settings):
    """A P5 that also fills blanks.

    Attributes:
        masking: ``entity``: a name, a person or a number is masked as a whole or not at all;
            ``token``: spans are cut anywhere, as T5 does.
    """

    families: dict[str, int] = {"blank": 2, "sequential": 2}
    masking: Literal["entity", "token"] = "entity"


class RecSysLLM(P5):
    """Pre-training on records with entity spans (Chu et al., RecSysLLM, 2023), beside P5's tasks.

    The family ``blank`` writes events as sentences, masks about 15 % of their tokens and asks for
    what is missing; where a record holds what followed a history, that is the last blank.
    """

    name = "recsysllm"
    settings_type = RecSysLLMSettings
    settings: RecSysLLMSettings
    more_families = (BLANK,)

    def able(self, corpus: Corpus, family: str) -> NDArray[np.int64]:
        """Every event makes a record."""
        if family == BLANK:
            return np.arange(len(corpus))
        return super().able(corpus, family)

    def prompts_of(self, family: str, kind: str | None = None, held: bool = False) -> list[Prompt]:
        """The prompts of a family; records stand for those of ``blank``."""
        if family == BLANK and not held:
            return [
                Prompt(f"{BLANK}-{n}", BLANK, text, "", BLANK) for n, text in enumerate(_RECORDS)
            ]
        return super().prompts_of(family, kind, held)

    def question(
        self, asker: Asker, prompts: Sequence[Prompt], event: int, rng: np.random.Generator
    ) -> Question | None:
        """A record with blanks, or a question of another family."""
        question = super().question(asker, prompts, event, rng)
        if question is None or question.prompt.family != BLANK:
            return question
        record, target = self._fitting(question)
        tokens = np.concatenate([piece.tokens for piece in record])[: self.settings.longest]
        counts = np.cumsum([0, *(int(piece.words.max(initial=-1)) + 1 for piece in record)])
        words = np.concatenate(
            [piece.words + 1 + before for piece, before in zip(record, counts, strict=False)]
        )[: self.settings.longest]
        whole = self.settings.masking == "entity"
        where = spans(record, rng, len(self.vocabulary.blanks), whole, target)
        where = [(start, stop) for start, stop in where if stop <= len(tokens)]
        if not where:
            return None
        return Question(
            question.prompt, question.values, event,
            blanked(tokens, words, where, self.vocabulary.blanks),
        )  # fmt: skip

    def _fitting(self, question: Question) -> tuple[list[Piece], int | None]:
        """:meth:`_record`, without the oldest items of a history that makes it too long."""
        prompt, values = question.prompt, question.values
        record, target = self._record(prompt, values)
        over = sum(len(piece.tokens) for piece in record) - self.settings.longest
        history = values.get("history")
        if over <= 0 or not isinstance(history, np.ndarray):
            return record, target
        begins = self.spelling.begins(history, len(self.vocabulary.encode(",")[0]))
        return self._record(prompt, {**values, "history": history[kept_from(begins, over) :]})

    def _record(self, prompt: Prompt, values: Values) -> tuple[list[Piece], int | None]:
        """The pieces of a record, and the place of the item where it followed a history.

        Every name of a history is a piece of its own.
        """
        out: list[Piece] = []
        target = None
        for text, name in pieces(prompt.ask):
            if text.strip():
                out.append(Piece(*self.vocabulary.encode(text.strip()), whole=False))
            if name is None:
                continue
            value = values[name]
            if name == "item" and "history" in prompt.fields:
                target = len(out)
            if isinstance(value, str):
                out.append(Piece(*self.vocabulary.encode(value), whole=name in _ENTITIES))
                continue
            for place, item in enumerate(value):
                if place:
                    out.append(Piece(*self.vocabulary.encode(","), whole=False))
                none = np.zeros(0, dtype=np.int32)
                out.append(Piece(*self.spelling.said(np.array([item]), none), whole=True))
        return out, target
