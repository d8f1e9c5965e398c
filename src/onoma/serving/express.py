"""A short way through the framework for requests that are as their description says."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from onoma.errors import OnomaError
from onoma.serving.batcher import Overloaded
from onoma.serving.problems import refusal

Endpoint = Callable[[BaseModel], Awaitable[Response]]


class Express:
    """ASGI middleware behind the guard: hands a valid body straight to the endpoint of its path.

    Routing, dependencies and the checks of a general framework cost a request several times what
    its own endpoint does. What is valid needs none of them; all the rest (other paths, other kinds
    of content, bodies that do not fit) goes the long way, which knows how to refuse.

    Args:
        app: the long way.
        router: its endpoints that take one model named ``body`` and return a response are served.
    """

    def __init__(self, app: Any, router: APIRouter) -> None:
        self.app = app
        self._ways: dict[str, tuple[APIRoute, type[BaseModel], Endpoint]] = {}
        for route in router.routes:
            if isinstance(route, APIRoute) and route.methods == {"POST"}:
                taken = inspect.signature(route.endpoint, eval_str=True).parameters
                if list(taken) == ["body"]:
                    self._ways[route.path] = route, taken["body"].annotation, route.endpoint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        way = self._ways.get(scope["path"]) if scope["type"] == "http" else None
        if way is None or scope["method"] != "POST" or not _json(scope):
            await self.app(scope, receive, send)
            return
        route, model, endpoint = way
        message = await receive()  # the guard has read it whole
        try:
            body = model.model_validate_json(message["body"])
        except ValidationError:
            await self.app(scope, _first(message, receive), send)
            return
        scope["route"] = route
        try:
            response = await endpoint(body)
        except (OnomaError, Overloaded) as error:
            response = refusal(error)
        await response(scope, receive, send)


def _json(scope: Any) -> bool:
    """Whether the content is said to be JSON and nothing more is said of it."""
    return (b"content-type", b"application/json") in scope["headers"]


def _first(message: Any, receive: Any) -> Any:
    """A ``receive`` that gives a message again before what follows it."""
    waiting = [message]

    async def again() -> Any:
        return waiting.pop() if waiting else await receive()

    return again
