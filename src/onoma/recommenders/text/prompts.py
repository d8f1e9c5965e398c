"""Collections of prompts: what is asked and what is to be answered, one YAML file each."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.recommenders.text.spelling import Spelling
from onoma.recommenders.text.vocabulary import Vocabulary

# A value is text, or the items whose names stand for it.
Values = dict[str, "str | NDArray[np.integer]"]


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


def pieces(template: str) -> list[tuple[str, str | None]]:
    """Text and the field behind it, in order.

    Raises:
        OnomaError: unbalanced braces.
    """
    try:
        return [(text, name) for text, name, _, _ in string.Formatter().parse(template)]
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


@dataclass
class Writer:
    """Fills prompts and gives tokens.

    Attributes:
        vocabulary: of the text.
        spelling: of the names.
        longest: tokens of one text value that are kept, and of a whole question.
    """

    vocabulary: Vocabulary
    spelling: Spelling
    longest: int = 512
    _known: dict[str, tuple[NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=dict)

    def written(self, template: str, values: Values) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The tokens of a filled template and the word of each, both int32[l]; words from 1.

        A name is one word (whole-word embeddings: Geng et al., P5, RecSys 2022).
        """
        tokens, words, count = [], [], 1
        for text, name in pieces(template):
            parts = [self._piece(text.strip())] if text.strip() else []
            if name is not None:
                value = values[name]
                parts.append(
                    self._text(value)
                    if isinstance(value, str)
                    else self.spelling.said(value, self._piece(",")[0])
                )
            for ids, of in parts:
                if len(ids):
                    tokens.append(ids)
                    words.append(of + count)
                    count += int(of.max()) + 1
        if not tokens:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        return np.concatenate(tokens)[: self.longest], np.concatenate(words)[: self.longest]

    def _piece(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if text not in self._known:
            self._known[text] = self.vocabulary.encode(text)
        return self._known[text]

    def _text(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        ids, words = self.vocabulary.encode(text)
        return ids[: self.longest], words[: self.longest]
