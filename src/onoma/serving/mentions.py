"""Which items a text names: titles found word by word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")
_ARTICLES = frozenset({"the", "a", "an"})
_LONGEST = 12  # words of a title that are compared


@dataclass(frozen=True)
class Word:
    """A word of a text: as compared, and whether it looked like a part of a name."""

    text: str
    start: int
    end: int
    capital: bool


@dataclass(frozen=True)
class Mention:
    """Words ``start`` to ``stop`` of a text name these items, equal titles all of them."""

    start: int
    stop: int
    items: tuple[int, ...]


def words(text: str) -> list[Word]:
    """The words of a text in lower case without accents."""
    return [
        Word(_plain(found.group()), found.start(), found.end(), found.group()[0].isupper())
        for found in _WORD.finditer(text)
    ]


class Titles:
    """Finds titles of a catalogue in texts; the year and leading articles may be left out.

    Args:
        titles: by item code, None where there is none.
    """

    def __init__(self, titles: Sequence[str | None]) -> None:
        self._items: dict[tuple[str, ...], list[int]] = {}
        for code, title in enumerate(titles):
            for key in _keys(title or ""):
                held = self._items.setdefault(key, [])
                if code not in held[-1:]:
                    held.append(code)

    def find(self, text: str, found: Sequence[Word]) -> list[Mention]:
        """Mentions in the order of the text, the longest first where they overlap.

        A title of one word counts where it is in quotation marks or written with a capital letter
        inside a sentence, or is all of the text.
        """
        out: list[Mention] = []
        place = 0
        while place < len(found):
            for stop in range(min(len(found), place + _LONGEST), place, -1):
                items = self._items.get(tuple(word.text for word in found[place:stop]))
                if items and (stop - place > 1 or self._named(text, found, place)):
                    out.append(Mention(place, stop, tuple(items)))
                    place = stop - 1
                    break
            place += 1
        return out

    @staticmethod
    def _named(text: str, found: Sequence[Word], place: int) -> bool:
        word = found[place]
        if len(found) == 1 or text[word.start - 1 : word.start] in ('"', "“", "'", "‘", "«"):
            return True
        first = not text[: word.start].rstrip() or text[: word.start].rstrip()[-1] in ".!?\n"
        return word.capital and not first and word.text not in _ALWAYS_CAPITAL


_ALWAYS_CAPITAL = frozenset({"i", "i'm", "i'd", "i've", "i'll"})


def _plain(word: str) -> str:
    spread = unicodedata.normalize("NFKD", word.replace("’", "'").lower())
    return "".join(letter for letter in spread if not unicodedata.combining(letter))


def _keys(title: str) -> set[tuple[str, ...]]:
    """Ways in which a title is written: as it is, and without year and articles."""
    bare = _YEAR.sub("", title[:300])
    # Libraries write "Matrix, The".
    turned = re.sub(r"^(.*), (The|A|An)$", r"\2 \1", bare)
    keys = {tuple(word.text for word in words(form))[:_LONGEST] for form in (title, bare, turned)}
    keys |= {key[1:] for key in keys if len(key) > 1 and key[0] in _ARTICLES}
    return {key for key in keys if key}
