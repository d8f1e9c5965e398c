"""Free text to items of the catalogue: exactly, by spelling, by meaning, or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onoma.language.mentions import mentions
from onoma.language.spelling import Spelling, Tokens, numerals, spelling, squashed

How = Literal["exact", "fuzzy", "dense", "none"]

_TRIED = 32  # spellings that are looked at closely, best first
_AT_ONCE = 1 << 24  # pairs of texts compared in one go
_SMALL = frozenset("the an of and in on to at".split())


@dataclass(frozen=True)
class Grounded:
    """Where a text leads.

    Attributes:
        row: of the catalogue; -1 where the text names none of its items.
        how: by what it was found.
        score: 1 for an exact match, the likeness of the spelling or the cosine otherwise; 0 for
            none.
    """

    row: int = -1
    how: How = "none"
    score: float = 0.0


@dataclass(frozen=True)
class Counts:
    """How texts were grounded; what a metrics file records.

    Attributes:
        exact: named an item.
        fuzzy: repaired by spelling.
        dense: repaired by meaning.
        rejected: named nothing of the catalogue.
        repeated: of those that named an item, the ones whose item the list had before.
    """

    exact: int = 0
    fuzzy: int = 0
    dense: int = 0
    rejected: int = 0
    repeated: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))

    def __str__(self) -> str:
        return (
            f"grounded {self.exact} exact, {self.fuzzy} fuzzy, {self.dense} dense; "
            f"{self.rejected} rejected, {self.repeated} repeated"
        )

    @property
    def texts(self) -> int:
        """All texts that were counted."""
        return self.exact + self.fuzzy + self.dense + self.rejected

    def report(self) -> dict[str, int]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def of(cls, found: Iterable[Grounded]) -> Counts:
        """Of the texts of one list."""
        found = list(found)
        rows = [one.row for one in found if one.row >= 0]
        ways = [one.how for one in found]
        return cls(
            exact=ways.count("exact"),
            fuzzy=ways.count("fuzzy"),
            dense=ways.count("dense"),
            rejected=ways.count("none"),
            repeated=len(rows) - len(set(rows)),
        )


class _Form(NamedTuple):
    """A text to compare: where it comes from, and whether it is all of its title."""

    text: str
    row: int
    numerals: Tokens
    whole: bool


class Grounder:
    """Finds the items that texts name.

    A text leads to an item in the first of these ways that finds one:

    1. exact: the same title but for case, the place of the article (``Postman, The``), a year in
       brackets at the end, punctuation, accents, brackets and the way numerals are written;
    2. fuzzy: a spelling at least ``fuzzy`` alike whose words differ by typing errors alone: no
       word more or less but articles and prepositions, no short word changed, no
       beginning changed, no ending added or lost;
    3. dense: the nearest title by ``embed``, at least ``dense`` near.

    In every way the numerals of both must be the same in the same order, however they are
    written (``IV``, ``4``, ``four``), so that no sequel stands for another; and where both have a
    year, the years must agree. A text or a title may have something in brackets that the other
    lacks; where both have something there, it must be the same, for it may tell items apart
    (``Plate (B)``, ``Plate (C)``). A text that fits several items names none of them, except that
    of items with one title and year the first is taken.

    Args:
        titles: n texts; the row of a title is its place.
        embed: texts to float32[m, d], rows of unit length; the catalogue is embedded when it is
            first needed.
        fuzzy: likeness asked for, 0 to 100: twice the length of the longest common subsequence
            over both lengths, in percent.
        dense: cosine asked for.
    """

    def __init__(
        self,
        titles: Sequence[str],
        *,
        embed: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
        fuzzy: float = 90.0,
        dense: float = 0.85,
    ) -> None:
        if not 0 < fuzzy <= 100 or not 0 < dense <= 1:
            raise ValueError("fuzzy must be above 0 and at most 100, dense above 0 and at most 1")
        self.titles = list(titles)
        self._embed, self._fuzzy, self._dense = embed, fuzzy, dense
        self._spelled = [spelling(title) for title in self.titles]
        self._years = np.array([one.year for one in self._spelled], dtype=np.int64)
        self._exact: dict[object, list[int]] = defaultdict(list)
        # What to compare, by numerals: what has others is never compared.
        self._spellings: dict[Tokens, list[_Form]] = defaultdict(list)
        self._rows: dict[Tokens, list[int]] = defaultdict(list)
        for row, one in enumerate(self._spelled):
            for key in _keys(one):
                self._exact[key].append(row)
            for form in _forms(one, row):
                self._spellings[form.numerals].append(form)
            for kind in {numerals(one.full), *(form.numerals for form in _forms(one, row))}:
                self._rows[kind].append(row)
        self._vectors: NDArray[np.float32] | None = None

    def ground(self, texts: Sequence[str]) -> list[Grounded]:
        """The item that each text names.

        Args:
            texts: one mention each, such as :meth:`lines` gives.

        Returns:
            One :class:`Grounded` a text.
        """
        asked = [self._asked(text) for text in texts]
        out = [self._exactly(one) for one in asked]
        for finder in (self._by_spelling, self._by_meaning):
            left = [place for place, found in enumerate(out) if found is None]
            if left:
                found = finder([asked[place] for place in left], [texts[place] for place in left])
                for place, one in zip(left, found, strict=True):
                    out[place] = one
        return [one or Grounded() for one in out]

    def take(self, texts: Sequence[str]) -> tuple[list[int], Counts]:
        """Distinct rows that a list of texts names, in its order, and what became of the rest."""
        found = self.ground(texts)
        return list(dict.fromkeys(one.row for one in found if one.row >= 0)), Counts.of(found)

    def lines(self, text: str) -> list[str]:
        """The mentions of items in a free answer, in their order; see :func:`mentions`."""
        return mentions(text, lambda part: self._exactly(self._asked(part)) is not None)

    def _asked(self, text: str) -> Spelling:
        """A text taken apart; its parts are left where titles with other brackets have them."""
        one = spelling(text)
        parts = tuple(part for part in one.parts if ("part", part) not in self._exact)
        return replace(one, parts=parts)

    def _exactly(self, asked: Spelling) -> Grounded | None:
        """None where nothing is found; a :class:`Grounded` without a row where several are."""
        for wanted in _wanted(asked):
            rows = sorted({row for key in wanted for row in self._exact.get(key, ())})
            rows = self._of_year(rows, asked.year)
            if rows:
                row = self._one(rows)
                return Grounded() if row is None else Grounded(row, "exact", 1.0)
        return None

    def _by_spelling(self, asked: list[Spelling], _: list[str]) -> list[Grounded | None]:
        from rapidfuzz import fuzz, process

        out: list[Grounded | None] = [None] * len(asked)
        queries: dict[Tokens, list[_Form]] = defaultdict(list)
        for place, one in enumerate(asked):
            for form in _forms(one, place):
                queries[form.numerals].append(form)
        for kind, wanted in queries.items():
            there = self._spellings.get(kind)
            if not there:
                continue
            known = [form.text for form in there]
            step = max(1, _AT_ONCE // len(known))
            for begin in range(0, len(wanted), step):
                part = wanted[begin : begin + step]
                likeness = process.cdist(
                    [form.text for form in part], known, scorer=fuzz.ratio,
                    score_cutoff=self._fuzzy, dtype=np.float32,
                )  # fmt: skip
                for form, scores in zip(part, likeness, strict=True):
                    if out[form.row] is None:
                        out[form.row] = self._alike(form, asked[form.row].year, scores, there)
        return out

    def _alike(
        self, form: _Form, year: int, scores: NDArray[np.float32], there: list[_Form]
    ) -> Grounded | None:
        found = np.flatnonzero(scores >= self._fuzzy)
        best = found[np.argsort(-scores[found], kind="stable")][:_TRIED]
        alike = [
            (float(scores[place]), other.row)
            for place in best.tolist()
            if (other := there[place]).whole or form.whole
            if self._of_year([other.row], year) and _typed(form.text, other.text)
        ]
        if not alike:
            return None
        score = alike[0][0]
        row = self._one(sorted({row for likeness, row in alike if likeness == score}))
        return None if row is None else Grounded(row, "fuzzy", score / 100)

    def _by_meaning(self, asked: list[Spelling], texts: list[str]) -> list[Grounded | None]:
        out: list[Grounded | None] = [None] * len(asked)
        places = [
            place
            for place, one in enumerate(asked)
            if texts[place].strip() and numerals(one.full) in self._rows
        ]
        if self._embed is None or not places:
            return out
        if self._vectors is None:
            self._vectors = np.asarray(self._embed(self.titles), dtype=np.float32)
        vectors = np.asarray(self._embed([texts[place] for place in places]), dtype=np.float32)
        for place, vector in zip(places, vectors, strict=True):
            rows = np.array(
                self._of_year(self._rows[numerals(asked[place].full)], asked[place].year)
            )
            if len(rows):
                near = self._vectors[rows] @ vector
                best = int(near.argmax())
                if near[best] >= self._dense:
                    score = min(float(near[best]), 1.0)
                    out[place] = Grounded(int(rows[best]), "dense", score)
        return out

    def _of_year(self, rows: Sequence[int], year: int) -> list[int]:
        """Those whose year agrees: those of that year if there are any, else those without."""
        if not year:
            return list(rows)
        same = [row for row in rows if self._years[row] == year]
        return same or [row for row in rows if not self._years[row]]

    def _one(self, rows: Sequence[int]) -> int | None:
        """The first of rows that have one title and year; None where they have several."""
        titles = {(self._spelled[row].raw, self._spelled[row].year) for row in rows}
        return rows[0] if len(titles) == 1 else None


def _forms(one: Spelling, row: int) -> list[_Form]:
    whole = [_Form(" ".join(one.bare), row, numerals(one.bare), True)] if one.bare else []
    return [*whole, *(_Form(" ".join(p), row, numerals(p), False) for p in one.parts)]


def _keys(one: Spelling) -> set[object]:
    """What a title is found by."""
    out: set[object] = {("raw", one.raw)} if one.raw else set()
    if one.full:
        out |= {("full", one.full), ("bare", one.bare), ("joined", _joined(one.bare))}
    for part in one.parts:
        out |= {("part", part), ("joined part", _joined(part))}
    return out


def _wanted(one: Spelling) -> Iterator[list[object]]:
    """What a text is looked up by: one step after the other, the strictest first.

    A part of a text may be a whole title, and a whole text a part of one.
    """
    yield [("raw", one.raw)]
    if one.full:
        yield [("full", one.full)]
        yield [("bare", one.bare)]
        yield [("part", one.bare), *(("bare", part) for part in one.parts)]
        joined = _joined(one.bare)
        yield [("joined", joined)]
        yield [("joined part", joined), *(("joined", _joined(part)) for part in one.parts)]


def _joined(form: Tokens) -> tuple[Tokens, str]:
    return numerals(form), squashed(form)


def _typed(one: str, other: str) -> bool:
    """Whether two texts differ by typing errors alone."""
    from rapidfuzz.distance import DamerauLevenshtein

    left, right = one.split(), other.split()
    for token in list(left):
        if token in right:
            left.remove(token)
            right.remove(token)
    left = [token for token in left if token not in _SMALL]
    right = [token for token in right if token not in _SMALL]
    if len(left) != len(right):
        return "".join(left) == "".join(right)  # words run together
    return all(
        a == b
        # Words that go on (Alien, Aliens) or begin otherwise (Bare, Dare) are other words.
        or (a[:1] == b[:1] and not a.startswith(b) and not b.startswith(a))
        and DamerauLevenshtein.distance(a, b)
        <= (max(len(a), len(b)) >= 5) + (min(len(a), len(b)) >= 10)
        for a, b in zip(left, right, strict=True)
    )
