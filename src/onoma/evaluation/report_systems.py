"""Sections of a report that only some systems have: clicks, tags, written texts, names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onoma.evaluation.report_page import Markup, bar, esc, number, section, table


def clicks_section(metrics: Mapping[str, Any]) -> str:
    """AUC and log-loss of a click ranker."""
    told = metrics.get("clicks") or {}
    rows = [
        [name, number(row.get("auc")), number(row.get("logloss")), number(row.get("pairs"))]
        for name, row in told.items()
    ]
    note = "The target of every case and one item, drawn evenly, that its user never took."
    head = ["cases of", "AUC", "log-loss", "pairs"]
    return section("Clicks", table(head, rows), note=note) if rows else ""


def blend_section(metrics: Mapping[str, Any]) -> str:
    """What tags add to a user tower, share by share."""
    told = metrics.get("blend") or {}
    test = told.get("test") or {}
    rows = [
        [
            f"{float(beta):g}",
            *(number(row.get(key)) for key in ("recall", "new_recall", "tail")),
            *(number(test["swapped"].get(beta, {}).get(key)) for key in ("new_recall", "tail")),
        ]
        for beta, row in test.get("betas", {}).items()
    ]
    if not rows:
        return ""
    k, tags = told.get("k", 100), test.get("tags", {})
    head = [
        "share of the user", f"recall@{k}", "of new categories", "shown from the tail",
        "of new categories, tags swapped", "tail, tags swapped",
    ]  # fmt: skip
    note = (
        f"Validation picks {told.get('chosen')}. {number(test.get('new_cases'))} of "
        f"{number(test.get('cases'))} targets are of a category that the history lacks. The next "
        f"category is among the first 30 tags' {number(tags.get('kinds'), 1)} in "
        f"{number(tags.get('hit@30'))}, among as many popular ones in "
        f"{number(tags.get('popular'))} of the cases."
    )
    return section("What the tags add", table(head, rows), note=note)


def search_section(metrics: Mapping[str, Any]) -> str:
    """Personalised search, beside the query alone and with the query of another."""
    told = metrics.get("search") or {}
    if not told:
        return ""
    names = {"stranger": "the query, no history", "other": "the query of another case"}
    rows = [
        [names.get(name, name), *(number(row.get(key)) for key in ("hr", "mrr", "ndcg"))]
        for name, row in told.items()
        if isinstance(row, Mapping)
    ]
    k = told.get("k", 10)
    head = ["", f"HR@{k}", f"MRR@{k}", f"NDCG@{k}"]
    note = f"Searches: {told.get('searches')}."
    if not rows:
        return section("Search", f"<p>{esc(note)}</p>")
    note += f" {number(told.get('cases'))} test cases, asked by the query of their target."
    return section("Search", table(head, rows), note=note)


def written_section(metrics: Mapping[str, Any]) -> str:
    """The cost sheet of texts that were written about items, prompt by prompt."""
    prompts = (metrics.get("language") or {}).get("prompts") or {}
    rows = [
        [
            name,
            number(row.get("asked")),
            number(row.get("written", 0) + row.get("cut", 0)),
            number(row.get("prompt_tokens_per_item"), 1),
            number(row.get("completion_tokens_per_item"), 1),
        ]
        for name, row in prompts.items()
    ]
    head = ["prompt", "items", "texts kept", "tokens read an item", "tokens written an item"]
    return section("Texts written about items", table(head, rows)) if rows else ""


def health_section(health: Mapping[str, Any]) -> str:
    """Use of the codes of an index, from its health report."""
    levels = health.get("levels") or []
    rows = [
        [
            f"level {place}",
            f"{number(level.get('used'))} / {number(level.get('size'))}",
            number(level.get("entropy"), 2),
            Markup(number(level.get("evenness"), 3) + bar(level.get("evenness", 0.0), 1.0)),
            number(level.get("prefixes")),
            number(level.get("largest")),
            number(level.get("branching"), 1),
        ]
        for place, level in enumerate(levels, start=1)
    ]
    before, after = health.get("before") or {}, health.get("after") or {}
    note = ""
    if before:
        note = (
            f"{number(health.get('n_items'))} names by {health.get('method', '?')}: "
            f"{number(before.get('items'))} items ({100 * before.get('share', 0.0):.1f} %) share a "
            f"name before the disambiguation level, {number(after.get('items'))} after it."
        )
    head = ["", "codes used", "entropy, bits", "evenness", "prefixes", "largest", "branching"]
    return section("Names", table(head, rows), _agreement(health.get("agreement") or {}), note=note)


def _agreement(found: Mapping[str, Any]) -> str:
    """What the prefixes know of the items."""

    def cell(level: Mapping[str, Any], key: str, scale: float, unit: str) -> str:
        value = level.get(key)
        return f"{scale * value:.1f}{unit}" if isinstance(value, int | float) else "–"

    rows = [
        [
            f"level {place}",
            *(cell(level, key, 100, " %") for key in ("explained", "beyond_chance")),
            *(cell(level, key, 1, " x") for key in ("alike", "bought", "follows")),
        ]
        for place, level in enumerate(found.get("levels") or [], start=1)
    ]
    head = ["a prefix tells of", "vectors' variance", "beyond chance", "categories",
            "bought together", "next item"]  # fmt: skip
    error = found.get("error")
    words = "The last three are ratios to the same names dealt to the items at random."
    if isinstance(error, int | float):
        words += f" Decoded, the names miss {100 * error:.1f} % of the vectors' variance."
    return f'<p class="note">{words}</p>{table(head, rows)}' if rows else ""
