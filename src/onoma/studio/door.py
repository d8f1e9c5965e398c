"""Who may come in: a page that takes an API key, and a cookie that stands for it."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from onoma.evaluation.report_page import esc, page
from onoma.serving.keys import Keyring
from onoma.serving.options import Options

PREFIX = "/studio"
LOGIN = f"{PREFIX}/login"
COOKIE = "onoma_studio"
LIFE = 12 * 3600  # seconds
_MOST = 1000  # sessions
# The page's framework compiles its templates in the browser; nothing comes from elsewhere.
_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    b"connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)


class Sessions:
    """Keys that came in by the login page, by the cookie they were given; kept in memory."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, token: str) -> str:
        """A new cookie for a key; the oldest session ends where there are too many."""
        cookie = secrets.token_urlsafe(32)
        self._open[cookie] = (token, time.monotonic() + LIFE)
        if len(self._open) > _MOST:
            self._open.popitem(last=False)
        return cookie

    def token(self, cookie: str) -> str | None:
        """The key of a session that is still open."""
        token, until = self._open.get(cookie, (None, 0.0))
        if token is not None and until < time.monotonic():
            self.close(cookie)
            return None
        return token

    def close(self, cookie: str) -> None:
        """End a session."""
        self._open.pop(cookie, None)


class Door:
    """ASGI middleware before the guard: turns the cookie of the studio into its key.

    Nothing is let in here. Who has no session is sent to the login page; the guard judges the key.

    Args:
        app: the guarded application.
        options: whether keys are asked for.
        keys: the keys there are.
        sessions: who has signed in.
    """

    def __init__(self, app: Any, options: Options, keys: Keyring, sessions: Sessions) -> None:
        self.app, self.options, self.keys, self.sessions = app, options, keys, sessions

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request or one socket."""
        path = scope.get("path", "")
        if scope["type"] not in ("http", "websocket") or not within(path):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if _foreign(headers):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await PlainTextResponse("Another site may not.", 403)(scope, receive, send)
            return
        if self.options.keyed and b"authorization" not in headers:
            token = self.sessions.token(cookie_of(headers))
            if token is not None and self.keys.find(token) is not None:
                extra = (b"authorization", b"Bearer " + token.encode("latin-1"))
                scope = {**scope, "headers": [*scope["headers"], extra]}
            elif scope["type"] == "http" and path != LOGIN:
                await RedirectResponse(LOGIN, 303)(scope, receive, send)
                return

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", _POLICY),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, told)


def routes(options: Options, keys: Keyring, sessions: Sessions) -> APIRouter:
    """Coming in and going out."""
    router = APIRouter(include_in_schema=False)

    @router.get(PREFIX)
    async def plain() -> Response:
        return RedirectResponse(f"{PREFIX}/", 307)

    @router.get(LOGIN)
    async def ask() -> Response:
        if not options.keyed:
            return RedirectResponse(f"{PREFIX}/", 303)
        return _login()

    @router.post(LOGIN)
    async def enter(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        token = fields.get("key", [""])[0].strip()
        key = keys.find(token)
        if key is None:
            return _login("That key is not known.", 401)
        if not key.may("read"):
            return _login("The key has no read scope.", 403)
        answer = RedirectResponse(f"{PREFIX}/", 303)
        answer.set_cookie(
            COOKIE, sessions.open(token), max_age=LIFE, path=PREFIX, httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    @router.post(f"{PREFIX}/logout")
    async def leave(request: Request) -> Response:
        sessions.close(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(COOKIE, path=PREFIX)
        return answer

    return router


def within(path: str) -> bool:
    """Whether a path is the studio's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def cookie_of(headers: dict[bytes, bytes]) -> str:
    """The studio's cookie, empty where there is none."""
    try:
        jar = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


def _foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site asks."""
    origin = headers.get(b"origin")
    if origin is None:
        return False
    return urlsplit(origin.decode("latin-1")).netloc != headers.get(b"host", b"").decode("latin-1")


def _login(wrong: str = "", status: int = 200) -> Response:
    said = f'<p class="wrong" role="alert">{esc(wrong)}</p>' if wrong else ""
    form = (
        f'<form method="post" action="{LOGIN}">{said}<label for="key">API key</label>'
        '<input id="key" name="key" type="password" required autofocus '
        'autocomplete="current-password" spellcheck="false" placeholder="onoma_…">'
        "<button>Come in</button>"
        '<p class="note">Keys are made with <code>onoma keys add NAME</code>. The read scope opens '
        "the studio; the write scope lets it keep likes.</p></form>"
    )
    return HTMLResponse(page("Onoma studio", "This service asks for a key.", [form], _FORM), status)


_FORM = """
main{max-width:440px;padding-top:12vh}
form{display:grid;gap:10px;background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:20px}
label{font-size:.85rem;color:var(--soft)}
input{font:inherit;color:var(--ink);background:var(--bg);border:1px solid var(--line);
border-radius:8px;padding:10px 12px;width:100%}
button{font:inherit;font-weight:600;color:var(--card);background:var(--accent);border:0;
border-radius:8px;padding:10px 12px;cursor:pointer}
:is(input,button):focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.wrong{margin:0;color:var(--bad);font-weight:600}
"""
