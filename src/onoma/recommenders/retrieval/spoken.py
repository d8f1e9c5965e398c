"""Why this item, said ahead of time: a table of sentences by interest and item."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from onoma.dataset import Dataset
from onoma.encoding.text import item_texts
from onoma.language import BadAnswer, Decoding, LanguageModel
from onoma.language.templates import Template, line
from onoma.recommenders.retrieval.interests import Facets

_WORD = re.compile(r"[^\W\d_]{4,}")
_PLAIN = frozenset(
    "because this that with from they their them your you like likes liked love loves have has "
    "will would might may could enjoy enjoys suits good great kind here also more same some what "
    "when which than then very just about into been were other others perfect choice".split()
)
_UNSAFE = frozenset("guaranteed guarantee cure cures free best cheapest hate stupid ugly".split())
_SHORT, _LONG = 4, 40  # words


def judged(text: str, interest: str, about: str) -> str:
    """What is wrong with an explanation; empty where nothing is.

    Rules, not a model: no text is judged by who wrote it.

    Args:
        text: the explanation.
        interest: that it is for.
        about: all that the catalogue says of the item.

    Returns:
        ``unclear`` (too short or long), ``unsafe`` (a promise or an insult), ``irrelevant`` (says
        nothing of the interest) or ``not factual`` (a word of four letters or more that neither
        the catalogue nor plain speech has).
    """
    words = text.lower().split()
    if not _SHORT <= len(words) <= _LONG:
        return "unclear"
    said = {found.lower() for found in _WORD.findall(text)}
    known = {found.lower() for found in _WORD.findall(f"{about} {interest}")}
    if (said & _UNSAFE) - known:
        return "unsafe"
    if not {found.lower() for found in re.findall(r"\w+", interest)} & set(re.findall(
        r"\w+", text.lower())):  # fmt: skip
        return "irrelevant"
    return "not factual" if said - known - _PLAIN else ""


def table(
    dataset: Dataset,
    facets: Facets,
    items: Sequence[int],
    model: LanguageModel | None = None,
    domain: Any = "products",
    tokens: int = 40,
) -> tuple[pl.DataFrame, Counter[str]]:
    """Explanations of items for every interest that they share a category with.

    Args:
        dataset: the catalogue.
        facets: of it.
        items: codes to explain.
        model: writes the sentences; a rule where None, and where a sentence is turned down.
        domain: how one speaks of the items.
        tokens: of a sentence.

    Returns:
        Columns ``item``, ``interest`` (codes), ``text`` and ``by`` (``rule`` or ``model``), and
        counts of the judge's verdicts.
    """
    about = item_texts(dataset.items)
    titles = dataset.titles(np.arange(dataset.n_items))
    pairs = [
        (int(item), int(kind))
        for item in items
        for kind in facets.of_kind.indices[
            facets.of_kind.indptr[item] : facets.of_kind.indptr[item + 1]
        ]
    ]
    counts: Counter[str] = Counter()
    written: list[str | BadAnswer] = [""] * len(pairs)
    if model is not None:
        template, room = Template.load("recgpt-explain"), Decoding(max_tokens=tokens)

        def ask(pair: tuple[int, int]) -> str:
            messages = template.messages(
                domain, interest=facets.kinds[pair[1]], item=line(about[pair[0]])
            )
            return line(model.complete(messages, decoding=room).text, 400)

        written = model.each(ask, pairs)
    rows = []
    for (item, kind), text in zip(pairs, written, strict=True):
        interest, by = facets.kinds[kind], "model"
        if model is not None:
            counts["asked"] += 1
            wrong = (
                text.kind if isinstance(text, BadAnswer) else judged(text, interest, about[item])
            )
            counts[f"rejected: {wrong}" if wrong else "good"] += 1
        if model is None or wrong or isinstance(text, BadAnswer):
            text, by = f"Because you like {interest}: {line(titles[item])} is of that kind.", "rule"
        rows.append((item, kind, text, by))
    frame = pl.DataFrame(
        rows,
        schema={"item": pl.Int32, "interest": pl.Int32, "text": pl.String, "by": pl.String},
        orient="row",
    )
    return frame, counts
