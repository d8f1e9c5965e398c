"""What a person wants, read from a dialogue without a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from onoma.serving.mentions import Mention, Titles, Word, words

Intent = Literal["recommend", "more", "why"]
MESSAGES, LETTERS = 50, 2000  # of a dialogue and of a message that are read, from the end

_NOT = frozenset(
    "not no don't dont never nothing without except avoid hate hates hated dislike disliked "
    "didn't isn't doesn't nor neither less stop exclude skip".split()
)
_LIKE = frozenset(
    "like likes liked love loves loved enjoy enjoyed favourite favorite favourites favorites fan "
    "adore adored similar watched seen saw read bought played want prefer looking".split()
)
_MORE = frozenset("more another else other others next different again further".split())
_WHY = frozenset("why explain reason reasons".split())
_ORDINALS = {
    word: place
    for place, names in enumerate(
        ("first 1st", "second 2nd", "third 3rd", "fourth 4th", "fifth 5th", "sixth 6th")
    )
    for word in names.split()
}
_FILLER = frozenset(
    "a an and any are as at be been but by can could did do does for from get give had has have "
    "hello help hey hi i i'd i'll i'm i've if in is it it's item items its just kind let let's "
    "list lot me might much my need of oh ok okay on one ones or our please recommend "
    "recommended recommendation recommendations recommending show so some something sort "
    "suggest suggested suggestion suggestions sure tell than thank thanks that that's the them "
    "then there these they thing things this those to today tonight too try u up us very was we "
    "well were what what's when which who will with would yes you your about also really quite "
    "find number anything everything instead maybe good great nice".split()
)
_ENDS = re.compile(r"[!?;\n]|\.(?!\s*[a-z])|\b[Bb]ut\b")  # "Inc. or" ends no sentence
_LINE = re.compile(r"^\s*\d+\. .*\[([^\[\]]+)\]\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Wish:
    """What the dialogue comes to.

    Attributes:
        intent: of the last message of the user.
        likes: item codes, the latest last.
        dislikes: item codes.
        query: words of what is looked for, empty for none.
        unwanted: words that no answer may contain.
        shown: item codes of all earlier answers.
        about: item codes whose reasons are asked for.
    """

    intent: Intent = "recommend"
    likes: tuple[int, ...] = ()
    dislikes: tuple[int, ...] = ()
    query: str = ""
    unwanted: tuple[str, ...] = ()
    shown: tuple[int, ...] = ()
    about: tuple[int, ...] = ()


def read(
    messages: Sequence[Any],
    titles: Titles,
    items: Mapping[str, int],
    known: Callable[[str], bool] = lambda word: True,
) -> Wish:
    """The wish at the end of a dialogue.

    Args:
        messages: mappings with ``role`` and ``content``, a text or a list of parts with ``text``;
            what has another form is skipped, as are roles but ``user`` and ``assistant``.
        titles: of the catalogue.
        items: ids as :func:`onoma.serving.chat.Chat.reply` writes them, to item codes.
        known: whether a word occurs in the catalogue; others are not looked for.
    """
    likes: dict[int, None] = {}
    dislikes: dict[int, None] = {}
    unwanted: dict[str, None] = {}
    shown: dict[int, None] = {}
    last: list[int] = []
    query = ""
    intent: Intent = "recommend"
    about: tuple[int, ...] = ()
    for message in messages[-MESSAGES:]:
        role, text = _said(message)
        if role == "assistant":
            codes = [items[one] for one in _LINE.findall(text) if one in items]
            if codes:
                last = codes
                shown |= dict.fromkeys(codes)
        elif role == "user":
            turn = _turn(text, titles, last, known)
            for code in turn.likes:
                dislikes.pop(code, None)
                likes.pop(code, None)
                likes[code] = None
            for code in turn.dislikes:
                likes.pop(code, None)
                dislikes[code] = None
            unwanted |= dict.fromkeys(turn.unwanted)
            intent = turn.intent
            if turn.intent == "recommend" and (turn.query or turn.likes):
                query = turn.query
            about = turn.about or tuple(last) if turn.intent == "why" else ()
    return Wish(
        intent, tuple(likes), tuple(dislikes), query, tuple(unwanted), tuple(shown), about
    )  # fmt: skip


def _said(message: Any) -> tuple[str, str]:
    """Role and text, empty where there is none."""
    if not isinstance(message, Mapping):
        return "", ""
    role, content = message.get("role"), message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(role, str) or not isinstance(content, str):
        return "", ""
    return role, content[-LETTERS:]


def _turn(text: str, titles: Titles, last: Sequence[int], known: Callable[[str], bool]) -> Wish:
    """One message of the user by itself.

    Reading goes word by word. A word of liking or of refusal colours what follows it up to the
    end of the sentence; a title is liked unless it is refused, and other words are looked for
    unless they are refused.
    """
    found = words(text)
    mentions = titles.find(text, found) + _ordinals(found, last)
    named = {place: mention for mention in mentions for place in range(mention.start, mention.stop)}
    ends = {end.start() for end in _ENDS.finditer(text)}
    likes: list[int] = []
    dislikes: list[int] = []
    wanted: list[str] = []
    unwanted: list[str] = []
    why = more = refused = False
    before = 0
    for place, word in enumerate(found):
        inside = place in named and named[place].start != place
        if not inside and any(before <= end <= word.start for end in ends):
            refused = False
        before = word.end
        mention = named.get(place)
        if mention is not None:
            if mention.start == place:
                (dislikes if refused else likes).extend(mention.items)
        elif word.text in _NOT:
            refused = True
        elif word.text in _WHY:
            why = True
        elif word.text in _MORE:
            more = True
        elif word.text in _LIKE or word.text in _FILLER:
            continue
        elif known(word.text):
            (unwanted if refused else wanted).append(word.text)
    if why:
        return Wish("why", about=tuple(likes))
    intent: Intent = "more" if more and not (likes or wanted) else "recommend"
    return Wish(intent, tuple(likes), tuple(dislikes), " ".join(wanted), tuple(unwanted))


def _ordinals(found: Sequence[Word], last: Sequence[int]) -> list[Mention]:
    """``the second``, ``number 2`` and the like, of the last answer."""
    out = []
    for place, word in enumerate(found):
        number = _ORDINALS.get(word.text)
        if number is None and place and found[place - 1].text == "number" and word.text.isdecimal():
            number = int(word.text[:4]) - 1
        if number is not None and 0 <= number < len(last):
            out.append(Mention(place, place + 1, (last[number],)))
    return out
