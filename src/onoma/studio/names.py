"""Names: the map of the index, the use of its codes, neighbours, and where a title would land."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from nicegui import ui
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from onoma.errors import OnomaError
from onoma.evaluation.names_page import names_map, names_section, names_style
from onoma.evaluation.report_systems import health_section
from onoma.run import open_run
from onoma.studio.door import PREFIX
from onoma.studio.finder import Finder
from onoma.studio.frame import Studio, Visitor, drawn, element, empty, failed, frame, tried
from onoma.studio.landing import land
from onoma.studio.tokens import draw, prefixes

_ALIKE = 8

Choose = Callable[[dict[str, Any]], Awaitable[None]]


def routes(studio: Studio) -> APIRouter:
    """The map, which the page loads once it is there."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{PREFIX}/map")
    async def markup() -> Response:
        found = await run_in_threadpool(studio.once, "map", lambda: _map(studio))
        return HTMLResponse(found)

    return router


async def page(visitor: Visitor) -> None:
    """Draw the page."""
    view = visitor.studio.service.view
    said = "Items whose names begin alike are alike to the model."
    with frame(visitor, "names", "Names", said):
        if view.names is None:
            empty(
                f"{view.model.name} gives items no names.",
                "Serve a run of flagship, packed or another recipe that names items.",
            )
            return
        ui.add_head_html(f"<style>{names_style()}</style>")
        with element("div", "two"):
            with element("section", "panel", aria_label="Neighbours"):
                element("h2", "", "Neighbours of an item")
                _Neighbours(visitor)
            with element("section", "panel", aria_label="A new item"):
                element("h2", "", "Where a new item would land")
                _Landing(visitor)
        box = element("div", "map")
        with box:
            element("p", "note", "The map is being drawn …")
        ui.run_javascript(f"onoma.load(getHtmlElement({box.id}), '{PREFIX}/map')")
        use = await run_in_threadpool(
            visitor.studio.once, "health", lambda: _health(visitor.studio)
        )
        drawn(use)


class _Neighbours:
    """Finds an item and shows who shares its prefixes, and who is alike to the model."""

    def __init__(self, visitor: Visitor) -> None:
        self._api = visitor.api
        Finder(visitor, "Search titles", self.show)
        self._box = element("div", aria_live="polite")
        with self._box:
            empty("No item is chosen.", "Its neighbours by name and by the model stand here.")

    async def show(self, item: dict[str, Any]) -> None:
        """Draw the neighbours of an item."""
        by_model = await tried(
            self._box,
            self._api.post("/v1/similar", {"item_id": item["item_id"], "k": _ALIKE}),
        )
        if by_model is None:
            return
        by_name: list[dict[str, Any]] = []
        if item["name"]:
            found = await tried(
                self._box, self._api.get(f"/v1/names/{quote(item['item_id'], safe='')}")
            )
            if found is None:
                return
            by_name = found["neighbours"][:_ALIKE]
        shared = prefixes([item["name"]])
        self._box.clear()
        with self._box:
            with element("p", "chosen"):
                element("span", "title", item["title"] or item["item_id"])
                draw(item["name"])
            for head, rows in (("By name", by_name), ("By the model", by_model["items"])):
                element("h3", "", head)
                if not rows:
                    element("p", "note", "None.")
                _listed(rows, shared, self.show)


class _Landing:
    """Names a title that is being typed as a new item would be named; nothing is kept."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, self._asked = visitor, 0
        self._title = ui.input("Title of a new item").props("outlined dense debounce=300")
        self._words = ui.input("Its categories, by commas").props("outlined dense debounce=300")
        self._title.on_value_change(self._show)
        self._words.on_value_change(self._show)
        self._box = element("div", aria_live="polite")
        self._nothing()

    def _nothing(self) -> None:
        self._box.clear()
        with self._box:
            empty("No title is typed.", "Its name and the items around it stand here.")

    async def _show(self) -> None:
        self._asked += 1
        asked, title = self._asked, (self._title.value or "").strip()[:500]
        if not title:
            self._nothing()
            return
        words = [word.strip() for word in (self._words.value or "").split(",") if word.strip()]
        view = self._visitor.studio.service.view
        try:
            self._visitor.check()
            found = await run_in_threadpool(land, view, title, words)
        except OnomaError as error:
            self._box.clear()
            with self._box:
                failed(error)
            return
        if asked != self._asked:
            return
        self._box.clear()
        with self._box:
            with element("p", "chosen"):
                element("span", "title", title)
                draw(found.name)
            if not found.known:
                element("p", "note", "None of these words is known, so the place is arbitrary.")
            shared = prefixes([found.name])
            for head, rows in (
                ("Beside it in the tree", found.beside),
                ("Reads alike", found.alike),
            ):
                element("h3", "", head)
                if not rows:
                    element("p", "note", "None.")
                _listed(rows, shared)


def _listed(
    rows: list[dict[str, Any]], shared: set[tuple[int, ...]], choose: Choose | None = None
) -> None:
    """Items with their names; buttons where one may go on from them."""
    with element("ul", "rows"):
        for row in rows:
            with element("li"):
                if choose is None:
                    made = element("div", "had")
                else:
                    made = element("button", "pick", type="button")
                    made.on("click", partial(choose, row))
                with made:
                    element("span", "title", row["title"] or row["item_id"])
                    draw(row["name"], shared)


def _map(studio: Studio) -> str:
    view = studio.service.view
    if view.names is None:
        return ""
    dataset = open_run(view.path).dataset
    index = view.model.index  # type: ignore[attr-defined]
    index = replace(index, codes=index.codes[: dataset.n_items])
    return names_section(names_map(index, dataset))


def _health(studio: Studio) -> str:
    view = studio.service.view
    stored = open_run(view.path).metrics.get("health") or {}
    index = view.model.index  # type: ignore[attr-defined]
    return health_section({**stored, **index.health().to_dict()})
