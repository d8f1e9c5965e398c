"""Chat: the dialogue of the service, which answers with items of the catalogue alone."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from onoma.errors import OnomaError
from onoma.serving.chat import Reply
from onoma.studio.frame import Visitor, element, empty, frame, tried
from onoma.studio.talk import openings, reply
from onoma.studio.tokens import draw

_TURNS = 40  # messages of a dialogue that are kept


async def page(visitor: Visitor) -> None:
    """Draw the page."""
    said = "Say what you like and what you look for. Answers name items of the catalogue alone."
    with frame(visitor, "chat", "Chat", said):
        await _Chat(visitor).draw()


class _Chat:
    """One visitor's dialogue; it is gone with the page."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, self._studio = visitor, visitor.studio
        self._messages: list[dict[str, str]] = []
        self._busy = False

    async def draw(self) -> None:
        with element("section", "panel chat", aria_label="Dialogue"):
            self._log = element("div", "log", role="log", aria_live="polite", tabindex="0")
            self._start()
            with element("form", "say").on("submit.prevent", self._send):
                self._box = ui.input("Your message").props("outlined dense autocomplete=off")
                self._box.props["maxlength"] = 2000
                element("button", "plain strong", "Send", type="submit")
                element("button", "plain", "New", type="button").on("click", self._again)
        with element("details", "more"):
            element("summary", "", "Speak as a user")
            self._user = ui.input("User id, whose history counts").props("outlined dense")

    def _start(self) -> None:
        self._log.clear()
        with self._log:
            empty("Nothing was said yet.", "Begin with one of these, or with your own words.")
            self._offer(openings(self._studio.service.view))

    async def _again(self) -> None:
        self._messages = []
        self._start()

    def _offer(self, said: list[str]) -> None:
        with element("div", "chips"):
            for text in said:

                async def choose(_: Any, text: str = text) -> None:
                    self._box.value = text
                    await self._send()

                element("button", "chip", text, type="button").on("click", choose)

    async def _send(self) -> None:
        text = (self._box.value or "").strip()[:2000]
        if not text or self._busy:
            return
        self._busy = True
        try:
            await self._answer(text)
        finally:
            self._busy = False

    async def _answer(self, text: str) -> None:
        if not self._messages:
            self._log.clear()
        self._box.value = ""
        self._messages = [*self._messages, {"role": "user", "content": text}][-_TURNS:]
        with self._log:
            element("p", "mine", text)
            box = element("div", "theirs")
        with box:
            element("p", "note", "…")
        answer = await tried(box, self._asked())
        if answer is None:
            return
        self._messages.append({"role": "assistant", "content": answer.text})
        box.clear()
        with box:
            self._draw(answer)
        ui.run_javascript(
            f"getHtmlElement({self._log.id}).scrollTo({{top: 1e9, behavior: 'smooth'}})"
        )

    async def _asked(self) -> Reply:
        self._visitor.check()
        user = (self._user.value or "").strip() or None
        try:
            return await run_in_threadpool(reply, self._studio.service, self._messages, user)
        except OnomaError:
            self._messages.pop()
            raise

    def _draw(self, answer: Reply) -> None:
        view = self._studio.service.view
        element("p", "head", answer.text.partition("\n")[0])
        with element("ol", "said"):
            for item in answer.items:
                with element("li"):
                    with element("div", "line"):
                        element("span", "title", item.title or item.item_id)
                        draw(view.name_of(item.code))
                    if item.reason:
                        element("p", "why", item.reason)
        if answer.items:
            self._offer(["More like these", "Why?", "Not the first one"])
