"""A language model behind OpenAI's interface, on this machine (``onoma models serve``)."""

from __future__ import annotations

import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from onoma import __version__
from onoma.errors import OnomaError
from onoma.language import LanguageModel
from onoma.serving.desk import Desk, told_as_error
from onoma.serving.guard import Guard
from onoma.serving.keys import Key, Keyring
from onoma.serving.language_forms import ChatIn, EmbedIn, Refusal, ScoreIn, TextIn
from onoma.serving.metrics import Metrics
from onoma.serving.options import Options

_BODY = 16 << 20
_NESTING = 128  # a schema is nested deeper than what other services take


class OneKey(Keyring):
    """A keyring with one key; without it any token is let through, as clients must send one."""

    def __init__(self, secret: str | None) -> None:
        super().__init__()
        self._secret = secret

    def find(self, token: str) -> Key | None:
        """The key, compared in constant time."""
        secret = self._secret
        if secret is not None and not hmac.compare_digest(token.encode(), secret.encode()):
            return None
        return Key("language", "language", frozenset({"read"}))


def serve(model: LanguageModel, name: str, options: Options, key_env: str | None) -> None:
    """Serve a model until stopped.

    Args:
        model: what answers.
        name: what it is called there.
        options: host, port, and whether requests are logged.
        key_env: variable of the environment with the key that is asked for; None asks for none.

    Raises:
        OnomaError: off loopback without a key.
    """
    import uvicorn

    from onoma.serving.server import KEEP_ALIVE, Patient, log_requests

    secret = os.environ.get(key_env, "") if key_env is not None else ""
    if key_env is not None and not secret:
        raise OnomaError("it holds no key", where=key_env, fix=f"Set {key_env} to a long secret")
    if not options.loopback and not secret:
        raise OnomaError(
            f"{options.host} is reachable from elsewhere and there is no key",
            where="models serve",
            fix="Name the variable that holds one: --key-env NAME",
        )
    options = options.model_copy(update={"require_keys": bool(secret)})
    Patient.patience = options.patience
    log_requests()
    uvicorn.run(
        create_app(model, name, options, secret or None),
        host=options.host,
        port=options.port,
        http=Patient,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=10,
    )


def create_app(
    model: LanguageModel, name: str, options: Options, secret: str | None = None
) -> FastAPI:
    """The application; questions wait for each other as the model's ``concurrency`` says.

    Args:
        model: what answers.
        name: what it is called.
        options: limits; ``require_keys`` where ``secret`` is to be asked for.
        secret: the key.
    """
    desk = Desk(model, name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(model.close)

    app = FastAPI(
        title="Onoma, language model",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False},
        redirect_slashes=False,
    )

    @app.get("/health/live", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [desk.card()]}

    @app.get("/v1/models/{known}")
    async def card(known: str) -> dict[str, Any]:
        desk.check(known)
        return desk.card()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(asked: ChatIn, request: Request) -> Response | dict[str, Any]:
        desk.check(asked.model)
        if asked.stream:
            return await desk.streamed(asked, request)
        return await desk.turn(request, lambda: desk.chat(asked))

    @app.post("/v1/completions")
    async def text(asked: TextIn, request: Request) -> dict[str, Any]:
        desk.check(asked.model)
        return await desk.turn(request, lambda: desk.text(asked))

    @app.post("/v1/embeddings")
    async def embed(asked: EmbedIn, request: Request) -> dict[str, Any]:
        desk.check(asked.model)
        return await desk.turn(request, lambda: desk.embed(asked))

    @app.post("/v1/score")
    async def score(asked: ScoreIn, request: Request) -> dict[str, Any]:
        desk.check(asked.model)
        return await desk.turn(request, lambda: desk.score(asked))

    _told(app)
    app.add_middleware(
        Guard,
        options=options.model_copy(update={"body": _BODY, "nesting": _NESTING}),
        keys=OneKey(secret),
        metrics=Metrics(),
    )
    return app


def _told(app: FastAPI) -> None:
    """Errors in OpenAI's form."""

    async def refused(request: Request, error: Exception) -> Response:
        status, document = told_as_error(error)
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse({"error": document}, status, headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return await refused(request, Refusal(400, f"{where}: {first['msg']}", "invalid"))

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await refused(request, Refusal(error.status_code, str(error.detail), "invalid"))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)
    for kind in (Refusal, OnomaError):
        app.add_exception_handler(kind, refused)
