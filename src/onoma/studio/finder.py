"""A search box over the titles of the catalogue, with what it finds as a list of buttons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from onoma.studio.frame import Visitor, element, empty, tried
from onoma.studio.tokens import draw

_FOUND = 8


class Finder:
    """Draws the box and calls back with the item that is chosen.

    Args:
        visitor: whose searches they are.
        label: of the box.
        chosen: takes the item, as the search answered it.
        hint: what stands there before anything is typed.
    """

    def __init__(
        self,
        visitor: Visitor,
        label: str,
        chosen: Callable[[dict[str, Any]], Awaitable[None]],
        hint: str = "",
    ) -> None:
        self._api, self._chosen, self._hint = visitor.api, chosen, hint
        self._items: list[dict[str, Any]] = []
        self._asked = 0
        with element("div", "finder"):
            self.box = ui.input(label).props("outlined dense clearable debounce=200")
            self.box.props["type"], self.box.props["autocomplete"] = "search", "off"
            self.box.on_value_change(self._search)
            self.box.on("keydown.enter", self._first)
            self._list = element("div", aria_live="polite")

    async def _search(self) -> None:
        self._asked += 1
        asked, text = self._asked, (self.box.value or "").strip()
        self._items = []
        if not text:
            self._list.clear()
            return
        body = {"query": text[:500], "k": _FOUND}
        found = await tried(self._list, self._api.post("/v1/search", body))
        if found is None or asked != self._asked:
            return
        self._items = found["items"]
        self._list.clear()
        with self._list:
            if not self._items:
                empty("Nothing is called that.", "Try another word of the title.")
            with element("ul", "rows"):
                for item in self._items:
                    self._row(item)

    def _row(self, item: dict[str, Any]) -> None:
        async def choose() -> None:
            await self._chosen(item)

        with element("li"):
            made = element("button", "row", type="button").on("click", choose)
            with made:
                element("span", "title", item["title"] or item["item_id"])
                draw(item["name"])

    async def _first(self) -> None:
        if self._items:
            await self._chosen(self._items[0])
