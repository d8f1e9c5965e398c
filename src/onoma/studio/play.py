"""Play: a history built by searching and clicking, and what is recommended for it."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from onoma.studio.finder import Finder
from onoma.studio.frame import Visitor, button, element, empty, frame, tried
from onoma.studio.tokens import draw, prefixes
from onoma.studio.why import Why

_K = 10
_SHOWN = 30  # items of a long history that are listed


async def page(visitor: Visitor) -> None:
    """Draw the page."""
    with frame(
        visitor, "", "Play", "Click together a history, or pick a user, and see what comes."
    ):
        await _Play(visitor).draw()


class _Play:
    """One visitor's table: a user or a guest, titles laid on it, and the answer."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.api = visitor, visitor.api
        self.service = visitor.studio.service
        self.guest = f"studio-{secrets.token_hex(4)}"
        self.user = self.guest
        self.laid: list[dict[str, Any]] = []
        self.known: list[dict[str, Any]] = []
        self.count = 0
        self.asked = 0
        self.why = Why(visitor.studio)

    async def draw(self) -> None:
        with element("div", "two"):
            with element("section", "panel", aria_label="History"):
                element("h2", "", "History")
                Finder(self.visitor, "Search titles", self.lay)
                self.history = element("div")
                with element("details", "more"):
                    element("summary", "", "Pick a user")
                    with element("div", "line"):
                        self.name = ui.input("User id").props("outlined dense")
                        self.name.on("keydown.enter", self.pick)
                        element("button", "plain", "Show", type="button").on("click", self.pick)
                        element("button", "plain", "Anyone", type="button").on("click", self.anyone)
            with element("section", "panel", aria_label="Recommendations"):
                element("h2", "", "Recommended")
                self.answer = element("div", aria_live="polite")
        await self.refresh()

    async def lay(self, item: dict[str, Any]) -> None:
        """Put a title on the table."""
        if all(item["item_id"] != each["item_id"] for each in self.laid):
            self.laid.append(item)
        await self.refresh()

    async def take(self, item: dict[str, Any]) -> None:
        """Take a title from the table."""
        self.laid = [each for each in self.laid if each["item_id"] != item["item_id"]]
        await self.refresh()

    async def pick(self) -> None:
        """Show the user whose id was typed."""
        user = (self.name.value or "").strip()
        if not user:
            return
        found = await tried(self.answer, self.api.get("/v1/users", user_id=user))
        if found is None:
            return
        if not found["users"]:
            ui.notify(f"Nothing is known of {user}.", type="warning")
            return
        self.user, self.laid = user, []
        await self.refresh()

    async def anyone(self) -> None:
        """Show a user of the data, drawn at random."""
        users = list(self.service.view.past_user)
        if users:
            self.name.value = secrets.choice(users)
            await self.pick()

    async def reset(self) -> None:
        """An empty table and a new guest."""
        self.user = self.guest = f"studio-{secrets.token_hex(4)}"
        self.laid, self.name.value = [], ""
        await self.refresh()

    async def refresh(self) -> None:
        """Ask again and draw the answer; a later question makes this one void."""
        self.asked += 1
        asked = self.asked
        if not self.visitor.may("read"):
            ui.navigate.to("/login")
            return
        users = await tried(self.history, self.api.get("/v1/users", user_id=self.user))
        if users is None or asked != self.asked:
            return
        ids = users["users"][0]["history"] if users["users"] else []
        self.count = users["users"][0]["interactions"] if users["users"] else 0
        laid = [item["item_id"] for item in self.laid]
        body = {"user_id": self.user, "k": _K, "history": laid}
        found = await tried(self.answer, self.api.post("/v1/recommend", body))
        if found is None or asked != self.asked:
            return
        self.known = await self.described(ids[-_SHOWN:])
        self.shared = prefixes([item["name"] for item in [*self.known, *self.laid]])
        self.had = [*ids, *laid]
        answered = [item["item_id"] for item in found["items"]]
        told = await run_in_threadpool(self.why.alike, self.had, answered)
        if asked != self.asked:
            return
        self._draw_history()
        self._draw_answer(found, told)

    async def described(self, ids: list[str]) -> list[dict[str, Any]]:
        """Items by their ids, in the order of the ids."""
        if not ids:
            return []
        found = await self.api.get("/v1/items", item_id=ids)
        rows = {item["item_id"]: item for item in found["items"]}
        return [rows[each] for each in ids if each in rows]

    def _draw_history(self) -> None:
        self.history.clear()
        with self.history:
            with element("p", "who"):
                guest = self.user == self.guest
                element("span", "", "Guest" if guest else f"User {self.user}")
                if self.known or self.laid:
                    element("button", "quiet", "Start over", type="button").on("click", self.reset)
            if not self.known and not self.laid:
                empty("Nothing here yet.", "Search for a title, or click one that is recommended.")
                return
            with element("ul", "rows"):
                for item in reversed(self.laid):
                    with element("li", "had"):
                        element("span", "title", item["title"] or item["item_id"])
                        draw(item["name"])
                        button("close", "Take away", partial(self.take, item))
                for item in reversed(self.known):
                    with element("li", "had known"):
                        element("span", "title", item["title"] or item["item_id"])
                        draw(item["name"])
            if self.count > len(self.known):
                element("p", "note", f"The latest {len(self.known)} of {self.count:,} are listed.")

    def _draw_answer(self, found: dict[str, Any], told: list[str]) -> None:
        self.answer.clear()
        with self.answer:
            if found["fallback"] == "popular":
                element("p", "note", "What many choose, because nothing is known yet.")
            elif found["fallback"] == "neighbours":
                element("p", "note", "New items score as the items they are like.")
            if not found["items"]:
                empty("Nothing is left to recommend.")
                return
            scores = [item["score"] for item in found["items"]]
            low, high = min(scores), max(scores)
            with element("ol", "answers"):
                for place, (item, why) in enumerate(zip(found["items"], told, strict=True), 1):
                    share = (item["score"] - low) / (high - low) if high > low else 1.0
                    self._draw_item(place, item, why, share, found["request_id"])

    def _draw_item(
        self, place: int, item: dict[str, Any], why: str, share: float, request_id: str
    ) -> None:
        writes = self.visitor.may("write")

        def act(kind: str) -> Any:
            async def done() -> None:
                await self.told(item, kind, request_id)

            return done

        with element("li", "answer"):
            element("span", "place", str(place))
            with element("div", "middle"):
                title = element("button", "title", item["title"] or item["item_id"], type="button")
                title.props["title"] = "Lay it into the history"
                title.on("click", partial(self.lay, item))
                with element("div", "line"):
                    draw(item["name"], self.shared)
                    meter = element("span", "meter", title=f"score {item['score']:.4f}")
                    with meter:
                        element("i").style(f"width:{100 * (0.08 + 0.92 * share):.0f}%")
                    element("span", "score", f"{item['score']:.3f}")
                if why:
                    element("p", "why", why)
                if self.had:
                    self._draw_why(item)
            with element("div", "acts"):
                no = "" if writes else " (the key has no write scope)"
                button("thumb_up", f"Like{no}", act("like"), off=not writes)
                button("thumb_down", f"Dislike{no}", act("dislike"), off=not writes)
                button("visibility_off", f"Hide{no}", act("hide"), off=not writes)

    def _draw_why(self, item: dict[str, Any]) -> None:
        had = list(self.had)

        async def show() -> None:
            if box.default_slot.children:
                return
            with box:
                element("p", "note", "Asking without each title in turn …")
            parts = await tried(box, run_in_threadpool(self.why.parts, had, item["item_id"]))
            if parts is None:
                return
            box.clear()
            with box:
                self.why.draw(parts)

        with element("details", "because").on("toggle", show):
            element("summary", "", "What each title brings")
            box = element("div")

    async def told(self, item: dict[str, Any], kind: str, request_id: str) -> None:
        """Post an event, as any client would."""
        event = {
            "user_id": self.user, "item_id": item["item_id"], "type": kind,
            "request_id": request_id,
        }  # fmt: skip
        kept = await tried(self.answer, self.api.post("/v1/events", {"events": [event]}))
        if kept is None:
            return
        if kept["rejected"]:
            ui.notify(str(kept["results"][0]["error"]), type="warning")
        word = {"like": "Liked", "dislike": "Disliked", "hide": "Hidden"}[kind]
        ui.notify(f"{word}: {item['title'] or item['item_id']}", timeout=1500)
        await self.refresh()
