"""A short profile of somebody that a language model keeps as reviews come in.

Bang and Song, "LLM-based User Profile Management for Recommender System", 2025 (PURE).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.encoding.keywords import phrases
from onoma.language import BadAnswer, Decoding, LanguageModel, Message
from onoma.language.templates import Template, line

LISTS = ("likes", "dislikes", "features")
ALIKE = 0.85  # cosine above which two entries say the same
_LONGEST = 48  # characters of an entry
_NEW = 3  # entries of one review, a list
_HALF = 4.0  # reviews after which an entry weighs half
_AGAINST = frozenset(
    """awful awfully bad badly bother broke broken cheap cheaply complain disappointed disappointing
    disappointment dislike dry expensive fail failed fake greasy hard harsh hate horrible irritate
    issue lack leak loud mess messy never no nor not overpriced poor poorly problem return returned
    sadly smelly stink stopped terrible thin too unfortunately useless waste weak worse worst
    wrong""".split()
)


@dataclass(frozen=True)
class Review:
    """What somebody wrote.

    Attributes:
        item: what the item is called.
        text: of the review.
        stars: NaN where unknown.
        source: the row of the log.
    """

    item: str
    text: str
    stars: float = float("nan")
    source: int = -1


@dataclass(frozen=True)
class Entry:
    """One note.

    Attributes:
        text: a short phrase.
        when: the review that said it last, counted from 1.
        strength: how many notes it stands for.
        sources: the rows of the log that it comes from.
    """

    text: str
    when: int
    strength: float = 1.0
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class Profile:
    """What is known of somebody.

    Attributes:
        likes: in the order in which they were noted.
        dislikes: likewise.
        features: what they pay attention to.
        read: reviews so far.
        dropped: what was noted once and is gone, with why.
    """

    likes: tuple[Entry, ...] = ()
    dislikes: tuple[Entry, ...] = ()
    features: tuple[Entry, ...] = ()
    read: int = 0
    dropped: tuple[tuple[str, str], ...] = ()

    def entries(self) -> dict[str, tuple[Entry, ...]]:
        """The three lists by name."""
        return {name: getattr(self, name) for name in LISTS}

    def __bool__(self) -> bool:
        return any(self.entries().values())

    def __str__(self) -> str:
        said = [f"{name}: {'; '.join(one.text for one in own)}"
                for name, own in self.entries().items() if own]  # fmt: skip
        return ". ".join(said)


Embed = Callable[[Sequence[str]], NDArray[np.float32]]


class Memory:
    """Reads reviews into profiles.

    The extractor notes likes, dislikes and features of a review, held to a schema; an answer of no
    use is asked for once more with what was wrong, then a rule notes in its place. The updater
    chooses what stays of a list that is over its cap: it answers with notes that are there and can
    make up none, so every entry keeps its sources. A deterministic pass follows: entries with a
    cosine above 0.85 are one, of a like and a dislike that say the same the newer stays, and of
    each list the ``cap`` strongest by ``strength x 0.5^(age / 4)``.

    The paper's updater writes the new profile freely; holding it to what was noted is ours.

    Args:
        model: which is asked.
        embed: texts to float32[n, d] of unit rows.
        cap: entries of a list.
        updater: whether anything is taken out; without it the lists only grow.
        domain: how one speaks of the items.
    """

    def __init__(
        self,
        model: LanguageModel,
        embed: Embed,
        cap: int = 5,
        updater: bool = True,
        domain: str | dict[str, str] = "products",
    ) -> None:
        self.model, self.embed, self.cap = model, embed, cap
        self.updater, self.domain = updater, domain
        self._extract, self._update = (
            Template.load("profile-extract"), Template.load("profile-update")
        )  # fmt: skip

    def read(self, profile: Profile, review: Review) -> tuple[Profile, Counter[str]]:
        """The profile after one more review, and what became of the answers.

        Raises:
            LanguageError: the model cannot be used.
        """
        noted, counts = self.extract(review)
        when = profile.read + 1
        new = {
            name: tuple(Entry(text, when, 1.0, (review.source,)) for text in noted[name])
            for name in LISTS
        }
        grown = replace(
            profile, read=when,
            **{name: getattr(profile, name) + new[name] for name in LISTS},
        )  # fmt: skip
        if not self.updater:
            return grown, counts
        kept = self._chosen(grown, counts) if profile else grown
        return self.tidy(kept), counts

    def extract(self, review: Review) -> tuple[dict[str, list[str]], Counter[str]]:
        """Phrases of each list, and what became of the answers."""
        counts: Counter[str] = Counter({"extracted": 1})
        stars = "?" if np.isnan(review.stars) else f"{review.stars:g}"
        messages: list[Message] = list(
            self._extract.messages(
                self.domain, item=line(review.item), stars=stars, review=line(review.text, 2000)
            )
        )
        text = {"type": "string", "minLength": 2, "maxLength": _LONGEST}
        phrase = {"type": "array", "items": text, "maxItems": _NEW}
        schema = _lists(dict.fromkeys(LISTS, phrase))
        room = Decoding(max_tokens=16 + 3 * _NEW * 20)
        for attempt in range(2):
            try:
                data = self.model.complete(messages, schema=schema, decoding=room).data
            except BadAnswer as bad:
                counts[f"extract rejected: {bad.kind}"] += 1
                if attempt == 0:
                    counts["extract tried again"] += 1
                    said = [{"role": "assistant", "content": bad.text}] if bad.text else []
                    again = f"That was of no use ({bad}). Answer again, shorter, as JSON."
                    messages = [*messages, *said, {"role": "user", "content": again}]
                continue
            noted = {name: _clean(data[name]) for name in LISTS}
            counts["extract noted nothing"] += not any(noted.values())
            return noted, counts
        counts["extract by rule"] += 1
        return by_rule(review), counts

    def _chosen(self, profile: Profile, counts: Counter[str]) -> Profile:
        """What the model keeps; everything where its answer is of no use."""
        lists = {name: own for name, own in profile.entries().items() if len(own) > self.cap}
        if not lists:
            return profile
        counts["updated"] += 1
        notes = "\n".join(
            f"{name}: {'; '.join(e.text for e in own)}" for name, own in lists.items()
        )
        schema = _lists(
            {
                name: {
                    "type": "array",
                    "items": {"enum": sorted({one.text for one in own})},
                    "minItems": 1,
                    "maxItems": self.cap,
                }
                for name, own in lists.items()
            }
        )
        messages = self._update.messages(self.domain, cap=self.cap, notes=notes)
        room = Decoding(max_tokens=16 + len(lists) * self.cap * 24)
        try:
            data = self.model.complete(messages, schema=schema, decoding=room).data
        except BadAnswer as bad:
            counts[f"update rejected: {bad.kind}"] += 1
            return profile
        out, gone = profile.entries(), list(profile.dropped)
        for name, own in lists.items():
            named = set(data[name])
            counts["update repeated"] += len(data[name]) - len(named)
            out[name] = tuple(one for one in own if one.text in named)
            gone += [(one.text, "left out by the updater") for one in own if one.text not in named]
        return _profile(out, profile.read, gone)

    def tidy(self, profile: Profile) -> Profile:
        """Near-duplicates are one, the newer of two that contradict each other stays, caps hold."""
        own = profile.entries()
        flat = [(name, one) for name in LISTS for one in own[name]]
        if not flat:
            return profile
        vectors = self.embed([one.text for _, one in flat])
        likeness = vectors @ vectors.T
        gone: list[tuple[str, str]] = list(profile.dropped)
        kept: dict[int, Entry] = {}
        for row, (name, one) in enumerate(flat):
            same = next((at for at in kept if flat[at][0] == name and likeness[row, at] > ALIKE),
                        None)  # fmt: skip
            if same is None:
                kept[row] = one
                continue
            old = kept[same]
            last = max(old, one, key=lambda entry: entry.when)
            sources = tuple(dict.fromkeys((*old.sources, *one.sources)))
            kept[same] = replace(last, strength=old.strength + one.strength, sources=sources)
            gone.append((old.text if last is one else one.text, "said twice"))
        for row in [at for at in kept if flat[at][0] == "likes"]:
            for other in [at for at in kept if flat[at][0] == "dislikes"]:
                if row in kept and likeness[row, other] > ALIKE:
                    loser = row if kept[row].when <= kept[other].when else other
                    gone.append((kept.pop(loser).text, "contradicted"))
        lists: dict[str, tuple[Entry, ...]] = {}
        for name in LISTS:
            mine = [one for at, one in kept.items() if flat[at][0] == name]
            ranked = sorted(mine, key=lambda e: (-_weight(e, profile.read), e.text))
            best = set(ranked[: self.cap])
            gone += [(one.text, "over the cap") for one in mine if one not in best]
            lists[name] = tuple(one for one in mine if one in best)
        return _profile(lists, profile.read, gone)


def duplicates(profile: Profile, embed: Embed) -> tuple[int, int]:
    """Entries that say what an earlier one of their list says, and all entries."""
    twice = total = 0
    for own in profile.entries().values():
        total += len(own)
        if len(own) > 1:
            vectors = embed([one.text for one in own])
            twice += int((np.tril(vectors @ vectors.T, -1) > ALIKE).any(axis=1).sum())
    return twice, total


def by_rule(review: Review) -> dict[str, list[str]]:
    """Phrases of a review without a model: those of its sentences for and against.

    A sentence is against where it has a word of complaint, and all are where two stars or fewer
    were given; features are the phrases of the item's name.
    """
    out: dict[str, list[str]] = {name: [] for name in LISTS}
    sentences = [one for one in re.split(r"(?<=[.!?])\s+|\n", review.text) if one.strip()]
    for sentence, found in zip(sentences, _longest(sentences), strict=True):
        words = set(re.findall(r"[a-z]+", sentence.lower()))
        against = review.stars <= 2 or bool(words & _AGAINST)
        out["dislikes" if against else "likes"] += found[:1]
    out["features"] = _longest([review.item])[0][:1]
    return {name: _clean(own) for name, own in out.items()}


def _longest(texts: Sequence[str]) -> list[list[str]]:
    """The phrases of each text, the longest first."""
    rows: list[list[str]] = [[] for _ in texts]
    found = phrases(texts).sort("row", "words", "phrase", descending=[False, True, False])
    for row, phrase in found.select("row", "phrase").iter_rows():
        rows[row].append(phrase)
    return rows


def _clean(texts: Sequence[str]) -> list[str]:
    """At most a few phrases on one line each, none empty or twice."""
    plain = [line(text, _LONGEST).strip(" .;,") for text in texts]
    return list(dict.fromkeys(text for text in plain if any(map(str.isalpha, text))))[:_NEW]


def _profile(
    lists: dict[str, tuple[Entry, ...]], read: int, gone: Sequence[tuple[str, str]]
) -> Profile:
    return Profile(lists["likes"], lists["dislikes"], lists["features"], read, tuple(gone))


def _weight(entry: Entry, now: int) -> float:
    return float(entry.strength * 0.5 ** ((now - entry.when) / _HALF))


def _lists(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
