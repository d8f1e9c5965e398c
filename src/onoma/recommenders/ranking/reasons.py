"""Why people took an item, or did not: written down once for a sample of training pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Ragged, Split
from onoma.encoding.base import TextEncoder
from onoma.encoding.cache import cached_texts
from onoma.encoding.text import item_texts
from onoma.language import BadAnswer, Decoding, LanguageModel
from onoma.language.templates import Template, bulleted, joined, line

TAKEN, LEFT = "took it", "did not take it"
# What the label's side of a text is held against.
_SAID = {
    True: "The person likes things of this kind, the item fits what they had, so they took it.",
    False: "The item does not fit what the person likes, so they did not take it.",
}
_WORDS = 20  # of a text that says enough
_LONGEST = 120  # characters of a catalogue text


@dataclass(frozen=True)
class Example:
    """A training pair whose answer is known.

    Attributes:
        user: code.
        place: items that the user had before.
        item: code.
        taken: whether the user took it.
    """

    user: int
    place: int
    item: int
    taken: bool


@dataclass(frozen=True)
class Told:
    """What a reasoning may be written from; all of it from the catalogue and training.

    Attributes:
        history: texts of what the user had before, latest last.
        item: the item's text.
        shared: categories, brands and the like that item and history have in common.
        known: ``popular``, ``known`` or ``rare``.
        taken: the answer.
    """

    history: tuple[str, ...]
    item: str
    shared: tuple[str, ...]
    known: str
    taken: bool


class Reasoner(ABC):
    """Told facts in, one text an example out."""

    counts: Counter[str]

    @abstractmethod
    def write(self, told: Sequence[Told]) -> list[str]:
        """N texts; empty where there is no answer of use."""


class TemplateReasoner(Reasoner):
    """Says the facts in one fixed form. These are rationales of attributes, nobody's reasoning."""

    def __init__(self) -> None:
        self.counts = Counter()

    def write(self, told: Sequence[Told]) -> list[str]:
        """N texts."""
        self.counts["template"] += len(told)
        return [self._say(one) for one in told]

    def _say(self, one: Told) -> str:
        had = joined(one.history, "; ", _LONGEST) or "nothing yet"
        common = (
            f"It shares {', '.join(one.shared)} with that." if one.shared
            else "It shares nothing with that."
        )  # fmt: skip
        answer = TAKEN if one.taken else LEFT
        return (
            f"The person had {had}. The item is {line(one.item, _LONGEST)}. {common} "
            f"It is {one.known}. The person {answer}."
        )


class ModelReasoner(Reasoner):
    """Asks a language model, which is told the answer.

    Args:
        model: what is asked.
        domain: how one speaks of the items.
        tokens: of an answer; one that ends there is kept as it is, and counted.
    """

    def __init__(self, model: LanguageModel, domain: Any = "products", tokens: int = 80) -> None:
        self.model, self.domain, self.tokens = model, domain, tokens
        self.template = Template.load("reason-click")
        self.counts = Counter()

    def write(self, told: Sequence[Told]) -> list[str]:
        """N texts, asked for one by one."""
        out = []
        for answer in self.model.each(self._ask, told):
            text, kind = answer, "written"
            if isinstance(answer, BadAnswer):
                text, kind = answer.text, answer.kind
                if kind != "cut" or not text.strip():
                    text, kind = "", f"rejected: {kind}"
            self.counts[kind] += 1
            out.append(line(str(text), 600))
        return out

    def _ask(self, one: Told) -> str:
        messages = self.template.messages(
            self.domain,
            history=bulleted(one.history, _LONGEST) or "- nothing yet",
            item=line(one.item, _LONGEST),
            known=one.known,
            answer=TAKEN if one.taken else LEFT,
        )
        return self.model.complete(messages, decoding=Decoding(max_tokens=self.tokens)).text


