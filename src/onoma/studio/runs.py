"""Runs: those beside the one that answers, their curves and reports, and paired comparisons."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from nicegui import ui
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from onoma.comparison import comparison
from onoma.errors import OnomaError
from onoma.evaluation.comparison_page import comparison_sections
from onoma.evaluation.report import curves_section, headline, read_log, report_of
from onoma.evaluation.report_page import number
from onoma.evaluation.report_page import page as whole_page
from onoma.run import open_run
from onoma.studio.door import PREFIX
from onoma.studio.frame import Studio, Visitor, drawn, element, empty, frame, tried
from onoma.studio.shelf import Entry, inside, shelf

_MOST = 8  # runs that are compared at once


def folder_of(studio: Studio) -> Path:
    """Where the runs are: beside the one that was started."""
    return studio.service.root.resolve().parent


def routes(studio: Studio) -> APIRouter:
    """The reports, each a page of its own."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{PREFIX}/report/{{name}}")
    async def report(name: str) -> Response:
        try:
            text = await run_in_threadpool(lambda: report_of(inside(folder_of(studio), name)))
        except OnomaError as error:
            return HTMLResponse(whole_page("No report", str(error), []), 404)
        return HTMLResponse(text)

    return router


async def page(visitor: Visitor) -> None:
    """Draw the page."""
    said = "The runs beside the one that answers. Tick some to compare them, the first is the base."
    with frame(visitor, "runs", "Runs", said):
        await _Runs(visitor).draw()


