"""Collections of prompts: what is asked and what is to be answered, one YAML file each."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.recommenders.text.spelling import Spelling
from onoma.recommenders.text.vocabulary import Vocabulary

# A value is text, the items whose names stand for it, or titles one after the other.
Value = str | NDArray[np.integer] | list[str]
Values = dict[str, Value]
PAST = ("history", "titles")  # fields that tell what somebody had, oldest first
_TITLES = " ; "  # between two titles


@dataclass(frozen=True)
class Prompt:
    """One way to ask.

    Attributes:
        name: unique in its collection.
        family: the task it belongs to.
        ask: text with ``{fields}``.
        answer: likewise.
        kind: which of the family's questions it is.
        held: kept out of training, to ask in unseen words.
    """

    name: str
    family: str
    ask: str
    answer: str
    kind: str
    held: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """The fields of question and answer."""
        return frozenset(
            name for text in (self.ask, self.answer) for _, name in pieces(text) if name
        )


@lru_cache(maxsize=1024)
def pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """Text and the field behind it, in order.

    Raises:
        OnomaError: unbalanced braces.
    """
    try:
        return tuple((text, name) for text, name, _, _ in string.Formatter().parse(template))
    except ValueError as error:
        raise OnomaError(f"not a template ({error}): {template!r}", where="prompts") from error


def collection(name: str) -> list[Prompt]:
    """The prompts of a packaged collection, or of a YAML file by path.

    The file maps families to lists of ``ask``, ``answer``, ``kind`` and ``held``.

    Raises:
        OnomaError: no such collection, or one that says something else.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OnomaError(f"cannot be read ({error})", where=name) from error
    else:
        place = files("onoma.recommenders.text").joinpath(f"prompts/{name}.yaml")
        if not place.is_file():
            raise OnomaError(
                f"no prompts are called {name!r}", fix="Use p5 or a path ending in .yaml"
            )
        text = place.read_text("utf-8")
    try:
        raw: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
        found = [
            Prompt(
                name=f"{family}-{number}",
                family=str(family),
                ask=" ".join(str(one["ask"]).split()),
                answer=" ".join(str(one["answer"]).split()),
                kind=str(one["kind"]),
                held=bool(one.get("held", False)),
            )
            for family, members in raw.items()
            for number, one in enumerate(members, start=1)
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OnomaError(f"not a collection of prompts ({error!r})", where=name) from error
    for prompt in found:
        _ = prompt.fields
    return found


class _Part(NamedTuple):
    """Tokens of a question and the word of each, both int32[l], words from 0.

    Attributes:
        name: the field that they fill; None of a template's own.
        begins: tells int64[m], the token with which each of its items begins.
    """

    tokens: NDArray[np.int32]
    words: NDArray[np.int32]
    name: str | None = None
    begins: Callable[[], NDArray[np.int64]] | None = None


@dataclass
class Writer:
    """Fills prompts and gives tokens.

    Attributes:
        vocabulary: of the text.
        spelling: of the names.
        longest: tokens of a whole question; three quarters of them one text may have.
    """

    vocabulary: Vocabulary
    spelling: Spelling
    longest: int = 512
    _known: dict[str, tuple[NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=dict)

    def written(self, template: str, values: Values) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The tokens of a filled template and the word of each, both int32[l]; words from 1.

        A name is one word (whole-word embeddings: Geng et al., P5, RecSys 2022). Where the whole
        is too long, a history loses its oldest items; the newest one stays. If that is not
        enough, the longest values lose their ends; the template stays whole.
        """
        parts: list[_Part] = []
        for text, name in pieces(template):
            if text.strip():
                parts.append(_Part(*self._piece(text.strip())))
            if name is not None:
                parts.append(self._value(name, values[name]))
        over = sum(len(part.tokens) for part in parts) - self.longest
        if over > 0:
            parts = _shortened(parts, over)
        tokens, words, count = [], [], 1
        for ids, of, *_ in parts:
            if len(ids):
                tokens.append(ids)
                words.append(of + count)
                count += int(of.max()) + 1
        if not tokens:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        return np.concatenate(tokens)[: self.longest], np.concatenate(words)[: self.longest]

    def _value(self, name: str, value: Value) -> _Part:
        if isinstance(value, str):
            ids, words = self.vocabulary.encode(value)
            most = self.longest * 3 // 4  # what asks about the text has to fit as well
            return _Part(ids[:most], words[:most], name)
        if isinstance(value, list):
            ids, words, begins = self.vocabulary.joined(value, _TITLES)
            return _Part(ids, words, name, begins)
        comma = self._piece(",")[0]
        ids, words = self.spelling.said(value, comma)
        return _Part(ids, words, name, lambda: self.spelling.begins(value, len(comma)))

    def _piece(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if text not in self._known:
            self._known[text] = self.vocabulary.encode(text)
        return self._known[text]


def _shortened(parts: Sequence[_Part], over: int) -> list[_Part]:
    """The parts of a question with so many tokens less, as far as its values have them."""
    out = list(parts)
    for at, part in enumerate(parts):
        if part.name in PAST and part.begins is not None and len(part.tokens) and over > 0:
            begins = part.begins()
            first = int(begins[kept_from(begins, over)])
            words = part.words[first:]
            out[at] = part._replace(tokens=part.tokens[first:], words=words - words[0])
            over -= first
    if over <= 0:
        return out
    sizes = sorted(len(part.tokens) for part in out if part.name is not None)
    room = max(sum(sizes) - over, 0)
    while sizes and sizes[0] * len(sizes) <= room:
        room -= sizes.pop(0)
    most = room // max(len(sizes), 1)
    return [
        part
        if part.name is None
        else part._replace(tokens=part.tokens[:most], words=part.words[:most])
        for part in out
    ]


def kept_from(begins: NDArray[np.int64], over: int) -> int:
    """The oldest item that is left when ``over`` tokens are to go; the newest one always is.

    Args:
        begins: int64[m], the token with which each item begins, oldest first.
        over: tokens that are too many.
    """
    return min(int(np.searchsorted(begins, over)), len(begins) - 1)