def sampled(split: Split, size: int, seed: int) -> list[Example]:
    """Half clicks of training, half uniform items that their users do not have there.

    Args:
        split: of which ``train`` is read.
        size: examples wanted; fewer where training has fewer clicks after a first.
        seed: of the draw.

    Returns:
        Clicks first.
    """
    rng = np.random.default_rng([seed, 104])
    rows = split.train.rows()
    place = np.arange(len(rows)) - split.train.offsets[rows]
    later = np.flatnonzero(place > 0)
    drawn = np.sort(rng.permutation(later)[: size // 2])
    examples = [
        Example(int(rows[at]), int(place[at]), int(split.train.values[at]), True) for at in drawn
    ]
    for at in drawn:
        user = int(rows[at])
        free = rng.integers(0, split.dataset.n_items, 64)
        free = free[~np.isin(free, split.train[user])]
        if len(free):
            examples.append(Example(user, int(place[at]), int(free[0]), False))
    return examples


def before(split: Split, examples: Sequence[Example], length: int) -> Ragged:
    """The last ``length`` items that each example's user had before it."""
    return Ragged.from_rows(
        [split.train[one.user][max(0, one.place - length) : one.place] for one in examples]
    )


def facts(split: Split, examples: Sequence[Example], recent: int) -> list[Told]:
    """What training and the catalogue say of each example."""
    texts = item_texts(split.dataset.items)
    labels = _labels(split.dataset.items)
    counts = split.train_counts
    high, low = np.quantile(counts, [0.9, 0.5])
    histories = before(split, examples, recent)
    out = []
    for row, one in enumerate(examples):
        had = histories[row].tolist()
        common = set().union(*(labels[item] for item in had)) if had else set()
        count = counts[one.item]
        known = "popular" if count > high else "rare" if count <= low else "known"
        out.append(
            Told(
                tuple(texts[item] for item in had if texts[item]),
                texts[one.item],
                tuple(sorted(labels[one.item] & common)),
                known,
                one.taken,
            )
        )
    return out


def _labels(items: pl.DataFrame) -> list[set[str]]:
    """Categories and brands of each item."""
    out: list[set[str]] = [set() for _ in range(items.height)]
    for name in ("categories", "genres", "brand"):
        if name in items.columns:
            for row, told in enumerate(items[name].to_list()):
                if told is not None:
                    out[row].update(map(str, told) if isinstance(told, list) else [str(told)])
    return out


def vectors_of(
    texts: Sequence[str], told: Sequence[Told], encoder: TextEncoder
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of reasonings, and how good these are.

    Complete: words, up to 20. Relevant: cosine to the item and the history. Consistent: how much
    nearer it is to a sentence of its own label than to one of the other. Coherent: the share of
    its pairs of words that do not repeat. An empty text has -1.

    Args:
        texts: n reasonings.
        told: what each was written from.
        encoder: of all.

    Returns:
        float32[n, d], and float32[n] in about [-1, 4].
    """
    # Catalogue texts as the writer was told them: whole ones take minutes to encode.
    about = [joined((one.item, *one.history), ". ", _LONGEST) for one in told]
    vectors = cached_texts(encoder, [*texts, *about, _SAID[True], _SAID[False]])
    n = len(texts)
    relevant = (vectors[:n] * vectors[n : 2 * n]).sum(1)
    taken, left = vectors[-2], vectors[-1]
    sides = np.array([1.0 if one.taken else -1.0 for one in told], dtype=np.float32)
    consistent = sides * (vectors[:n] @ (taken - left))
    words = [text.lower().split() for text in texts]
    complete = np.array([min(len(row), _WORDS) / _WORDS for row in words])
    coherent = np.array(
        [len({*zip(row, row[1:], strict=False)}) / max(len(row) - 1, 1) for row in words]
    )
    score = (complete + relevant + consistent + coherent).astype(np.float32)
    return vectors[:n], np.where([bool(row) for row in words], score, np.float32(-1))


def kept(scores: NDArray[np.float32], taken: NDArray[np.bool_], share: float) -> NDArray[np.int64]:
    """The best ``share`` of the rows of each label, in their order; rows below zero never."""
    out = []
    for label in (True, False):
        rows = np.flatnonzero((taken == label) & (scores >= 0))
        best = rows[np.argsort(-scores[rows], kind="stable")]
        out.append(np.sort(best[: max(2, round(share * len(rows)))]))
    return np.concatenate(out)
