"""Puts the studio beside the service's routes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from nicegui import app as pages
from nicegui import background_tasks, ui
from starlette.responses import HTMLResponse, Response

from onoma.evaluation.report_page import Markup
from onoma.evaluation.report_page import page as whole_page
from onoma.serving.app import ENVIRONMENT, create_app
from onoma.serving.options import Options
from onoma.studio import chat, door, live, names, play, runs, systems
from onoma.studio.door import PREFIX
from onoma.studio.frame import Studio, Visitor
from onoma.studio.pulse import EVERY, Pulse

PAGES: dict[str, tuple[str, Callable[[Visitor], Any]]] = {
    "/": ("Play", play.page),
    "/names": ("Names", names.page),
    "/runs": ("Runs", runs.page),
    "/live": ("Live", live.page),
    "/chat": ("Chat", chat.page),
    "/systems": ("Systems", systems.page),
}


def mount(app: FastAPI) -> Studio:
    """Serve the studio under ``/studio`` of an application; once in a process.

    Args:
        app: from :func:`onoma.serving.app.create_app`, not started yet.
    """
    service = app.state.service
    studio, sessions = Studio(app, service), door.Sessions()
    app.include_router(door.routes(service.options, service.keys, sessions))
    app.include_router(names.routes(studio))
    app.include_router(runs.routes(studio))
    pages.exception_handler(404)(_missing)
    for path, (title, draw) in PAGES.items():
        ui.page(path, title=f"{title} · Onoma", response_timeout=20)(_page(studio, draw))
    ui.run_with(
        app, mount_path=PREFIX, title="Onoma", dark=None, tailwind=False,
        show_welcome_message=False, favicon=_ICON,
    )  # fmt: skip
    pages.on_startup(lambda: background_tasks.create(_beat(studio.pulse), name="pulse"))
    app.add_middleware(door.Door, options=service.options, keys=service.keys, sessions=sessions)
    return studio


def from_environment() -> FastAPI:
    """The application of a worker process, with its studio."""
    app = create_app(Options.model_validate_json(os.environ[ENVIRONMENT]))
    mount(app)
    return app


async def _beat(pulse: Pulse) -> None:
    """Read the counters for as long as the process lives, seen or not."""
    while True:
        await asyncio.sleep(EVERY)
        pulse.sample()


def _page(studio: Studio, draw: Callable[[Visitor], Any]) -> Callable[[Request], Any]:
    async def shown(request: Request) -> None:
        await draw(Visitor.of(studio, request))

    return shown


async def _missing(request: Request, _: Exception) -> Response:
    back = Markup(f'<p><a href="{PREFIX}/">To the first page</a></p>')
    return HTMLResponse(whole_page("Nothing is here", "The studio has no such page.", [back]), 404)


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="11" '
    'fill="none" stroke="#0b6bcb" stroke-width="6" stroke-dasharray="14 3"/></svg>'
)
