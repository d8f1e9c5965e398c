"""The audit as one self-contained HTML page: no script, no outside file, inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from onoma.evaluation.audit import Audit

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--line:#d8dde3;--bar:#3f6fb5;
--leak:#b3261e;--caution:#9a6700;--fine:#1a7f37;--paper:#fff}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--line:#363c44;--bar:#7ba7e8;
--leak:#ff8a80;--caution:#e3b341;--fine:#56d364;--paper:#14171a}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;
margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;
margin-top:2.2rem;border-top:1px solid var(--line);padding-top:1rem}p.soft,td.soft,figcaption{
color:var(--soft)}ul.findings{list-style:none;padding:0}ul.findings li{border-left:4px solid;
padding:.2rem .8rem;margin:.5rem 0}li.leak{border-color:var(--leak)!important}li.caution{
border-color:var(--caution)!important}li.fine{border-color:var(--fine)!important}li b{
text-transform:uppercase;font-size:.75rem;letter-spacing:.05em}li.leak b{color:var(--leak)}
li.caution b{color:var(--caution)}li.fine b{color:var(--fine)}table{border-collapse:collapse;
width:100%}td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--line)}
td:first-child,th:first-child{text-align:left}.wide{overflow-x:auto}svg{width:100%;height:auto}
svg text{fill:var(--ink);font:13px system-ui,sans-serif}svg .bar{fill:var(--bar)}
svg .second{fill:var(--bar);opacity:.45}svg line{stroke:var(--ink);stroke-width:1.5}
figure{margin:1rem 0}code{font-size:.9em}
"""
_MEANING = {
    "leak": "Leak: a figure can be had without learning what is asked.",
    "caution": "Caution: it changes what a figure means.",
    "fine": "Fine.",
}


def page(audit: Audit) -> str:
    """The HTML text; every value from the data is escaped."""
    name = escape(str(audit.data["name"]))
    counts = (
        f"{audit.data['users']:,} users, {audit.data['items']:,} items, "
        f"{audit.data['interactions']:,} interactions, {audit.data['test_cases']:,} test cases; "
        f"data hash {escape(str(audit.data['hash']))}; leave-one-out"
    )
    parts = [
        f"<h1>Audit of {name}</h1><p class=soft>{counts}. {audit.seconds:.0f} s.</p>",
        "<h2>What this data can and cannot prove</h2>",
        _findings(audit),
        "<h2>Advised protocol</h2><ol>",
        *(f"<li>{escape(line)}</li>" for line in audit.advice),
        "</ol>",
        "<h2>Floors: what needs no training</h2>",
        _floors(audit.floors),
        "<h2>The last item and those before it</h2>",
        _memory(audit.figures["memory"]),
        "<h2>The transition graph around the last item</h2>",
        _reach(audit.figures["branching"], int(audit.data["items"])),
        "<h2>All numbers</h2>",
        _numbers(audit.figures),
    ]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>Audit of {name}</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def bars(
    rows: Sequence[tuple[str, float, tuple[float, float] | None]], label: str, form: str = ".4f"
) -> str:
    """Horizontal bars with optional intervals as inline SVG.

    Args:
        rows: text, value, and low and high of its interval.
        label: what a screen reader says.
        form: format of the printed value.
    """
    top = max([max(value, *(ends or (value,))) for _, value, ends in rows] + [1e-12])
    left, width, step = 270, 430, 26
    out = [
        f'<svg viewBox="0 0 800 {step * len(rows) + 8}" role="img" aria-label="{escape(label)}">'
    ]
    for place, (text, value, ends) in enumerate(rows):
        y = place * step + 4
        long = value / top * width
        shade = "second" if "shuffled" in text else "bar"
        out.append(f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(text)}</text>')
        out.append(f'<rect class="{shade}" x="{left}" y="{y}" width="{long:.1f}" height="18"/>')
        end = long
        if ends:
            low, high = (left + one / top * width for one in ends)
            out.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 9}" y2="{y + 9}"/>')
            end = high - left
        out.append(f'<text x="{left + end + 8:.1f}" y="{y + 15}">{value:{form}}</text>')
    return "".join(out) + "</svg>"


