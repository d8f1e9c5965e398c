"""Conversation without a language model: a dialogue in, items of the catalogue out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.encoding.text import FIELDS, item_texts
from onoma.explanation.attributes import SharedAttributes
from onoma.explanation.base import Reason
from onoma.explanation.say import say
from onoma.recommenders.base import Ranking, Requests
from onoma.serving.dialogue import Intent, Wish, read
from onoma.serving.mentions import Titles, words

_POOL = 200  # items that a search hands to the recommender
_TITLE = 120  # letters of a title that are written
_RRF = 60  # of reciprocal rank fusion (Cormack et al., SIGIR 2009)

Recommend = Callable[[Requests, int], Ranking]
Search = Callable[[str], NDArray[np.floating]]
Why = Callable[[Sequence[int], Sequence[int]], Sequence[Sequence[Reason]]]


@dataclass(frozen=True)
class Named:
    """An item of an answer.

    Attributes:
        code: item code.
        item_id: the owner's id.
        title: from the catalogue, as it stands there; None where there is none.
        score: the recommender's, None where it was not asked.
        reason: in words, empty for none.
    """

    code: int
    item_id: str
    title: str | None
    score: float | None
    reason: str


@dataclass(frozen=True)
class Reply:
    """An answer in words and as data.

    Attributes:
        text: plain text; titles stand in “ ” and ids in [ ], both of the catalogue alone.
        items: what the text lists, in its order.
        wish: how the dialogue was understood.
    """

    text: str
    items: tuple[Named, ...]
    wish: Wish


class Chat:
    """Reads a dialogue, asks a recommender, and answers by template.

    Likes, dislikes, refusals and what is looked for come from all messages of the user; earlier
    answers tell what ``more``, ``why`` and ``the second one`` mean. Nothing of what users or the
    catalogue say is ever read as an instruction, and no word of the user is repeated. English.

    Args:
        items: the catalogue, a row an item code, with ``item_id`` and ``title``.
        recommend: asked for items, such as ``Recommender.recommend``.
        search: float[n_items] scores of a text, 0 for no match, such as a BM25 over the catalogue.
        why: reasons of items for a history; by default what both have in common.
    """

    def __init__(
        self, items: pl.DataFrame, recommend: Recommend, search: Search, why: Why | None = None
    ) -> None:
        self._recommend, self._search = recommend, search
        self._ids = [str(value) for value in items["item_id"].to_list()]
        self._titles: list[str | None] = items["title"].to_list()
        self._find = Titles(self._titles)
        self._attributes = SharedAttributes(items)
        self._why = why or self._in_common
        self._code: dict[str, int] = {}
        for code, item_id in enumerate(self._ids):
            self._code.setdefault(shown_id(item_id), code)
        self._words: dict[str, list[int]] = {}
        texts = item_texts(items, [field for field in FIELDS if field != "description"])
        for code, text in enumerate(texts):
            for word in {word.text for word in words(text)}:
                self._words.setdefault(word, []).append(code)

    def reply(
        self,
        messages: Sequence[Any],
        *,
        history: Sequence[int] | NDArray[np.integer] = (),
        exclude: Sequence[int] | NDArray[np.integer] = (),
        k: int = 5,
    ) -> Reply:
        """The answer to the last message.

        Args:
            messages: as in OpenAI's chat completions, the oldest first.
            history: item codes of what is known of the user besides the dialogue.
            exclude: item codes that must not be named, withdrawn ones among them.
            k: items to answer.
        """
        wish = read(messages, self._find, self._code, self._words.__contains__)
        banned = self._banned(wish, exclude)
        hidden = {int(code) for code in exclude} | set(wish.dislikes)
        had = [int(code) for code in history]
        had = [code for code in dict.fromkeys([*had, *wish.likes]) if code not in wish.dislikes]
        if wish.intent == "why" and (about := [c for c in wish.about if c not in hidden]):
            return self._explained(wish, had, about[:k], hidden)
        return self._answered(wish, had, banned, hidden, k)

    def _banned(self, wish: Wish, exclude: Iterable[int]) -> NDArray[np.int32]:
        gone = {int(code) for code in exclude} | set(wish.dislikes)
        for word in wish.unwanted:
            gone.update(self._words.get(word, ()))
        if wish.intent == "more":
            gone.update(wish.shown)
        return np.array(sorted(gone), dtype=np.int32)

    def _answered(
        self, wish: Wish, had: list[int], banned: NDArray[np.int32], hidden: set[int], k: int
    ) -> Reply:
        codes, scores, matched = self._ranked(wish, had, banned, k)
        likes = [code for code in wish.likes if code not in hidden]
        reasons = self._why([code for code in had if code not in hidden], codes)
        named = self._named(codes, scores, reasons, hidden)
        if not named:
            head = "Nothing in the catalogue is left that fits. Take back a wish, and ask again."
        elif wish.query and not matched:
            head = "Nothing in the catalogue matches these words. What fits otherwise:"
        elif wish.query:
            head = "From the catalogue, what matches and suits you best:"
        elif likes:
            head = f"As you like {self._list(likes[-2:])}:"
        elif had:
            head = "From the catalogue, for you:"
        else:
            head = "To begin with, what many choose. Name a title that you like, or say what for:"
        return Reply(_lines(head, named), named, wish)

    def _ranked(
        self, wish: Wish, had: list[int], banned: NDArray[np.int32], k: int
    ) -> tuple[list[int], list[float], bool]:
        """Item codes, the recommender's scores, and whether the words found anything."""
        request = Requests(Ragged.from_rows([had]), exclude=Ragged.from_rows([banned]))
        if wish.query:
            texts = np.asarray(self._search(wish.query), dtype=np.float64).copy()
            texts[banned] = 0
            texts[had] = 0
            best = np.argsort(-texts, kind="stable")[:_POOL]
            found: NDArray[np.int32] = best[texts[best] > 0].astype(np.int32)
            if len(found):
                asked = replace(request, candidates=found[None, :])
                ranking = self._recommend(asked, len(found))
                return *_fused(found.tolist(), ranking, k), True
        ranking = self._recommend(request, k)
        return *_fused([], ranking, k), False

    def _explained(self, wish: Wish, had: list[int], about: list[int], hidden: set[int]) -> Reply:
        reasons = self._why([code for code in had if code not in hidden], about)
        named = self._named(about, [None] * len(about), reasons, hidden)
        if any(item.reason for item in named):
            return Reply(_lines("This is why:", named), named, wish)
        head = (
            "They are what people with a history like this one choose; no single item stands out:"
        )
        return Reply(_lines(head, named), named, wish)

    def _named(
        self,
        codes: Sequence[int],
        scores: Sequence[float | None],
        reasons: Sequence[Sequence[Reason]],
        hidden: set[int],
    ) -> tuple[Named, ...]:
        return tuple(
            Named(
                code,
                self._ids[code],
                self._titles[code],
                score,
                "; ".join(
                    self._said(reason, hidden) for reason in why if set(reason.items) - hidden
                ),
            )
            for code, score, why in zip(codes, scores, reasons, strict=True)
        )

    def _said(self, reason: Reason, hidden: set[int]) -> str:
        """A reason that names no hidden item and whose values cannot be taken for titles."""
        items = tuple(code for code in reason.items if code not in hidden)
        data = {key: plain(v, 60) if isinstance(v, str) else v for key, v in reason.data.items()}
        return say(replace(reason, items=items, data=data), self._plain_titles)

    def _in_common(self, had: Sequence[int], codes: Sequence[int]) -> list[list[Reason]]:
        recent = list(dict.fromkeys(reversed(had)))[:50]
        return [
            self._attributes.reasons([one for one in recent if one != code], code, 1)
            for code in codes
        ]

    def _plain_titles(self, codes: Sequence[int]) -> list[str]:
        return [plain(self._titles[code] or self._ids[code]) for code in codes]

    def _list(self, codes: Sequence[int]) -> str:
        return " and ".join(f"“{title}”" for title in self._plain_titles(codes))


