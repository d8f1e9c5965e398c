"""What stands before the application: hosts, keys, rates, sizes, patience, the log."""

from __future__ import annotations

import logging
import math
import re
import time
from typing import Any

import orjson

from onoma.serving.keys import Buckets, Key, Keyring
from onoma.serving.metrics import Metrics
from onoma.serving.options import Options
from onoma.serving.problems import problem

_log = logging.getLogger("onoma.access")
_errors = logging.getLogger("onoma.errors")
_PIECES = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_PUBLIC = ("/health/live", "/health/ready", "/studio/login")
_WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")


class Guard:
    """ASGI middleware; every refusal is a problem document.

    Args:
        app: what answers those who may pass.
        options: the limits.
        keys: the keys there are; grows and shrinks while the service runs.
        metrics: where requests are counted.
    """

    def __init__(self, app: Any, options: Options, keys: Keyring, metrics: Metrics) -> None:
        self.app, self.options, self.keys, self.metrics = app, options, keys, metrics
        self.buckets = Buckets(options.limit, options.burst)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "websocket" and self._refused(scope)[0] is not None:
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 0, 0

        async def counted(message: Any) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        refusal, key = self._refused(scope)
        try:
            if refusal is None and scope["method"] in _WITH_BODY:
                body, refusal = await self._body(scope, receive)
                receive = _replay(body, receive)
            if refusal is not None:
                await refusal(scope, receive, counted)
            else:
                await self.app(scope, receive, counted)
        except Exception:
            _errors.exception("unexpected, while answering %s", _route(scope))
            if not status:
                await problem(500, "Something went wrong here; it was logged.")(
                    scope, receive, counted
                )
        finally:
            seconds = time.perf_counter() - began
            route = _route(scope)
            self.metrics.request(route, status, seconds)
            if not self.options.quiet:
                line = {
                    "time": round(time.time(), 3), "method": scope["method"], "route": route,
                    "status": status, "ms": round(1e3 * seconds, 2), "bytes": size,
                    "key": None if key is None else key.id,
                }  # fmt: skip
                _log.info(orjson.dumps(line).decode())

    def _refused(self, scope: Any) -> tuple[Any, Key | None]:
        """A response that refuses, or None; and the key."""
        headers = dict(scope["headers"])
        path, method = scope["path"], scope.get("method", "GET")
        if self.options.loopback and not _named(headers.get(b"host", b""), self.options.hosts):
            return problem(400, "This service is not called by that name.", "Wrong host"), None
        if path in _PUBLIC:
            return None, None
        key, given = None, headers.get(b"authorization")
        if given is not None:
            kind, _, token = given.decode("latin-1").partition(" ")
            key = self.keys.find(token.strip()) if kind.lower() == "bearer" else None
        if key is None and (given is not None or self.options.keyed):
            said = "That key is not known." if given else "Send a key: Authorization: Bearer KEY."
            return problem(401, said, headers={"WWW-Authenticate": "Bearer"}), None
        scope_needed = needed(method, path)
        if key is not None and not key.may(scope_needed):
            return problem(403, f"The key has no {scope_needed} scope."), key
        name = key.id if key is not None else str((scope.get("client") or ("",))[0])
        wait = self.buckets.wait(name, time.monotonic())
        if wait > 0:
            after = {"Retry-After": str(math.ceil(wait))}
            return problem(429, "Too many requests.", headers=after), key
        return None, key

    async def _body(self, scope: Any, receive: Any) -> tuple[bytes, Any]:
        """The whole body, or what refuses it."""
        limit = self.options.body
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return b"", _too_large(limit)
        parts, size = [], 0
        while True:  # the server closes connections whose body does not come
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"", problem(400, "The body ends early.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                return b"", _too_large(limit)
            if not message.get("more_body"):
                break
        body = b"".join(parts)
        if deeper(body, self.options.nesting):
            return b"", problem(400, f"Nested deeper than {self.options.nesting}.")
        return body, None


def needed(method: str, path: str) -> str:
    """The scope that a request needs."""
    if method not in ("GET", "HEAD", "OPTIONS") and path.startswith("/v1/models"):
        return "admin"
    if method in ("PUT", "DELETE", "PATCH") or path == "/v1/events":
        return "write"
    return "read"


def deeper(body: bytes, limit: int) -> bool:
    """Whether brackets outside of strings are nested deeper than a limit."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    depth = 0
    for match in _PIECES.finditer(body):
        sign = match[0]
        if sign in (b"[", b"{"):
            depth += 1
            if depth > limit:
                return True
        elif sign in (b"]", b"}"):
            depth -= 1
    return False


def _replay(body: bytes, receive: Any) -> Any:
    sent = False

    async def again() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _too_large(limit: int) -> Any:
    return problem(413, f"At most {limit} bytes.", headers={"Connection": "close"})


def _named(host: bytes, hosts: tuple[str, ...]) -> bool:
    name = re.sub(r":\d*$", "", host.decode("latin-1").lower())
    return "*" in hosts or name in hosts


def _route(scope: Any) -> str:
    """The pattern of the path, which holds nobody's id."""
    inside = "/studio" if scope["path"].startswith("/studio/") else "unmatched"
    return getattr(scope.get("route"), "path", inside)