def floor_name(row: dict[str, Any]) -> str:
    """A floor with what distinguishes its row."""
    marks = ["ties shuffled"] if row["ties"] == "shuffled" else []
    marks += [] if row["mask_seen"] else ["seen not masked"]
    return str(row["name"]) + (f" ({', '.join(marks)})" if marks else "")


def _findings(audit: Audit) -> str:
    rows = "".join(
        f'<li class={one.level}><b title="{escape(_MEANING[one.level])}">{one.level} · '
        f"{escape(one.check)}</b><br>{escape(one.text[:1].upper() + one.text[1:])}</li>"
        for one in audit.findings
    )
    return f"<ul class=findings>{rows}</ul>"


def _floors(rows: list[dict[str, Any]]) -> str:
    ordered = sorted(rows, key=lambda row: -row["recall@10"])
    chart = bars(
        [
            (
                floor_name(row),
                row["recall@10"],
                tuple(row["ci95"]["recall@10"]) if "ci95" in row else None,
            )
            for row in ordered
        ],
        "recall at 10 of the floors",
    )
    body = "".join(
        f"<tr><td>{escape(floor_name(row))}</td><td>{row['recall@10']:.4f}</td>"
        f"<td class=soft>{_interval(row, 'recall@10')}</td><td>{row['ndcg@10']:.4f}</td>"
        f"<td class=soft>{_interval(row, 'ndcg@10')}</td><td>{row['cases']:,}</td></tr>"
        for row in ordered
    )
    return (
        f"<figure>{chart}<figcaption>Recall@10 on test, whole catalogue, 95 % bootstrap "
        "intervals.</figcaption></figure><div class=wide><table><tr><th>floor<th>recall@10"
        f"<th>95 %<th>NDCG@10<th>95 %<th>cases</tr>{body}</table></div>"
    )


def _interval(row: dict[str, Any], key: str) -> str:
    if "ci95" not in row:
        return "–"
    low, high = row["ci95"][key]
    return f"{low:.4f} to {high:.4f}"


def _memory(memory: dict[str, Any]) -> str:
    if not memory["cases"]:
        return "<p>No history is long enough.</p>"
    rows: list[tuple[str, float, tuple[float, float] | None]] = [
        (f"the item {one['lag']} back alone", one["recall@10"], None) for one in memory["lags"]
    ]
    rows += [
        (f"the last {one['lags']} together", one["recall@10"], None)
        for one in memory["together"][1:]
    ]
    rows.append(("Markov on the item before the last", memory["before_last"]["recall@10"], None))
    return (
        f"<figure>{bars(rows, 'recall at 10 by place in the history')}<figcaption>Recall@10 of "
        f"step counts, {memory['cases']:,} cases.</figcaption></figure>"
    )


def _reach(graph: dict[str, Any], n_items: int) -> str:
    rows: list[tuple[str, float, tuple[float, float] | None]] = []
    for one in graph["reach"]:
        rows.append((f"targets within {one['name']}", one["targets"], None))
        rows.append((f"catalogue within {one['name']}", one["candidates"] / n_items, None))
    return (
        f"<figure>{bars(rows, 'share of targets near the last item', '.1%')}<figcaption>Share of "
        "the test targets, and of the catalogue, near the last item in the graph of training "
        f"steps ({graph['edges']:,} edges, {graph['seen_once']:.0%} seen once; "
        f"{graph['effective_successors']:.1f} effective successors).</figcaption></figure>"
    )


def _numbers(figures: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(value)}</td></tr>"
        for key, value in _flat("", figures)
    ]
    return f"<div class=wide><table>{''.join(rows)}</table></div>"


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [
            cell
            for key, inner in value.items()
            for cell in _flat(f"{prefix}.{key}" if prefix else str(key), inner)
        ]
    if isinstance(value, list):
        return [
            cell for place, inner in enumerate(value) for cell in _flat(f"{prefix}[{place}]", inner)
        ]
    text = "unknown" if value is None else f"{value:.6g}" if isinstance(value, float) else value
    return [(prefix, str(text))]
