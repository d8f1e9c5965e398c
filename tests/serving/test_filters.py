import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.errors import OnomaError
from onoma.serving.filters import DEEPEST, LONGEST, mask, parse

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "year": [1990, 2000, None, 2010],
        "price": [1.5, None, 2.5, -3.0],
        "brand": ["X", "Y's", None, 'q"'],
        "used": [True, False, None, True],
        "tags": [["red", "soap"], [], None, ["blue"]],
        "odd name": ["1", "2", "3", "4"],
    }
)
ROWS = ITEMS.to_dicts()


def kept(text: str) -> str:
    return "".join(ITEMS["item_id"].filter(pl.Series(mask(parse(text), ITEMS))))


@pytest.mark.parametrize(
    "text, rows",
    [
        ("year >= 2000", "bd"),
        ("year = 2000.0", "b"),
        ("year != 2000", "acd"),
        ("not year > 1990", "ac"),
        ("year = null", "c"),
        ("year != null and price != null", "ad"),
        ("price < 2 or brand = 'Y\\'s'", "abd"),
        ("price > -3.5 and not (price > 2)", "ad"),
        ('brand in [\'X\', "q\\""]', "ad"),
        ("brand not in ['X', null]", "bd"),
        ("used = true", "ad"),
        ("tags = 'red'", "a"),
        ("tags in ['red', 'blue']", "ad"),
        ("tags != 'red'", "bcd"),
        ("`odd name` >= '3'", "cd"),
        ("year = 1990 or year = 2000 and brand = 'X'", "a"),
        ("(year = 1990 or year = 2000) and brand = 'X'", "a"),
    ],
)
def test_what_an_expression_keeps(text: str, rows: str) -> None:
    assert kept(text) == rows


@pytest.mark.parametrize(
    "text",
    [
        "", "year", "year =", "= 3", "year = 1 year = 2", "(year = 1", "year in []", "year in [1",
        "year = 'x'", "brand = 3", "brand < 3", "tags < 'a'", "used > true", "year < null",
        "nothing = 1", "__import__('os')", "year = 1; drop", "year == == 1", "not", "and year = 1",
        "year = 1e9999", "year = " + "9" * 40, "'x' = brand",
        "(" * (DEEPEST + 2) + "year = 1" + ")" * (DEEPEST + 2), "not " * (DEEPEST + 2) + "year = 1",
        "year = 1 " + "or year = 1 " * LONGEST, "brand in [" + "'x'," * 600 + "'y']",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_told(text: str) -> None:
    with pytest.raises(OnomaError, match="filter"):
        kept(text)


_NUMBERS = st.integers(-3000, 3000) | st.floats(-5, 5).map(lambda x: round(x, 2))
_COLUMNS = st.sampled_from(["year", "price"])
_SIGNS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a is not None and a < b,
    "<=": lambda a, b: a is not None and a <= b,
    ">": lambda a, b: a is not None and a > b,
    ">=": lambda a, b: a is not None and a >= b,
}
_LEAF = st.tuples(st.just("leaf"), _COLUMNS, st.sampled_from(list(_SIGNS)), _NUMBERS)
_TREES = st.recursive(
    _LEAF,
    lambda inner: (
        st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=8,
)


def _written(tree) -> str:
    if tree[0] == "leaf":
        return f"{tree[1]} {tree[2]} {tree[3]!r}"
    if tree[0] == "not":
        return f"not ({_written(tree[1])})"
    return f"({_written(tree[1])}) {tree[0]} ({_written(tree[2])})"


def _holds(tree, row) -> bool:
    if tree[0] == "leaf":
        return _SIGNS[tree[2]](row[tree[1]], tree[3])
    if tree[0] == "not":
        return not _holds(tree[1], row)
    left, right = _holds(tree[1], row), _holds(tree[2], row)
    return left and right if tree[0] == "and" else left or right


@settings(max_examples=100, deadline=None)
@given(_TREES)
def test_expressions_mean_what_they_say(tree) -> None:
    assert kept(_written(tree)) == "".join(r["item_id"] for r in ROWS if _holds(tree, r))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="year =<>!()[]'\"`andotri,.1e-\\\x00é", max_size=60) | st.text(max_size=40))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        kept(text)
    except OnomaError:
        pass
