"""What every page has: the bar with its links, the look, and states without content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from nicegui import ui
from starlette.requests import Request

from onoma.errors import OnomaError
from onoma.serving.service import Service
from onoma.studio.api import Api
from onoma.studio.door import PREFIX
from onoma.studio.pulse import Pulse

LINKS = (
    ("", "Play"),
    ("names", "Names"),
    ("runs", "Runs"),
    ("live", "Live"),
    ("chat", "Chat"),
    ("systems", "Systems"),
)


@dataclass
class Studio:
    """What all pages share.

    Attributes:
        app: the application, whose routes the pages ask like any client.
        service: what answers.
        pulse: what the service measured in the last minutes.
        kept: made once: what it is called, to what it was made of and the thing.
    """

    app: FastAPI
    service: Service
    kept: dict[str, tuple[object, Any]] = field(default_factory=dict)
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.service.metrics)

    def once(self, name: str, make: Callable[[], Any], of: object = None) -> Any:
        """Something made at the first call, and again when what it was made of is another.

        Args:
            name: what it is called.
            make: makes it.
            of: what it is made of, compared by ``==`` where it is a text and else by identity; by
                default the loaded run and the number of its items.
        """
        view = self.service.view
        of = f"{view.tag} {len(view.catalogue)}" if of is None else of
        before, thing = self.kept.get(name, (None, None))
        if before is not of and not (isinstance(of, str) and before == of):
            thing = make()
            self.kept[name] = (of, thing)
        return thing


@dataclass
class Visitor:
    """Who looks at a page.

    Attributes:
        studio: the studio.
        token: the visitor's API key; None where none is asked for.
    """

    studio: Studio
    token: str | None

    @classmethod
    def of(cls, studio: Studio, request: Request) -> Visitor:
        """The sender of a request that the guard let pass."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return cls(studio, token.strip() if kind.lower() == "bearer" else None)

    @property
    def api(self) -> Api:
        """The service as this visitor may use it."""
        return Api(self.studio.app, self.token)

    def check(self) -> None:
        """Refuse who may not read any more, for what is not asked through :attr:`api`.

        Raises:
            OnomaError: the key was revoked.
        """
        if not self.may("read"):
            raise OnomaError("the key does not open this any more", fix="Sign in with another")

    def may(self, scope: str) -> bool:
        """Whether the visitor's key opens a scope now; it may have been revoked."""
        if self.token is None:
            return not self.studio.service.options.keyed
        key = self.studio.service.keys.find(self.token)
        return key is not None and key.may(scope)


@contextmanager
def frame(visitor: Visitor, here: str, title: str, said: str) -> Iterator[None]:
    """A page: the bar above, and a column for what the caller draws."""
    ui.add_head_html(f"<style>{_asset('studio.css')}</style><script>{_asset('studio.js')}</script>")
    ui.run_javascript("onoma.theme()")
    with element("header", "bar"):
        element("a", "skip", "Skip to the page", href="#page")
        element("a", "brand", "Onoma", href=f"{PREFIX}/")
        with element("nav", aria_label="Pages"):
            for path, name in LINKS:
                link = element("a", "", name, href=f"{PREFIX}/{path}")
                if path == here:
                    link.props["aria-current"] = "page"
        element("span", "model", visitor.studio.service.view.name, title="the run that answers")
        switch = element("button", "switch", type="button", aria_label="Dark or light")
        switch.on("click", js_handler="() => onoma.flip()")
        with switch:
            ui.icon("contrast")
        if visitor.token is not None:
            with element("form", method="post", action=f"{PREFIX}/logout"):
                element("button", "quiet", "Sign out")
    with element("main", id="page", tabindex="-1"):
        element("h1", "", title)
        element("p", "sub", said)
        try:
            yield
        except OnomaError as error:
            failed(error)


def element(tag: str, classes: str = "", text: str | None = None, **props: Any) -> ui.element:
    """An element whose text and properties are data, never markup."""
    made = ui.element(tag)
    if classes:
        made.classes(classes)
    for key, value in props.items():
        made.props[key.rstrip("_").replace("_", "-")] = value
    if text is not None:
        with made:
            ui.label(text).classes("text")
    return made


def drawn(markup: str) -> None:
    """Markup of :mod:`onoma.evaluation.report_page`, which escapes what it is given."""
    ui.html(markup, sanitize=False)


def empty(head: str, hint: str = "") -> None:
    """What stands where there is nothing yet."""
    with element("div", "empty"):
        element("p", "head", head)
        if hint:
            element("p", "hint", hint)


def failed(error: Exception) -> None:
    """What stands where something went wrong."""
    with element("div", "empty wrong", role="alert"):
        element("p", "head", "That did not work.")
        element("p", "hint", str(error))


async def tried(box: ui.element, work: Awaitable[Any]) -> Any:
    """The result of some work, or None and its error in a box."""
    try:
        return await work
    except OnomaError as error:
        box.clear()
        with box:
            failed(error)
        return None


def button(
    icon: str, label: str, act: Callable[[], Any], classes: str = "round", off: bool = False
) -> ui.element:
    """A button that is an icon; the label is read aloud and shown on hovering."""
    made = element("button", classes, type="button", title=label, aria_label=label)
    if off:
        made.props["disabled"] = True
    made.on("click", act)
    with made:
        ui.icon(icon)
    return made


def _asset(name: str) -> str:
    return files("onoma.studio").joinpath(name).read_text("utf-8")
