"""Systems: the published systems, how far each is, what was asked of it and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from onoma.evaluation.report_page import cards, esc, table
from onoma.studio.frame import Visitor, element, empty, frame
from onoma.systems import headline, load, published, tally

_ALL = "all"


async def page(visitor: Visitor) -> None:
    """Draw the page."""
    said = "The published systems that Onoma is to cover, each a recipe of shared parts."
    with frame(visitor, "systems", "Systems", said):
        rows = await run_in_threadpool(visitor.studio.once, "systems", _rows, "systems")
        ready = sum(row["status"] == "ready" for row in rows)
        measured = sum(bool(row.get("measured")) for row in rows)
        ui.html(
            cards(
                [
                    ("Systems", str(len(rows)), "in the catalogue"),
                    ("Ready", str(ready), "a recipe or a command covers them"),
                    ("Measured", str(measured), "against what was asked"),
                ]
            ),
            sanitize=False,
        )
        with element("div", "tools spaced"):
            word = ui.input("Name, paper or kind").props("outlined dense clearable debounce=150")
            status = ui.toggle([_ALL, "ready", "planned"], value=_ALL).props("no-caps unelevated")
            status.props["aria-label"] = "Status"
        box = element("div", aria_live="polite")

        def show() -> None:
            kept = chosen(rows, word.value or "", status.value)
            box.clear()
            with box:
                if kept:
                    ui.html(listed(kept), sanitize=False)
                else:
                    empty("No system is called that.", "Try another word, or all of them.")

        word.on_value_change(show)
        status.on_value_change(show)
        show()


def _rows() -> list[dict[str, Any]]:
    rows = load()
    for row in rows:
        row["published"] = published(row["recipe"]) if row.get("recipe") else {}
    return rows


def chosen(
    rows: Sequence[Mapping[str, Any]], words: str, status: str = _ALL
) -> list[Mapping[str, Any]]:
    """The systems of a status whose id, name, paper or kind hold all words."""
    asked = words.lower().split()
    out = []
    for row in rows:
        text = " ".join(str(row[key]) for key in ("id", "name", "paper", "kind")).lower()
        if status in (_ALL, row["status"]) and all(word in text for word in asked):
            out.append(row)
    return out


def listed(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a system, with what is known of it folded away."""
    return f'<div class="systems">{"".join(_row(row) for row in rows)}</div>'


def _row(row: Mapping[str, Any]) -> str:
    figures = tally(dict(row)) or headline(row["published"])
    status = esc(row["status"])
    head = (
        f'<span class="id">{esc(row["id"])}</span><span class="called">{esc(row["name"])}</span>'
        f'<span class="kind">{esc(row["kind"])}</span>'
        f'<span class="figures">{esc(figures)}</span><span class="tag {status}">{status}</span>'
    )
    parts = [f"<p>{esc(row['paper'])}</p>"]
    if row.get("recipe"):
        parts.append(f"<p><code>onoma run {esc(row['recipe'])} --data DIR</code></p>")
    if row.get("command"):
        only = f" ({row['part']} only)" if row.get("part") else ""
        parts.append(f"<p>Measured by{esc(only)}: <code>{esc(row['command'])}</code></p>")
    for done in row.get("measured", []):
        lines = [
            [asked, figure, "yes" if holds else "no"]
            for asked, figure, holds in zip(
                row["acceptance"], done["figures"], done["holds"], strict=True
            )
        ]
        note = f", {done['note']}" if done.get("note") else ""
        title = f"{done['data']}{note}, {done['date']}, data {done['hash']}"
        parts.append(f"<h3>{esc(title)}</h3>{table(['asked', 'measured', 'holds'], lines)}")
    shown = [
        [f"{source} on {data}", ", ".join(f"{key} {value:.4f}" for key, value in found.items())]
        for data, sources in row["published"].items()
        for source, found in sources.items()
    ]
    if shown:
        parts.append(f"<h3>Published</h3>{table(['', 'figures'], shown)}")
    if not row.get("measured") and not shown:
        parts.append('<p class="note">Nothing was measured yet.</p>')
    return f'<details><summary>{head}</summary><div class="inner">{"".join(parts)}</div></details>'
