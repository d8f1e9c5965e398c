"""Live: what is asked of the service now, how long it takes, what users do, what falls back."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from onoma.errors import OnomaError
from onoma.evaluation.report_page import Markup, bar, cards, esc, number, table
from onoma.serving.service import Service
from onoma.serving.store import Event
from onoma.studio.frame import Visitor, element, failed, frame
from onoma.studio.pulse import COUNTED, EVERY, Pulse, Reading, spark

_WINDOW = 60.0  # seconds
_LISTED = 12
_KINDS = {"popular": "what many choose", "neighbours": "likeness, for new items"}
_STAGES = {
    "wait": "waiting for a batch", "prepare": "history and masks", "model": "the model",
    "format": "titles and names", "search": "searching", "explain": "reasons",
    "chat": "dialogue", "store": "keeping events",
}  # fmt: skip


async def page(visitor: Visitor) -> None:
    """Draw the page."""
    said = "The last minute of this service, read again every two seconds."
    with frame(visitor, "live", "Live", said):
        await _Live(visitor).draw()


class _Live:
    """Markup that is made anew at every tick; every text in it is escaped."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, self._service = visitor, visitor.studio.service
        self._pulse: Pulse = visitor.studio.pulse
        self._events: list[Event] = []
        self._seen = -1

    async def draw(self) -> None:
        with element("div", "tools"):
            self._pause = element("button", "plain", "Pause", type="button", aria_pressed="false")
            self._pause.on("click", self._flip)
        self._box = element("div")
        with self._box:
            self._html = ui.html("", sanitize=False)
        self._timer = ui.timer(EVERY, self._tick)
        await self._tick()

    def _flip(self) -> None:
        self._timer.active = not self._timer.active
        self._pause.props["aria-pressed"] = "false" if self._timer.active else "true"
        self._pause.classes(toggle="strong")

    async def _tick(self) -> None:
        try:
            self._visitor.check()
            await self._look()
        except OnomaError as error:
            self._timer.active = False
            self._box.clear()
            with self._box:
                failed(error)
            return
        self._html.set_content(markup(self._service, self._pulse, self._events))

    async def _look(self) -> None:
        """Read the latest events where there are new ones."""
        upto = self._service.live.seen
        if upto != self._seen:
            store = self._service.store
            after = max(0, upto - _LISTED)
            self._events = await run_in_threadpool(store.events, after, _LISTED)
            self._seen = upto


def markup(service: Service, pulse: Pulse, events: list[Event]) -> str:
    """The page below its heading."""
    grown, seconds = pulse.last(_WINDOW)
    total = pulse.readings[-1]
    return "".join(
        [
            _head(service, grown, seconds),
            _curves(pulse),
            '<div class="two even">',
            _panel("Routes", _routes(grown, seconds)),
            _panel("Where the time goes", _stages(grown)),
            _panel("Latest requests", _requests(service)),
            _panel("Latest events", _listed_events(service, events)),
            _panel("Fallbacks", _fallbacks(total)),
            _panel("Events since the start", _fates(total)),
            "</div>",
        ]
    )


def _head(service: Service, grown: Reading, seconds: float) -> str:
    times = grown.together
    errors = sum(n for (_, status), n in grown.requests.items() if status[0] in "45")
    catalogue = service.view.catalogue
    answered, batches = grown.batches
    return cards(
        [
            ("Requests a second", f"{grown.count / max(seconds, 1.0):.1f}",
             f"{grown.count:,.0f} in {seconds:.0f} s"),
            ("Half within", ms(times.quantile(0.5)), f"99 of 100: {ms(times.quantile(0.99))}"),
            ("Refused or failed", f"{errors:,.0f}", "status 400 and above"),
            ("Batch", f"{answered / batches:.1f}" if batches else "–", "answers made together"),
            ("Events", f"{service.live.count:,}", f"of {service.live.users:,} users"),
            ("Items", f"{len(catalogue) - int(catalogue.gone.sum()):,}",
             f"{len(catalogue) - catalogue.base:,} of them new"),
        ]
    )  # fmt: skip


