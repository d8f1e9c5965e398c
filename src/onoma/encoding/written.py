"""Texts that a language model writes about items, as vectors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import Encoder, TextEncoder, log_fingerprint
from onoma.encoding.pagerank import important
from onoma.encoding.text import FIELDS, item_texts
from onoma.language import BadAnswer, Decoding, LanguageModel, Usage
from onoma.language.templates import Template, bulleted, domain, line

_FORMS = ("paraphrase", "tags", "infer", "shared", "shared-tags")
# The basic family, the driven one, the one guided by neighbours, and both.
PROMPTS = (*_FORMS[:3], *(f"driven-{form}" for form in _FORMS[:3]),
           *_FORMS[3:], *(f"driven-{form}" for form in _FORMS[3:]))  # fmt: skip
_TAGS = {
    "type": "object",
    "properties": {
        "tags": {
            "type": "array",
            "items": {"type": "string", "minLength": 2, "maxLength": 20},
            "minItems": 2,
            "maxItems": 4,
        }
    },
    "required": ["tags"],
    "additionalProperties": False,
}
_LONGEST = 400  # characters of a written text


@dataclass(frozen=True)
class Sheet:
    """What writing took.

    Attributes:
        answers: ``asked``, ``written``, ``cut`` (kept up to the last whole word) and
            ``rejected: KIND``.
        usage: of all answers when they were first given, also of those that came from a tape.
    """

    answers: dict[str, int]
    usage: Usage

    def describe(self) -> dict[str, float | int]:
        """What a metrics file records: counts, and tokens an item."""
        asked = max(self.answers.get("asked", 0), 1)
        return {
            **self.answers,
            "prompt_tokens_per_item": round(self.usage.prompt / asked, 1),
            "completion_tokens_per_item": round(self.usage.completion / asked, 1),
            "seconds": round(self.usage.seconds, 1),
        }


class Written(Encoder):
    """One text an item by one prompt, written once and encoded like a text of the catalogue.

    LLM-Rec (Lyu et al., NAACL Findings 2024). ``paraphrase``, ``tags`` and ``infer`` are the basic
    prompts; ``shared`` and ``shared-tags`` are guided by the items that the same people took;
    ``driven-`` before a name adds what the text is for, recommending. Tags are held to a form
    while they are decoded. An answer that ends at the token limit is kept up to its last whole
    word and counted; one that is of no use leaves the item without a text.

    Args:
        prompt: one of :data:`PROMPTS`.
        model: as of :func:`onoma.language.opening.open_model`.
        of: the text encoder; anything :func:`onoma.encoding.build` takes.
        items: the most popular items of training that are written about; None for all.
        neighbours: items that a guided prompt tells, by personalised PageRank.
        tokens: of an answer, at most; tags need about twice as many for their form.
        longest: characters of a catalogue text in a prompt.
        domain: how one speaks of the items, of :data:`onoma.language.templates.DOMAINS`.
        fields: columns of the catalogue that are told.

    Attributes:
        sheet: what the texts took; None until they are there.
        lender: another encoder of the same model, whose engine is used.
    """

    name = "written"

    def __init__(
        self,
        prompt: str = "tags",
        model: Any = "smollm2",
        of: Any = "sentence",
        items: int | None = None,
        neighbours: int = 3,
        tokens: int = 48,
        longest: int = 200,
        domain: Any = "products",
        fields: Sequence[str] = FIELDS,
    ) -> None:
        from onoma.encoding import build

        if prompt not in PROMPTS:
            raise ValueError(f"prompt {prompt!r} is none of {', '.join(PROMPTS)}")
        if neighbours < 1 or tokens < 1 or longest < 1 or (items is not None and items < 1):
            raise ValueError("items, neighbours, tokens and longest must be at least 1")
        encoder = build(of)
        if not isinstance(encoder, TextEncoder):
            raise ValueError(f"{encoder.name} reads no texts")
        self.of, self.prompt, self.model, self.items = encoder, prompt, model, items
        self.neighbours, self.tokens, self.longest = neighbours, tokens, longest
        self.domain, self.fields = domain, tuple(fields)
        self.template = Template.load(f"augment-{prompt.removeprefix('driven-')}")
        self.sheet: Sheet | None = None
        self.lender: Written | None = None
        self._told: tuple[str, list[str]] | None = None

    @cached_property
    def language(self) -> LanguageModel:
        """The model that writes.

        Raises:
            OnomaError: it is not there.
        """
        from onoma.language.opening import open_model

        return open_model(self.model) if self.lender is None else self.lender.language

    @property
    def guided(self) -> bool:
        """Whether the prompt tells neighbours."""
        return "neighbours" in self.template.placeholders

    @property
    def whole(self) -> bool:
        """Whether no answer was late: the same question may have one the next time."""
        return self.sheet is None or not self.sheet.answers.get("rejected: timeout")

    def settings(self) -> dict[str, Any]:
        """What changes the vectors; the language model by its identity."""
        return {
            "prompt": self.prompt,
            "template": self.template.hash,
            "model": self.language.identity,
            "of": {"name": self.of.name, **self.of.settings()},
            "items": self.items,
            "neighbours": self.neighbours if self.guided else None,
            "tokens": self.tokens,
            "longest": self.longest,
            "domain": self.domain,
            "fields": list(self.fields),
        }

    def fingerprint(self, split: Split) -> str:
        """A hash of the texts and, where popularity or neighbours matter, of the training log."""
        read = self.of.fingerprint(split) + repr(item_texts(split.dataset.items, self.fields))
        if self.guided or self.items is not None:
            read += log_fingerprint(split)
        return hashlib.sha256(read.encode("utf-8", "surrogatepass")).hexdigest()

    def encode(self, split: Split) -> NDArray[np.float32]:
        """The vectors of the written texts, in the space of the catalogue's own."""
        self.of.fit(item_texts(split.dataset.items, self.of.fields))
        return self.of.encode_texts(self.texts(split))

    def texts(self, split: Split) -> list[str]:
        """n_items texts, empty for items that are not written about; :attr:`sheet` tells the cost.

        Raises:
            LanguageError: the model cannot be used.
        """
        print_ = self.fingerprint(split)
        if self._told is not None and self._told[0] == print_:
            return self._told[1]
        catalogue = item_texts(split.dataset.items, self.fields)
        told = [line(text, self.longest) for text in catalogue]
        order = np.argsort(-split.train_counts, kind="stable")
        rows = np.array([row for row in order if told[row]], dtype=np.int64)[: self.items]
        near = important(split, rows, self.neighbours) if self.guided else None
        questions = []
        for place, row in enumerate(rows):
            values = {"item": told[row], "purpose": self._purpose()}
            if near is not None:
                company = [told[other] for other in near[place] if other >= 0 and told[other]]
                if not company:
                    continue
                values["neighbours"] = bulleted(company, self.longest)
            questions.append((row, self.template.messages(self.domain, **values)))
        meter = getattr(self.language, "recorded", self.language.meter)
        before = meter.total
        answers = self.language.each(lambda asked: self._ask(asked[1]), questions)
        counts: Counter[str] = Counter(asked=len(questions))
        out = [""] * len(told)
        for (row, _), answer in zip(questions, answers, strict=True):
            kind, out[row] = _kept(answer)
            counts[kind] += 1
        took = Usage(*(a - b for a, b in zip(astuple(meter.total), astuple(before), strict=True)))
        self.sheet = Sheet(dict(sorted(counts.items())), took)
        self._told = (print_, out)
        return out

    def _purpose(self) -> str:
        if not self.prompt.startswith("driven-"):
            return ""
        return f", so that the {domain(self.domain).one} can be recommended to the right people"

    def _ask(self, messages: Sequence[dict[str, str]]) -> str:
        decoding = Decoding(max_tokens=self.tokens)
        if "tags" not in self.prompt:
            return self.language.complete(messages, decoding=decoding).text
        found = self.language.complete(messages, schema=_TAGS, decoding=decoding).data["tags"]
        return ", ".join(dict.fromkeys(tag.strip() for tag in found if tag.strip()))


def _kept(answer: str | BadAnswer) -> tuple[str, str]:
    """How an answer counts, and what is left of it."""
    if isinstance(answer, str):
        text = line(answer, _LONGEST)
        return ("written", text) if text else ("rejected: empty", "")
    if answer.kind == "cut" and not answer.text.lstrip().startswith("{"):
        whole = line(answer.text, _LONGEST).rpartition(" ")[0]
        if whole:
            return "cut", whole
    return f"rejected: {answer.kind}", ""
