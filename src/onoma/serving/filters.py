"""Filter expressions over the catalogue's columns: a small grammar, parsed and never evaluated.

    expression = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation = "not" negation | "(" expression ")" | comparison
    comparison = column ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | column [ "not" ] "in" "[" value { "," value } "]"
    value = number | string in single or double quotes | "true" | "false" | "null"

A column is a word of letters, digits, ``_`` and ``.``, or anything between backquotes. On a column
of lists ``=`` and ``in`` ask whether the list holds the value. Unknown values satisfy no comparison
but ``= null`` and those that say ``!=`` or ``not``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.errors import OnomaError

LONGEST = 2000  # characters
DEEPEST = 20  # parentheses and "not" inside each other
MOST_VALUES = 500  # in one expression

Value = str | float | int | bool | None

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>-?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,3})?)(?![\w.])
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<sign><=|>=|!=|==|=|<|>|\(|\)|\[|\]|,)
    | (?P<column>`[^`]+`)
    | (?P<word>[^\W\d][\w.]*)
    )""",
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Comparison:
    """``column sign values``; the sign is one of ``= != < <= > >= in``."""

    column: str
    sign: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    """The rows that ``part`` leaves out."""

    part: Node


@dataclass(frozen=True)
class Both:
    """``and`` or ``or`` of two or more parts."""

    word: str
    parts: tuple[Node, ...]


Node = Comparison | Not | Both


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        OnomaError: it is not of the grammar, too long, too deep or has too many values.
    """
    if len(text) > LONGEST:
        raise OnomaError(f"{len(text)} characters; at most {LONGEST}", where="filter")
    parser = _Parser(text)
    node = parser.expression(0)
    if parser.kind != "end":
        raise parser.wrong("the end")
    return node


def mask(node: Node, items: pl.DataFrame) -> NDArray[np.bool_]:
    """bool[n_items], the rows of a catalogue that satisfy the expression.

    Raises:
        OnomaError: a column that is not there, or a comparison its values do not allow.
    """
    found = items.select(_expression(node, items).alias("kept"))["kept"]
    out: NDArray[np.bool_] = found.to_numpy()
    # An expression of constants has one row for all.
    return out if len(out) == items.height else np.broadcast_to(out, items.height).copy()


class _Parser:
    """Recursive descent over the tokens; the current one is ``kind`` and ``said``."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.values = text, 0, 0
        self._tokens = self._split()
        self.advance()

    def _split(self) -> Iterator[tuple[str, str, int]]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                raise OnomaError(f"cannot be read at character {at + 1}", where="filter")
            yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            at = match.end()
        while True:
            yield "end", "", end

    def advance(self) -> None:
        self.kind, self.said, self.at = next(self._tokens)

    def wrong(self, wanted: str) -> OnomaError:
        said = repr(self.said[:40]) if self.kind != "end" else "the end"
        return OnomaError(
            f"{wanted} is expected at character {self.at + 1}, not {said}", where="filter"
        )

    def keyword(self, *words: str) -> str | None:
        """The word in lower case where it is one of these."""
        word = self.said.lower()
        return word if self.kind == "word" and word in words else None

    def take(self, sign: str) -> None:
        if self.kind != "sign" or self.said != sign:
            raise self.wrong(f"{sign!r}")
        self.advance()

    def expression(self, depth: int) -> Node:
        return self._joined("or", lambda: self._joined("and", lambda: self.negation(depth)))

    def _joined(self, word: str, part: object) -> Node:
        assert callable(part)
        parts = [part()]
        while self.keyword(word):
            self.advance()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Both(word, tuple(parts))

    def negation(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise OnomaError(f"deeper than {DEEPEST}", where="filter")
        if self.keyword("not"):
            self.advance()
            return Not(self.negation(depth + 1))
        if self.kind == "sign" and self.said == "(":
            self.advance()
            node = self.expression(depth + 1)
            self.take(")")
            return node
        return self.comparison()

    def comparison(self) -> Node:
        if self.kind not in ("word", "column") or self.keyword("and", "or", "in", *_CONSTANTS):
            raise self.wrong("a column")
        column = self.said.strip("`")
        self.advance()
        if self.kind == "sign" and self.said in (*_COMPARISONS, "=="):
            sign = "=" if self.said == "==" else self.said
            self.advance()
            return Comparison(column, sign, (self.value(),))
        turned = self.keyword("not") is not None
        if turned:
            self.advance()
        if not self.keyword("in"):
            raise self.wrong("a comparison")
        self.advance()
        self.take("[")
        values = [self.value()]
        while self.said == "," and self.kind == "sign":
            self.advance()
            values.append(self.value())
        self.take("]")
        node = Comparison(column, "in", tuple(values))
        return Not(node) if turned else node

    def value(self) -> Value:
        self.values += 1
        if self.values > MOST_VALUES:
            raise OnomaError(f"more than {MOST_VALUES} values", where="filter")
        kind, said = self.kind, self.said
        out: Value
        if kind == "number":
            out = float(said) if re.search("[.eE]", said) else int(said)
        elif kind == "text":
            out = re.sub(r"\\(.)", r"\1", said[1:-1], flags=re.DOTALL)
        elif kind == "word" and said.lower() in _CONSTANTS:
            out = _CONSTANTS[said.lower()]
        else:
            raise self.wrong("a value")
        self.advance()
        return out


def _expression(node: Node, items: pl.DataFrame) -> pl.Expr:
    if isinstance(node, Not):
        return ~_expression(node.part, items)
    if isinstance(node, Both):
        parts = [_expression(part, items) for part in node.parts]
        return reduce(lambda a, b: a & b if node.word == "and" else a | b, parts)
    return _comparison(node, items)


def _comparison(node: Comparison, items: pl.DataFrame) -> pl.Expr:
    if node.column not in items.columns:
        raise OnomaError(
            f"the catalogue has no column {node.column!r}",
            where="filter",
            fix=f"It has {', '.join(items.columns)}",
        )
    kind = items.schema[node.column]
    column = pl.col(node.column)
    known = [value for value in node.values if value is not None]
    is_list = isinstance(kind, pl.List | pl.Array)
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    for value in known:
        _fits(value, inner, node)
    if node.sign in ("<", "<=", ">", ">="):
        if is_list or not known or isinstance(known[0], bool):
            raise OnomaError(f"{node.column} {node.sign} compares no order", where="filter")
        literal = pl.lit(known[0])
        result = {
            "<": column < literal, "<=": column <= literal,
            ">": column > literal, ">=": column >= literal,
        }[node.sign]  # fmt: skip
        return result.fill_null(False)
    found = pl.lit(False)
    if known:
        if is_list:
            lists = column.arr.to_list() if isinstance(kind, pl.Array) else column
            held = [lists.list.contains(pl.lit(value)) for value in known]
            found = reduce(lambda a, b: a | b, held).fill_null(False)
        else:
            same = [column == pl.lit(value) for value in known]
            found = reduce(lambda a, b: a | b, same).fill_null(False)
    if len(known) < len(node.values):
        found = found | column.is_null()
    return ~found if node.sign == "!=" else found


def _fits(value: Value, kind: Any, node: Comparison) -> None:
    said = "text" if isinstance(value, str) else "truth" if isinstance(value, bool) else "number"
    holds = (
        "text" if kind == pl.String else "truth" if kind == pl.Boolean
        else "number" if kind.is_numeric() else "nothing comparable"
    )  # fmt: skip
    if said != holds:
        raise OnomaError(f"column {node.column!r} holds {holds}, not {said}", where="filter")
