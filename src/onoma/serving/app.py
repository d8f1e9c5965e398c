"""The HTTP application: routes are in the modules ``ask``, ``converse``, ``tell``, ``manage``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from onoma import __version__
from onoma.serving import ask, converse, manage, problems, tell
from onoma.serving.express import Express
from onoma.serving.guard import Guard
from onoma.serving.options import Options
from onoma.serving.service import Service

ENVIRONMENT = "ONOMA_SERVE"  # options as JSON, for worker processes


def create_app(options: Options) -> FastAPI:
    """The application of a run; its :class:`Service` is ``app.state.service``.

    Raises:
        OnomaError: the run or the store cannot be opened.
    """
    service = Service(options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="Onoma",
        version=__version__,
        summary="Recommendations, search, events and items of one run.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False},
        redirect_slashes=False,
    )
    app.state.service = service
    problems.install(app)
    asked = ask.routes(service)
    app.include_router(asked)
    app.include_router(converse.routes(service))
    app.include_router(tell.routes(service))
    app.include_router(manage.routes(service))
    app.openapi = lambda: _document(app, options)  # type: ignore[method-assign]
    app.add_middleware(Express, router=asked)
    app.add_middleware(Guard, options=options, keys=service.keys, metrics=service.metrics)
    if options.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def from_environment() -> FastAPI:
    """The application of a worker process."""
    import os

    return create_app(Options.model_validate_json(os.environ[ENVIRONMENT]))


def _document(app: FastAPI, options: Options) -> dict[str, Any]:
    """The OpenAPI document; keys are part of it where they are asked for."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        if options.keyed:
            schemes = made.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer"}
            for path, operations in made["paths"].items():
                for operation in operations.values():
                    operation["security"] = [] if path.startswith("/health") else [{"key": []}]
        app.openapi_schema = made
    return app.openapi_schema
