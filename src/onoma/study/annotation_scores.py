"""What plain text analysis says of a text, in numbers that a prompt can hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onoma.errors import OnomaError
from onoma.study.annotation_tasks import Task

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_GOOD = frozenset(
    "amazing awesome beautiful best comfortable delicious easy effective excellent fantastic fast "
    "favorite favourite fine fresh fun gentle glad good gorgeous great happy ideal impressed like "
    "liked love loved lovely loves nice perfect perfectly pleasant pleased recommend reliable "
    "satisfied silky smooth soft super terrific thanks wonderful works worth wow".split()
)
_BAD = frozenset(
    "annoying awful bad broke broken burn burned burns cheap damaged difficult disappointed "
    "disappointing disappointment dry fail failed fake gross hard harsh hate hated horrible itchy "
    "junk lacking leak leaked leaking missing old poor poorly problem refund return returned sad "
    "sadly sticky stopped terrible unfortunately unhappy upset useless waste weak worse worst "
    "wrong".split()
)
_NOT = frozenset("not no never don't doesn't didn't isn't wasn't won't can't couldn't".split())

Score = Callable[[Task], list[Any]]


def sentiment(task: Task) -> list[float]:
    """Liked minus disliked words over both, -1 to 1; negated words count the other way."""
    out = []
    for text in task.texts:
        words = [word.lower() for word in _WORD.findall(text)]
        total, seen = 0, 0
        for place, word in enumerate(words):
            side = (word in _GOOD) - (word in _BAD)
            if side:
                turned = bool(_NOT & set(words[max(0, place - 3) : place]))
                total, seen = total + (-side if turned else side), seen + 1
        out.append(round(total / seen, 2) if seen else 0.0)
    return out


def emphasis(task: Task) -> list[float]:
    """Exclamation marks and words in capitals, a hundred characters."""
    out = []
    for text in task.texts:
        loud = text.count("!") + sum(len(w) > 2 and w.isupper() for w in _WORD.findall(text))
        out.append(round(100 * loud / max(len(text), 1), 2))
    return out


def length(task: Task) -> list[int]:
    """Words."""
    return [len(_WORD.findall(text)) for text in task.texts]


def vocabulary(task: Task) -> list[dict[str, float]]:
    """The share of each label by the words alone: naive Bayes, learnt from the pool."""
    sklearn()
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    words = CountVectorizer(binary=True, lowercase=True)
    seen = words.fit_transform([task.texts[row] for row in task.pool])
    bayes = MultinomialNB(alpha=1.0).fit(seen, task.truth[task.pool])
    shares = bayes.predict_proba(words.transform(task.texts))
    return [
        {name: round(float(share), 2) for name, share in zip(task.labels, row, strict=True)}
        for row in shares
    ]


SCORES: dict[str, Score] = {
    "sentiment": sentiment,
    "emphasis": emphasis,
    "length": length,
    "vocabulary": vocabulary,
}


def features(values: Sequence[Any]) -> Any:
    """float64[n, m]: a score as columns."""
    rows = [list(value.values()) if isinstance(value, dict) else [value] for value in values]
    return np.array(rows, dtype=np.float64)


def sklearn() -> None:
    """Tell how to get scikit-learn where it is missing.

    Raises:
        OnomaError: it is.
    """
    try:
        import sklearn as _  # noqa: F401
    except ImportError:
        raise OnomaError(
            "scikit-learn is not installed", where="study annotation",
            fix="pip install 'onoma[llm]'",
        ) from None  # fmt: skip