def _curves(pulse: Pulse) -> str:
    rate, half, most = pulse.series()
    figures = []
    for title, lines, unit in (
        ("Requests a second", [("curve", rate)], ""),
        ("Milliseconds: half and 99 of 100 within", [("curve faint", most), ("curve", half)], "ms"),
    ):
        known = [value for _, values in lines for value in values if value is not None]
        top = max(known, default=0.0)
        paths = "".join(
            f'<path class="{kind}" d="{spark(values, top)}"/>' for kind, values in lines
        )
        told = f"at most {top:,.1f} {unit}".strip() if known else "nothing yet"
        figures.append(
            f'<figure><figcaption>{esc(title)}<span class="small">{esc(told)}</span></figcaption>'
            f'<svg class="spark" viewBox="0 0 300 60" preserveAspectRatio="none" role="img" '
            f'aria-label="{esc(title)}, {esc(told)}"><line class="grid" x1="0" x2="300" y1="58" '
            f'y2="58"/>{paths}</svg><div class="small ends"><span>5 minutes ago</span>'
            "<span>now</span></div></figure>"
        )
    return f'<div class="pair">{"".join(figures)}</div>'


def _routes(grown: Reading, seconds: float) -> str:
    rows = []
    for route in sorted({route for route, _ in grown.requests}):
        counts = {s: n for (r, s), n in grown.requests.items() if r == route and n > 0}
        count = sum(counts.values())
        if not count:
            continue
        bad = sum(n for status, n in counts.items() if status[0] in "45")
        times = grown.times[route]
        rows.append(
            [route, f"{count:,.0f}", f"{bad:,.0f}", ms(times.quantile(0.5)),
             ms(times.quantile(0.99))]
        )  # fmt: skip
    rows.sort(key=lambda row: -float(row[1].replace(",", "")))
    if not rows:
        return _nothing("No request in the last minute.", "Ask for something on Play.")
    return table(["route", "requests", "refused", "half", "99 %"], rows)


def _stages(grown: Reading) -> str:
    found = {
        stage: (times.quantile(0.5), times.quantile(0.99))
        for stage, times in grown.stages.items()
        if times.quantile(0.5) is not None
    }
    largest = max((half or 0.0 for half, _ in found.values()), default=0.0)
    rows = [
        [_STAGES.get(stage, stage), Markup(ms(half) + bar(half or 0.0, largest)), ms(most)]
        for stage, (half, most) in found.items()
    ]
    if not rows:
        return _nothing("Nothing was answered in the last minute.")
    return table(["stage", "half", "99 %"], rows)


def _requests(service: Service) -> str:
    rows = [
        [Markup(f"{clock(at)} {esc(route)}"), str(status), ms(seconds)]
        for at, route, status, seconds in reversed(service.metrics.recent)
        if route.startswith(COUNTED)
    ][:_LISTED]
    if not rows:
        return _nothing("No request yet.")
    return table(["time, route", "status", "took"], rows)


def _listed_events(service: Service, events: list[Event]) -> str:
    if not events:
        return _nothing("No event yet.", "Like something on Play, or post to /v1/events.")
    catalogue = service.view.catalogue
    rows = []
    for event in reversed(events):
        code = catalogue.code.get(event.item_id)
        title = event.item_id if code is None else catalogue.titles[code] or event.item_id
        rows.append(
            f'<li><span class="kind {esc(event.kind)}">{esc(event.kind)}</span>'
            f'<span class="title">{esc(title)}</span>'
            f'<span class="small">{esc(event.user_id)} · {clock(event.timestamp)}'
            f"{' · after an answer' if event.request_id else ''}</span></li>"
        )
    return f'<ul class="told">{"".join(rows)}</ul>'


def _fallbacks(total: Reading) -> str:
    rows = [[_KINDS.get(by, by), f"{count:,.0f}"] for by, count in total.fallbacks.items()]
    if not rows:
        return _nothing("The model answered everything.")
    asked = sum(n for (route, _), n in total.requests.items() if route == "/v1/recommend")
    note = f'<p class="note">Of {asked:,.0f} requests for recommendations since the start.</p>'
    return table(["answered by", "times"], rows) + note


def _fates(total: Reading) -> str:
    rows = [[fate, f"{count:,.0f}"] for fate, count in total.events.items()]
    if not rows:
        return _nothing("No event was posted.")
    return table(["fate", "events"], rows)


def _panel(title: str, inner: str) -> str:
    return f'<section class="panel"><h2>{esc(title)}</h2>{inner}</section>'


def _nothing(head: str, hint: str = "") -> str:
    more = f'<p class="hint">{esc(hint)}</p>' if hint else ""
    return f'<div class="empty"><p class="head">{esc(head)}</p>{more}</div>'


def clock(at: float) -> str:
    """The time of day; the date where it was another day."""
    then = datetime.fromtimestamp(at)
    same = then.date() == datetime.fromtimestamp(time.time()).date()
    return then.strftime("%H:%M:%S" if same else "%Y-%m-%d")


def ms(seconds: Any) -> str:
    """Milliseconds for a cell."""
    if seconds is None:
        return "–"
    value = 1000 * seconds
    return f"{number(value, 1 if value < 100 else 0)} ms"