def _fused(found: Sequence[int], ranking: Ranking, k: int) -> tuple[list[int], list[float]]:
    """The first k by reciprocal ranks of a search and a recommender, with the latter's scores."""
    answered = ranking.items[0] >= 0
    codes = ranking.items[0][answered].tolist()
    scores = dict(zip(codes, ranking.scores[0][answered].tolist(), strict=True))
    by_text = {code: rank for rank, code in enumerate(found)}
    total = {
        code: 1 / (_RRF + rank) + (1 / (_RRF + by_text[code]) if code in by_text else 0.0)
        for rank, code in enumerate(codes)
    }
    order = sorted(total, key=lambda code: (-total[code], code))[:k]
    return order, [float(scores[code]) for code in order]


def _lines(head: str, named: Sequence[Named]) -> str:
    lines = [head]
    for place, item in enumerate(named, start=1):
        title = plain(item.title or item.item_id)
        lines.append(f"{place}. “{title}” [{shown_id(item.item_id)}]")
        if item.reason:
            lines.append(f"   {item.reason}")
    return "\n".join(lines)


def plain(text: str, letters: int = _TITLE) -> str:
    """Text of the catalogue on one line, without the marks that answers set around titles."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * letters])
    text = " ".join(text.translate(_MARKS).split())
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def shown_id(item_id: str) -> str:
    """An id as answers write it."""
    return re.sub(r"\s+", " ", item_id.translate(_MARKS))


_MARKS = str.maketrans({"“": '"', "”": '"', "[": "(", "]": ")"})

__all__ = ["Chat", "Intent", "Named", "Reply", "plain", "shown_id"]
