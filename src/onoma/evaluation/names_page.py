"""The names of a catalogue as a map a person can walk: rings of prefixes, titles at their ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.evaluation.report_page import Markup, page, section
from onoma.indexing.agreement import prefix_groups, tag_rows
from onoma.indexing.trie import name_order

if TYPE_CHECKING:
    from onoma.dataset import Dataset
    from onoma.indexing.index import ItemIndex

_MOST = 20_000  # items on a map
_LENGTHS = (90, 70, 55, 40, 30, 20)  # of titles, tried until the map is small enough
_LABELLED = 2  # levels whose groups are named by their categories
_FEWEST = 3  # items of a group that categories may name


def names_map(index: ItemIndex, dataset: Dataset, limit: int = 1_700_000) -> dict[str, Any]:
    """What the page draws, as JSON values.

    Above 20,000 items the most popular are kept; titles are cut until the map fits.

    Args:
        index: the names.
        dataset: the titles, categories and log; popularity orders titles and nothing else.
        limit: bytes of JSON to aim for.

    Returns:
        ``method``, ``n_items`` (all), ``titles`` in the order of the names and ``seen`` (times in
        the log); ``codes``, a list a level of code, run, code, run; ``words`` and ``labels``: a
        list a level of first row, word of the category that stands out among its items.
    """
    seen = np.bincount(dataset.interactions["item"].to_numpy(), minlength=index.n_items)
    rows = name_order(index.codes, index.sizes)
    if len(rows) > _MOST:
        kept = np.zeros(len(rows), dtype=bool)
        kept[np.argsort(-seen, kind="stable")[:_MOST]] = True
        rows = rows[kept[rows]]
    words, labels = _labels(index, dataset, rows)
    titles = [" ".join(title.split()) for title in dataset.titles(rows)]
    found: dict[str, Any] = {
        "method": index.method,
        "n_items": index.n_items,
        "seen": seen[rows].tolist(),
        "codes": [_runs(column) for column in index.codes[rows].T],
        "words": words,
        "labels": labels,
    }
    for length in _LENGTHS:
        found["titles"] = [_cut(title, length) for title in titles]
        if len(_json(found)) <= limit:
            break
    return found


def names_section(found: Mapping[str, Any]) -> str:
    """A section with the map that :func:`names_map` gave; needs :func:`names_style` on its page."""
    shown, count = len(found["titles"]), int(found["n_items"])
    note = "Click a ring or a row to go in, the middle to go out; Escape and the arrows work too."
    if shown < count:
        note += f" The {shown:,} most popular of {count:,} items are drawn."
    script = files("onoma.evaluation").joinpath("names_map.js").read_text("utf-8")
    inner = (
        '<div class="names" tabindex="-1"><div class="names-left">'
        '<svg class="names-chart" viewBox="-245 -245 490 490" role="img" '
        'aria-label="Rings of prefixes; the list beside them says the same"></svg>'
        '<p class="names-told" aria-live="polite"></p></div><div class="names-right">'
        '<input class="names-search" type="search" placeholder="Search titles" '
        'aria-label="Search titles"><div class="names-trail" role="group" '
        'aria-label="The prefix that is open"></div><ul class="names-list"></ul></div>'
        f'<script type="application/json" class="names-data">{_json(found)}</script>'
        f"<script>{script}</script></div>"
    )
    return section("The tree of names", Markup(inner), note=note)


def names_style() -> str:
    """The style of the map."""
    return files("onoma.evaluation").joinpath("names_map.css").read_text("utf-8")


def names_page(index: ItemIndex, dataset: Dataset) -> str:
    """A page of its own, which needs nothing from elsewhere."""
    found = names_map(index, dataset)
    subtitle = f"{index.n_items:,} items named by {index.method}, {index.depth} levels"
    return page(f"Names of {dataset.name}", subtitle, [names_section(found)], style=names_style())


def _labels(
    index: ItemIndex, dataset: Dataset, rows: NDArray[np.int64]
) -> tuple[list[str], list[list[int]]]:
    """The categories that stand out: words, and for each level pairs of first row and word.

    A group is named by the category with the largest surprise, how many items have it by the log
    of how much more often than elsewhere.
    """
    known = tag_rows(dataset)
    if known is None:
        return [], []
    tags, names = known
    has = sp.csr_array(tags[rows] > 0).astype(np.float64)
    usual = has.sum(axis=0) / max(len(rows), 1)
    words: dict[int, int] = {}
    labels = []
    for group in prefix_groups(index)[:_LABELLED]:
        _, first, at, size = np.unique(
            group[rows], return_index=True, return_inverse=True, return_counts=True
        )
        member = sp.csr_array((np.ones(len(rows)), (at, np.arange(len(rows)))))
        cells = sp.coo_array(member @ has)
        share = cells.data / size[cells.row]
        surprise = cells.data * np.log(share / usual[cells.col])
        order = np.lexsort((cells.col, -surprise, cells.row))
        best = order[np.diff(cells.row[order], prepend=-1) > 0]
        best = best[(size[cells.row[best]] >= _FEWEST) & (surprise[best] > 0)]
        level = []
        for group_at, tag in zip(cells.row[best].tolist(), cells.col[best].tolist(), strict=True):
            level += [int(first[group_at]), words.setdefault(tag, len(words))]
        labels.append(level)
    return [names[tag] for tag in words], labels


def _runs(column: NDArray[np.int32]) -> list[int]:
    starts = np.flatnonzero(np.diff(column, prepend=-2))
    runs = np.diff(np.append(starts, len(column)))
    return np.stack([column[starts], runs], axis=1).ravel().tolist()


def _cut(title: str, length: int) -> str:
    return title if len(title) <= length else title[: length - 1].rstrip() + "…"


def _json(found: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate has no UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
