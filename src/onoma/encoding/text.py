"""What the catalogue says of an item, as one line of text."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

FIELDS = (
    "title",
    "brand",
    "artist",
    "author",
    "categories",
    "genres",
    "keywords",
    "tags",
    "description",
)
# Publishers write these where they know nothing; as words they would make strangers alike.
_NOTHING = ("", "unknown", "nan", "none", "null", "n/a", "na", "[]")
# Scripts written without spaces give one token a character; pairs then stand for words.
_TOKEN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}]+"  # noqa: S105
_ENTITIES = {
    "&amp;": "&",
    "&quot;": '"',
    "&#39;": "'",
    "&#x27;": "'",
    "&apos;": "'",
    "&lt;": "<",
    "&gt;": ">",
    "&nbsp;": " ",
    "&reg;": "",
    "&trade;": "",
}


def item_texts(items: pl.DataFrame, fields: Sequence[str] = FIELDS) -> list[str]:
    """One text an item: the known fields in order, separated by full stops.

    Args:
        items: a catalogue; text columns, or lists of text, which are joined by commas.
        fields: columns to read; those the catalogue lacks are skipped.

    Returns:
        n_items texts with tags and entities of HTML removed and white space collapsed; empty
        where every field is missing.
    """
    present = [name for name in fields if name in items.columns]
    if not present:
        return [""] * items.height
    columns = [_clean(_as_text(pl.col(name), items.schema[name])) for name in present]
    joined = pl.concat_str(columns, separator=". ", ignore_nulls=True).fill_null("")
    return items.select(joined.alias("text"))["text"].to_list()


def words_of(texts: Sequence[str]) -> pl.DataFrame:
    """Columns ``row`` and ``term``: every word of every text in lower case, in order."""
    return (
        pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)})
        .with_row_index("row")
        .select("row", pl.col("text").str.to_lowercase().str.extract_all(_TOKEN).alias("term"))
        .explode("term")
        .drop_nulls()
    )


def _as_text(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, pl.List | pl.Array):
        as_list = column.arr.to_list() if isinstance(kind, pl.Array) else column
        texts = as_list.cast(pl.List(pl.String))
        return texts.list.eval(pl.element().drop_nulls()).list.join(", ")
    return column.cast(pl.String)


def _clean(text: pl.Expr) -> pl.Expr:
    text = text.str.replace_all(r"<[^<>]{1,200}>", " ")
    text = text.str.replace_many(list(_ENTITIES), list(_ENTITIES.values()))
    text = text.str.replace_all(r"\s+", " ").str.strip_chars(" .,;")
    return pl.when(text.str.to_lowercase().is_in(_NOTHING)).then(None).otherwise(text)
