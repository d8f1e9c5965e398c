"""Blanks in records of events: spans that never cut a name, a person or a number in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARE = 0.15  # of the tokens of a record that are masked, as in T5 and GLM
_MEAN = 3  # tokens of an ordinary span


@dataclass(frozen=True)
class Piece:
    """Part of a record.

    Attributes:
        tokens: int32[l].
        words: int32[l], the word of each token, from 0.
        whole: whether it is an entity: masked as a whole or not at all.
    """

    tokens: NDArray[np.int32]
    words: NDArray[np.int32]
    whole: bool


def spans(
    pieces: Sequence[Piece],
    rng: np.random.Generator,
    most: int,
    entities: bool,
    target: int | None = None,
) -> list[tuple[int, int]]:
    """Where to blank a record: about :data:`SHARE` of its tokens, at most ``most`` spans.

    Args:
        pieces: of the record, in order.
        rng: draws the spans.
        most: blanks there are.
        entities: an entity is masked as a whole (RecSysLLM); else any tokens are, as in T5.
        target: a piece that is masked as a whole in either case, and behind which nothing is.

    Returns:
        Half-open ranges of tokens, in order, none touching another.
    """
    sizes = np.array([len(piece.tokens) for piece in pieces])
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    inside = np.zeros(total, dtype=bool)
    for piece, end in zip(pieces, ends, strict=True):
        inside[end - len(piece.tokens) : end] = piece.whole
    taken = np.zeros(total + 1, dtype=bool)
    found: list[tuple[int, int]] = []
    wanted = max(1, round(SHARE * total))
    if target is not None:
        found.append((int(ends[target] - sizes[target]), int(ends[target])))
        taken[found[0][0] :] = True
        wanted += int(taken.sum()) - int(sizes[target])
    for at in rng.permutation(total):
        if len(found) >= most or int(taken.sum()) >= wanted:
            break
        if entities and inside[at]:
            number = int(np.searchsorted(ends, at, side="right"))
            start, stop = int(ends[number] - sizes[number]), int(ends[number])
        else:
            start, stop = int(at), int(min(at + rng.integers(1, 2 * _MEAN), total))
            if entities:  # an ordinary span ends where an entity begins
                stop = start + int(np.argmax(np.append(inside[start:stop], True)))
        if not taken[max(start - 1, 0) : stop + 1].any():
            taken[start:stop] = True
            found.append((start, stop))
    return sorted(found)


def blanked(
    tokens: NDArray[np.int32],
    words: NDArray[np.int32],
    where: Sequence[tuple[int, int]],
    blanks: Sequence[int],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The record with blanks for spans, its words, and every blank with what it stands for.

    The answer keeps the order of the record, and the tokens inside a span theirs.
    """
    ask, of, answer, last = [], [], [], 0
    for number, (start, stop) in enumerate(where):
        blank = np.array([blanks[number]], dtype=np.int32)
        ask += [tokens[last:start], blank]
        of += [words[last:start], words[start : start + 1]]
        answer += [blank, tokens[start:stop]]
        last = stop
    ask.append(tokens[last:])
    of.append(words[last:])
    return np.concatenate(ask), np.concatenate(of), np.concatenate(answer)