class _Runs:
    """The list, one run opened, and a comparison of those that are ticked."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, self._studio = visitor, visitor.studio
        self._folder = folder_of(visitor.studio)
        self._ticked: list[str] = []
        self._open: str | None = None

    async def draw(self) -> None:
        self._list = element("div")
        with element("div", "tools"):
            self._button = element("button", "plain strong", "Compare", type="button")
            self._button.props["disabled"] = True
            self._button.on("click", self._compare)
            element("button", "plain", "Read again", type="button").on("click", self._fill)
            self._told = element("span", "note")
        self._compared = element("div", aria_live="polite")
        self._detail = element("div", aria_live="polite")
        await self._fill()

    async def _fill(self) -> None:
        entries = await tried(self._list, self._read())
        if entries is None:
            return
        names = {entry.name for entry in entries}
        self._ticked = [name for name in self._ticked if name in names]
        self._list.clear()
        with self._list:
            if not entries:
                hint = f"onoma run RECIPE --data DIR --out {self._folder}/…"
                empty("There is no run here.", hint)
                return
            with element("div", "wide"), element("table", "runs"):
                with element("thead"), element("tr"):
                    for head in ("run", "ndcg", "95 % interval", "recall", "data", "training",
                                 "parameters", "written"):  # fmt: skip
                        element("th", "", head, scope="col")
                with element("tbody"):
                    for entry in entries:
                        self._row(entry)
        self._tell()

    async def _read(self) -> list[Entry]:
        self._visitor.check()
        return await run_in_threadpool(shelf, self._folder)

    def _row(self, entry: Entry) -> None:
        async def show() -> None:
            await self._show(entry)

        answers = entry.name == self._studio.service.view.name
        with element("tr", "ours" if answers else ""):
            with element("th", scope="row"), element("div", "line"):
                if entry.state == "finished":
                    tick = ui.checkbox(value=entry.name in self._ticked).props("dense size=sm")
                    tick.props["aria-label"] = f"Compare {entry.name}"
                    tick.on_value_change(lambda change: self._tick(entry.name, change.value))
                element("button", "quiet", entry.name, type="button").on("click", show)
                if answers:
                    element("span", "tag yes", "answers now")
                if entry.state != "finished":
                    element("span", "tag", entry.state)
            span = "–"
            if entry.low is not None and entry.high is not None:
                span = f"{entry.low:.4f} to {entry.high:.4f}"
            written = datetime.fromtimestamp(entry.written).strftime("%Y-%m-%d %H:%M")
            for text in (
                number(entry.ndcg), span, number(entry.recall), entry.data, _took(entry.seconds),
                number(entry.parameters), written,
            ):  # fmt: skip
                element("td", "", text)

    def _tick(self, name: str, ticked: bool) -> None:
        self._ticked = [each for each in self._ticked if each != name] + [name] * ticked
        self._tell()

    def _tell(self) -> None:
        several = 2 <= len(self._ticked) <= _MOST
        if several:
            self._button.props.pop("disabled", None)
        else:
            self._button.props["disabled"] = True
        self._button.update()
        said = "Tick two or more."
        if len(self._ticked) > 1:
            said = f"base: {self._ticked[0]}; against it: {', '.join(self._ticked[1:])}"
        if len(self._ticked) > _MOST:
            said = f"At most {_MOST} at once."
        self._told.clear()
        with self._told:
            ui.label(said).classes("text")

    async def _compare(self) -> None:
        names = list(self._ticked)
        self._compared.clear()
        with self._compared:
            element("p", "note", "Comparing …")

        def work() -> tuple[dict[str, Any], str]:
            opened = [open_run(inside(self._folder, name)) for name in names]
            cut = _common_cut(opened)
            result = comparison(opened, (f"ndcg@{cut}", f"recall@{cut}"), measure=False)
            return result, "".join(comparison_sections(result))

        async def checked() -> tuple[dict[str, Any], str]:
            self._visitor.check()
            return await run_in_threadpool(work)

        found = await tried(self._compared, checked())
        if found is None:
            return
        result, sections = found
        self._compared.clear()
        with self._compared, element("section", "panel spaced", aria_label="Comparison"):
            element("h2", "", f"{' against '.join([', '.join(names[1:]), names[0]])}")
            element("p", "note", f"{result['cases']:,} cases; {result['test']}.")
            drawn(sections)

    async def _show(self, entry: Entry) -> None:
        self._open = entry.name

        def work() -> tuple[str, str]:
            path = inside(self._folder, entry.name)
            log = read_log(path / "log.jsonl")
            metrics = path / "metrics.json"
            head = ""
            if entry.state == "finished":
                head = headline(json.loads(metrics.read_text("utf-8")))
            return head, curves_section(log)

        async def checked() -> tuple[str, str]:
            self._visitor.check()
            return await run_in_threadpool(work)

        found = await tried(self._detail, checked())
        if found is None:
            return
        head, curves = found
        self._detail.clear()
        with self._detail, element("section", "panel spaced", aria_label=entry.name):
            element("h2", "", f"{entry.name}: {entry.recipe} on {entry.data}")
            if entry.state == "damaged":
                empty("Its metrics.json cannot be read.", "Run the recipe again.")
            drawn(head)
            if curves:
                drawn(curves)
            elif entry.state == "finished":
                element("p", "note", "It was fitted in one step, so there are no curves.")
            elif entry.state == "unfinished":
                empty("Training has not logged two epochs yet.", "Read again in a while.")
            with element("div", "tools"):
                if entry.state == "finished":
                    address = f"{PREFIX}/report/{quote(entry.name, safe='')}"
                    element("a", "plain", "Open the report", href=address, target="_blank")
                    if entry.name != self._studio.service.view.name:
                        self._swap_button(entry)
        ui.run_javascript(
            f"getHtmlElement({self._detail.id})?.scrollIntoView({{block: 'nearest'}})"
        )

    def _swap_button(self, entry: Entry) -> None:
        async def swap() -> None:
            made.props["disabled"] = True
            made.update()
            body = {"run": entry.name}
            if await tried(box, self._visitor.api.post("/v1/models/swap", body)) is not None:
                ui.navigate.reload()

        made = element("button", "plain", "Answer with this run", type="button")
        if not self._visitor.may("admin"):
            made.props["disabled"], made.props["title"] = True, "The key has no admin scope."
        made.on("click", swap)
        box = element("div")


def _common_cut(runs: list[Any]) -> int:
    """10 where all runs measured it, else the largest cut that all have."""
    cuts = [
        {int(key[5:]) for key in each.metrics.get("test", {}) if key[5:].isdigit()
         and key.startswith("ndcg@")}
        for each in runs
    ]  # fmt: skip
    common = set.intersection(*cuts)
    if not common:
        raise OnomaError("the runs measured no NDCG at a common cut", where="compare")
    return 10 if 10 in common else max(common)


def _took(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min"
