"""Errors as documents (RFC 9457), never with a traceback or with what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from onoma.errors import OnomaError
from onoma.serving.batcher import Overloaded
from onoma.serving.refusals import Conflict, Missing, Unreachable
from onoma.serving.schema import Problem

TYPE = "application/problem+json"
_MOST_ERRORS = 20


def problem(
    status: int,
    detail: str | None = None,
    title: str | None = None,
    *,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response that says what is wrong."""
    document = {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        **({} if detail is None else {"detail": _clean(detail)}),
        **({} if errors is None else {"errors": errors}),
    }
    return Response(orjson.dumps(document), status, dict(headers or {}), media_type=TYPE)


def refusal(error: OnomaError | Overloaded) -> Response:
    """What is said where a request is fine but cannot be answered."""
    if isinstance(error, Overloaded):
        return problem(503, "Too many requests wait.", headers={"Retry-After": "1"})
    if isinstance(error, Unreachable):
        return problem(503, str(error), headers={"Retry-After": "1"})
    status = 404 if isinstance(error, Missing) else 409 if isinstance(error, Conflict) else 422
    return problem(status, str(error))


def documented(*more: int) -> dict[int | str, dict[str, Any]]:
    """What every operation may answer besides its result, for the OpenAPI document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "model": Problem,
            "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in (400, 401, 403, 413, 422, 429, 500, 503, *more)
    }


def install(app: FastAPI) -> None:
    """Handlers for everything that may be raised."""

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {
                "loc": [part if isinstance(part, int) else _clean(str(part)) for part in e["loc"]],
                "msg": _clean(str(e["msg"])),
                "type": e["type"],
            }
            for e in error.errors()[:_MOST_ERRORS]
        ]
        return problem(422, "The request does not fit its description.", errors=errors)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        return problem(error.status_code, str(error.detail), headers=headers)

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, OnomaError | Overloaded)
        return refusal(error)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(OnomaError, known)
    app.add_exception_handler(Overloaded, known)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """All methods of a path, of whatever route."""
    found: set[str] = set()
    for path, operations in app.openapi()["paths"].items():
        pattern = re.sub(r"\\{.*?\\}", ".+", re.escape(path))
        if re.fullmatch(pattern, request.scope["path"], re.DOTALL):
            found |= {method.upper() for method in operations}
    return sorted(found)


def _clean(text: str) -> str:
    """Without lone surrogates, which no encoding can carry, and not too long."""
    return text[:500].encode("utf-8", "replace").decode("utf-8")
