"""Titles as they are compared: case, articles, years, punctuation and numerals put aside."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

Tokens = tuple[str, ...]

_YEAR = re.compile(r"\s*[(\[](\d{4})(?:\s*[-–—]\s*(?:\d{4})?)?[)\]]\s*$")
_EARLIEST, _LATEST = 1870, 2100  # four digits outside of these are no year
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_AKA = re.compile(r"^(?:a\.?k\.?a\.?|aka)\s+")
# Those that catalogues put behind a title to sort it.
_MOVED = re.compile(
    r"^(.+),\s*(the|an?|l[aeo']|les|une?|el|las|los|il|gli|der|die|das|eine?)$", re.S
)
_LEADING = frozenset({"the", "a", "an"})
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼ`´′"), "'")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.){2,}")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ORDINAL = re.compile(r"(\d)(?:st|nd|rd|th)(?![^\W\d_])")
_TOKEN = re.compile(r"\d+(?:th(?![^\W\d_]))?|[^\W\d_]+|\S")
_ROMAN = re.compile(r"(x{0,3})(ix|iv|v?i{0,3})")
_WORDS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {
    word: f"{value}th"
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth".split(), 1
    )
}
_COUNTERS = frozenset({"part", "pt", "vol", "volume", "chapter", "episode"})


@dataclass(frozen=True)
class Spelling:
    """A title taken apart.

    Attributes:
        raw: with its punctuation, without case and year, its article in front: equal for titles
            that nobody would tell apart.
        year: in brackets at the end; 0 where there is none.
        full: words and numerals of all of it; numerals are digits, however they were written.
        bare: ``full`` without a leading English article.
        parts: what is left of ``bare`` without its brackets, and what stands in them behind
            "a.k.a.", as long as no numeral is lost by that.
    """

    raw: str
    year: int
    full: Tokens
    bare: Tokens
    parts: tuple[Tokens, ...] = ()


def spelling(title: str) -> Spelling:
    """Take a title apart.

    ``Postman, The (1997)`` and ``THE POSTMAN`` have the same ``raw``; ``Rocky IV`` and
    ``Rocky 4`` the same ``full``.
    """
    text = _plain(title)
    year = 0
    if (found := _YEAR.search(text)) and _EARLIEST <= int(found[1]) <= _LATEST:
        before = text[: found.start()].strip()
        if before:
            text, year = before, int(found[1])
    inside = [_moved(part.strip()) for part in _BRACKETS.findall(text) if part.strip()]
    main = _moved(" ".join(_BRACKETS.sub(" ", text).split()))
    if not any(map(str.isalnum, main)):
        inside, main = [], _moved(text)
    raw = " ".join([main, *(f"({part})" for part in inside)])
    full = tokens(raw)
    if not inside:
        return Spelling(raw, year, full, _bare(full))
    known = set(numerals(full))
    other = [_AKA.sub("", part) for part in inside if _AKA.match(part)]
    parts = dict.fromkeys(_bare(tokens(text)) for text in (main, *other))
    # Rocky is not Rocky (II): what loses a numeral is another title.
    kept = (part for part in parts if part and set(numerals(part)) == known)
    return Spelling(raw, year, full, _bare(full), tuple(kept))


def tokens(text: str) -> Tokens:
    """Words, numerals and symbols of a case-folded text, punctuation left out."""
    if not text.isascii():
        text = _without_accents(text)
    text = _INITIALS.sub(lambda found: found[0].replace(".", ""), text.replace("'", ""))
    text = _ORDINAL.sub(r"\1th", _THOUSANDS.sub("", text)).replace("&", " and ")
    pieces = _TOKEN.findall(text)
    out: list[str] = []
    for place, piece in enumerate(pieces):
        if piece[0].isdecimal():
            digits = piece.removesuffix("th")
            value = "".join(str(unicodedata.decimal(c)) for c in digits).lstrip("0") or "0"
            out.append(value + piece[len(digits) :])
        elif piece in _WORDS:
            out.append(_WORDS[piece])
        elif piece.isalnum():
            rest = pieces[place + 1] if place + 1 < len(pieces) else "."
            alone = bool(out) and (not rest.isalnum() or out[-1] in _COUNTERS)
            out.append(_roman(piece, alone) or piece)
        elif unicodedata.category(piece)[0] not in "PC" and not "\ufe00" <= piece <= "\ufe0f":
            out.append(piece)
    return tuple(out)


def numerals(form: Tokens) -> Tokens:
    """The numerals of a form, in their order: they tell sequels apart."""
    return tuple(token for token in form if token[0].isdecimal())


def squashed(form: Tokens) -> str:
    """A form as one word: ``spider man`` is ``spiderman``, ``rocky part 2`` is ``rocky 2``."""
    kept = [
        token
        for place, token in enumerate(form)
        if not (token in _COUNTERS and form[place + 1 : place + 2] and form[place + 1][0].isdigit())
    ]
    return "".join(f" {token} " if token[0].isdecimal() else token for token in kept).strip()


def _plain(title: str) -> str:
    text = title.translate(_APOSTROPHES)
    if not text.isascii():
        # A raised or a broken number stands by itself: Alien³, 33⅓.
        text = "".join(f" {c} " if unicodedata.category(c) == "No" else c for c in text)
        text = unicodedata.normalize("NFKC", text)
        text = unicodedata.normalize("NFKC", text.casefold())
        text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cs"))
        text = text.translate(_APOSTROPHES).replace("ı", "i")
    return " ".join(text.casefold().split())


def _moved(text: str) -> str:
    found = _MOVED.match(text)
    if not found:
        return text
    return f"{found[2]}{'' if found[2].endswith(chr(39)) else ' '}{found[1]}"


def _without_accents(text: str) -> str:
    """Latin letters without their marks; other scripts spell with theirs."""
    out: list[str] = []
    latin = False
    for c in unicodedata.normalize("NFD", text):
        if unicodedata.category(c) != "Mn":
            latin = c < "\u0250" and c.isalpha()
        elif latin:
            continue
        out.append(c)
    return unicodedata.normalize("NFC", "".join(out))


def _roman(word: str, alone: bool) -> str:
    """Digits of a numeral below 40; a single letter is one only where it stands alone."""
    if word.strip("ivx") or (len(word) == 1 and not alone):
        return ""
    found = _ROMAN.fullmatch(word)
    if found is None:
        return ""
    tens, units = found.groups()
    value = {"ix": 9, "iv": 4}.get(units)
    if value is None:
        value = 5 * units.count("v") + units.count("i")
    return str(10 * len(tens) + value)


def _bare(form: Tokens) -> Tokens:
    return form[1:] if len(form) > 1 and form[0] in _LEADING else form
