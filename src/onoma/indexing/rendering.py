"""Names as strings: new tokens for a vocabulary, or plain text for a text-to-text model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.indexing.index import ItemIndex

STYLES = ("tokens", "text")
_TOKEN = re.compile(r"<[a-z]+_\d+>")


def render(index: ItemIndex, style: str) -> list[str]:
    """The name of every item as a string; different items have different strings.

    ``tokens`` writes a new token a code, ``<a_17><b_203>``, the letter for the level, so that a
    code of one level is never taken for that of another. ``text`` writes words where the codes
    are words and numbers elsewhere, parted by blanks, ``red soap #2`` or ``17 203``, which a
    text model's own subwords spell; ``#`` marks the counter of a name whose path ends there.

    Args:
        index: the names.
        style: ``tokens`` or ``text``.

    Raises:
        OnomaError: an unknown style.
    """
    columns = [_level(index, level, style) for level in range(index.depth)]
    join = "" if style == "tokens" else " "
    words = [
        np.append(np.array(column, dtype=object), "")[codes]  # -1, behind the end, is ""
        for column, codes in zip(columns, index.codes.T, strict=True)
    ]
    return [join.join(word for word in name if word) for name in zip(*words, strict=True)]


def vocabulary(index: ItemIndex) -> list[str]:
    """All new tokens of ``tokens``, level by level, for adding to a tokenizer."""
    return [token for level in range(index.depth) for token in _level(index, level, "tokens")]


def read(index: ItemIndex, names: Sequence[str], style: str) -> NDArray[np.int64]:
    """int64[n], the items of strings as :func:`render` writes them; -1 where no item has the name.

    Raises:
        OnomaError: an unknown style.
    """
    known = [
        {word: code for code, word in enumerate(_level(index, level, style))}
        for level in range(index.depth)
    ]
    codes = np.full((len(names), index.depth), -1, dtype=np.int64)
    lost = np.zeros(len(names), dtype=bool)
    for row, name in enumerate(names):
        said = _TOKEN.findall(name) if style == "tokens" else name.split()
        whole = style == "text" or "".join(said) == name
        found = [level.get(word, -1) for level, word in zip(known, said, strict=False)]
        lost[row] = not said or not whole or len(said) > index.depth or -1 in found
        codes[row, : len(found)] = found
    codes[lost] = -1
    items = index.trie.find(codes)
    items[lost] = -1
    return items


def _level(index: ItemIndex, level: int, style: str) -> list[str]:
    if style not in STYLES:
        raise OnomaError(f"no style is called {style!r}", fix=f"Known: {', '.join(STYLES)}")
    size = index.sizes[level]
    if style == "tokens":
        return [f"<{_letters(level)}_{code}>" for code in range(size)]
    written = index.meta.get("vocabulary")
    if written is None:
        return [str(code) for code in range(size)]
    words = written[level] if level < len(written) else []
    return [*words, *(f"#{number}" for number in range(size - len(words)))]


def _letters(level: int) -> str:
    more, last = divmod(level, len(ascii_lowercase))
    return (_letters(more - 1) if more else "") + ascii_lowercase[last]
