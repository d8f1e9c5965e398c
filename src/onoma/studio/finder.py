"""A search box over the titles of the catalogue, with what it finds as a list of buttons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from onoma.studio.frame import Visitor, element, empty, tried
from onoma.studio.titles import Titles
from onoma.studio.tokens import draw

_FOUND = 8


class Finder:
    """Draws the box and calls back with the item that is chosen; then the box is empty again.

    Titles whose words begin as typed come first, what the search finds otherwise after them.

    Args:
        visitor: whose searches they are.
        label: of the box.
        chosen: takes the item, as the search answers it.
    """

    def __init__(
        self, visitor: Visitor, label: str, chosen: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        self._visitor, self._chosen = visitor, chosen
        self._items: list[dict[str, Any]] = []
        self._asked = self._drawn = 0
        with element("div", "finder"):
            self.box = ui.input(label).props("outlined dense debounce=150 autocomplete=off")
            self.box.on_value_change(self._search)
            self.box.on("keydown.enter", self._first)
            self.box.on("keydown.escape", self._empty)
            self._list = element("div", aria_live="polite")

    async def _search(self) -> None:
        self._asked += 1
        asked, text = self._asked, (self.box.value or "").strip()[:500]
        self._items = []
        if not text:
            self._list.clear()
            return
        found = await tried(self._list, self._found(text))
        if found is None or asked != self._asked:
            return
        self._items, self._drawn = found, asked
        self._list.clear()
        with self._list:
            if not found:
                empty("Nothing is called that.", "Try another word of the title.")
            with element("ul", "rows"):
                for item in found:
                    self._row(item)

    async def _found(self, text: str) -> list[dict[str, Any]]:
        """What is called so, and what the service's own search adds."""
        answer = await self._visitor.api.post("/v1/search", {"query": text, "k": _FOUND})
        studio = self._visitor.studio
        view = studio.service.view
        catalogue = view.catalogue

        def called() -> list[int]:
            titles = studio.once(
                "titles", lambda: Titles(catalogue.titles, view.popular_counts), of=catalogue
            )
            return titles.find(text, _FOUND, catalogue.gone)

        items = [
            {"item_id": catalogue.ids[code], "title": catalogue.titles[code],
             "name": view.name_of(code)}
            for code in await run_in_threadpool(called)
        ]  # fmt: skip
        had = {item["item_id"] for item in items}
        return (items + [item for item in answer["items"] if item["item_id"] not in had])[:_FOUND]

    def _row(self, item: dict[str, Any]) -> None:
        async def choose() -> None:
            await self._take(item)

        with element("li"):
            made = element("button", "pick", type="button").on("click", choose)
            with made:
                element("span", "title", item["title"] or item["item_id"])
                draw(item["name"])

    async def _first(self) -> None:
        if not self._items or self._drawn != self._asked:  # Enter came before the list
            await self._search()
        if self._items:
            await self._take(self._items[0])

    async def _take(self, item: dict[str, Any]) -> None:
        self._empty()
        await self._chosen(item)

    def _empty(self) -> None:
        self._asked += 1
        self._items = []
        self.box.value = ""
        self._list.clear()
        self.box.run_method("focus")
