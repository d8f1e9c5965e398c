"""Parts of a self-contained page: text is escaped, colours follow the reader."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Markup(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


def esc(value: object) -> str:
    """A value as HTML text; :class:`Markup` passes."""
    return value if isinstance(value, Markup) else html.escape(str(value), quote=True)


def number(value: object, decimals: int = 4) -> str:
    """A figure for a table cell; a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{decimals}f}"


def per_cent(value: float | None) -> str:
    """A signed change for a table cell; a dash where there is none."""
    return "–" if value is None else f"{value:+.1%}"


def page(title: str, subtitle: str, body: Iterable[str], style: str = "") -> str:
    """The whole document; ``style`` is added to that of all pages."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{esc(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>{esc(title)}</h1><p class="sub">{esc(subtitle)}</p></header>\n'
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A heading with what belongs to it; nothing where there are no parts."""
    inner = "\n".join(part for part in parts if part)
    if not inner:
        return ""
    said = f'<p class="note">{esc(note)}</p>' if note else ""
    return f"<section><h2>{esc(title)}</h2>{said}\n{inner}</section>"


def cards(entries: Sequence[tuple[str, str, str]]) -> str:
    """Headline figures: label, value, small print."""
    return '<div class="cards">' + "".join(
        f'<div class="card"><div class="label">{esc(label)}</div>'
        f'<div class="value">{esc(value)}</div><div class="small">{esc(small)}</div></div>'
        for label, value, small in entries
    ) + "</div>"  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[object]], strong: int = 0) -> str:
    """A table; the first column is text, the others figures, the first ``strong`` rows ours."""
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{esc(name)}</th>' for name in head)
    lines = []
    for place, row in enumerate(rows):
        first, *rest = row
        cells = "".join(f"<td>{esc(cell)}</td>" for cell in rest)
        mark = ' class="ours"' if place < strong else ""
        lines.append(f'<tr{mark}><th scope="row">{esc(first)}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def details(summary: str, inner: str) -> str:
    """Folded away until asked for."""
    return f"<details><summary>{esc(summary)}</summary>{inner}</details>" if inner else ""


def pre(text: str) -> Markup:
    """Preformatted text."""
    return Markup(f"<pre>{esc(text)}</pre>")


def bar(value: float, largest: float) -> Markup:
    """A bar beside a figure, as wide as ``value / largest``."""
    share = 100 * min(max(value / largest, 0.0), 1.0) if largest > 0 else 0.0
    return Markup(f'<span class="bar"><i style="width:{share:.1f}%"></i></span>')


def line_chart(
    title: str, points: Sequence[tuple[float, float]], mark: int | None = None, decimals: int = 4
) -> str:
    """A figure over epochs.

    Args:
        title: what is drawn.
        points: (epoch, value), in order.
        mark: the point to label, such as the best.
        decimals: of the axis.
    """
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(points) < 2:
        return ""
    width, height, left, right, top, bottom = 460, 220, 52, 14, 26, 28
    ticks = _ticks(min(y for _, y in points), max(y for _, y in points))
    low, high = ticks[0], ticks[-1]
    first, last = points[0][0], points[-1][0]

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - first) / (last - first or 1) * (width - left - right),
            height - bottom - (y - low) / (high - low) * (height - top - bottom),
        )

    parts = []
    for tick in ticks:
        _, y = at(first, tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    step = max(1, math.ceil((last - first) / 6))
    for epoch in range(math.ceil(first), math.floor(last) + 1, step):
        x, _ = at(epoch, low)
        parts.append(f'<text x="{x:.1f}" y="{height - 9}" text-anchor="middle">{epoch}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
    parts.append(f'<polyline class="curve" points="{line}"/>')
    for place, (when, value) in enumerate(points):
        x, y = at(when, value)
        best = place == mark
        parts.append(
            f'<circle class="{"best" if best else "dot"}" cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{5 if best else 2.5}"><title>epoch {when:g}: {value:.{decimals}f}</title>'
            "</circle>"
        )
    if mark is not None:
        x, y = at(*points[mark])
        anchor = "end" if x > width / 2 else "start"
        parts.append(
            f'<text class="said" x="{x:.1f}" y="{y - 10:.1f}" text-anchor="{anchor}">'
            f"{points[mark][1]:.{decimals}f}</text>"
        )
    return (
        f'<figure><figcaption>{esc(title)}</figcaption><svg viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{esc(title)} by epoch">{"".join(parts)}</svg></figure>'
    )


@dataclass(frozen=True)
class Dot:
    """One row of a dot chart: a figure, its interval where it has one, ours or another's."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    ours: bool = False


def dot_chart(title: str, dots: Sequence[Dot], zero: bool = False) -> str:
    """Figures side by side with their intervals; labels stand above their line on any width.

    Args:
        title: what is drawn.
        dots: one row each.
        zero: draw a line at zero, for differences.
    """
    if not dots:
        return ""
    width, row, left, right, bottom = 460, 38, 12, 12, 22
    height = row * len(dots) + bottom
    ends = [v for d in dots for v in (d.value, d.low, d.high) if v is not None]
    ticks = _ticks(min([*ends, 0.0] if zero else ends), max([*ends, 0.0] if zero else ends))
    low, high = ticks[0], ticks[-1]

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = []
    for place, tick in enumerate(ticks):
        x = at(tick)
        kind = "zero" if zero and abs(tick) < 1e-12 else "grid"
        anchor = "start" if place == 0 else "end" if place == len(ticks) - 1 else "middle"
        parts.append(
            f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - bottom}"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="{anchor}">{_short(tick)}</text>'
        )
    for place, dot in enumerate(dots):
        y = place * row + 26
        kind = "best" if dot.ours else "other"
        sign = "+" if zero else ""
        label = dot.label if len(dot.label) <= 46 else dot.label[:45] + "…"
        parts.append(
            f'<text class="name" x="{left}" y="{y - 11}">{esc(label)}</text>'
            f'<text class="said" x="{width - right}" y="{y - 11}" text-anchor="end">'
            f"{dot.value:{sign}.4f}</text>"
        )
        if dot.low is not None and dot.high is not None:
            parts.append(
                f'<line class="{kind} range" x1="{at(dot.low):.1f}" x2="{at(dot.high):.1f}" '
                f'y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle class="{kind}" cx="{at(dot.value):.1f}" cy="{y}" r="5"/>')
    return (
        f'<figure><figcaption>{esc(title)}</figcaption><svg viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{esc(title)}">{"".join(parts)}</svg></figure>'
    )


def _ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that enclose a range."""
    if high - low < 1e-9:
        low, high = low - abs(low) * 0.05 - 1e-4, high + abs(high) * 0.05 + 1e-4
    rough = (high - low) / about
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(s * scale for s in (1, 2, 2.5, 5, 10) if s * scale >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 10) for place in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if value else "0"


_STYLE = """
:root{--bg:#fbfaf8;--card:#fff;--ink:#1d2126;--soft:#626a73;--line:#e3e1dc;--accent:#0b6bcb;
--other:#8a8f96;--hit:#0b7a4b;--tint:#eaf2fb;--bad:#a8502f}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e6e8ea;--soft:#9aa3ad;
--line:#30363c;--accent:#5aa9f5;--other:#7d858e;--hit:#4cc38a;--tint:#1d2a38;--bad:#e09070}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:980px;margin:0 auto;padding:28px 16px 64px}
h1{margin:0;font-size:1.7rem;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{margin:40px 0 8px;font-size:1.15rem}
.sub{margin:4px 0 20px;color:var(--soft)}
.note{margin:0 0 12px;color:var(--soft);font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.label,.small{color:var(--soft);font-size:.8rem}
.value{font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-weight:500;font-size:.82rem}
th:first-child{text-align:left;font-weight:400;white-space:normal;min-width:11rem}
thead th:first-child{font-weight:500}
tr.ours th,tr.ours td{background:var(--tint);font-weight:600}
tr.ours .small{font-weight:400}
.wide .small{margin-left:6px;font-weight:400}
.bar{display:inline-block;width:90px;height:8px;border-radius:4px;background:var(--line);
vertical-align:middle;margin-left:8px}
.bar i{display:block;height:100%;border-radius:4px;background:var(--accent)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:14px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:12px 14px}
figcaption{font-size:.9rem;font-weight:600;margin-bottom:6px}
svg{display:block;width:100%;max-width:620px;height:auto;overflow:visible}
svg text{font-size:11.5px;fill:var(--soft);font-family:inherit}
svg text.name,svg text.said{fill:var(--ink);font-size:12.5px}
svg text.said{font-weight:600}
.grid{stroke:var(--line);stroke-width:1}
.zero{stroke:var(--soft);stroke-width:1.2}
.curve{fill:none;stroke:var(--accent);stroke-width:2;stroke-linejoin:round}
.dot,.best{fill:var(--accent)}.other{fill:var(--other)}
.range{stroke-width:2.5;stroke-linecap:round;opacity:.55}
.best.range{stroke:var(--accent)}.other.range{stroke:var(--other)}
.user{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;
font-size:.9rem;min-width:0;overflow-wrap:anywhere}
.user h3{margin:0 0 8px;font-size:.95rem;display:flex;justify-content:space-between;gap:8px}
.user h4{margin:10px 0 2px;font-size:.78rem;font-weight:500;color:var(--soft)}
.user p{margin:0}.user ol{margin:0;padding-left:1.6rem}
.tag{font-size:.75rem;font-weight:600;color:var(--soft);white-space:nowrap}
.tag.yes,li.yes{color:var(--hit);font-weight:600}
details{margin-top:12px;border:1px solid var(--line);border-radius:10px;background:var(--card)}
summary{cursor:pointer;padding:10px 14px;font-weight:500}
details>dl,details>pre{margin:0;padding:4px 16px 14px}
details .wide{border-width:1px 0 0;border-radius:0}
pre{overflow-x:auto;font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}
dl{font-size:.88rem}dt{font-weight:600;margin-top:8px}dd{margin:0;color:var(--soft);
overflow-wrap:anywhere}
"""
