"""A client of the service, on the standard library alone."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from onoma.errors import OnomaError


class ServiceError(OnomaError):
    """The service refused.

    Attributes:
        status: of the response.
        document: the problem document.
    """

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status, self.document = status, document
        said = document.get("detail") or document.get("title") or "refused"
        super().__init__(f"{status}: {said}", where="service")


class Client:
    """Asks one service; a connection stays open for each thread.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        key: an API key, where the service asks for one.
        timeout: seconds to wait for an answer.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", key: str | None = None, timeout: float = 30.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OnomaError(f"{url!r} is not an http address", where="client")
        self.url, self._parts, self._timeout = url.rstrip("/"), parts, timeout
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._local = threading.local()

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        k: int = 10,
        **more: Any,
    ) -> dict[str, Any]:
        """``POST /v1/recommend``; ``more`` are further fields of its body."""
        return self._post("/v1/recommend", user_id=user_id, history=list(history), k=k, **more)

    def rank(
        self,
        items: Sequence[str],
        user_id: str | None = None,
        history: Sequence[str] = (),
        **more: Any,
    ) -> dict[str, Any]:
        """``POST /v1/rank``; ``more`` are further fields of its body."""
        return self._post(
            "/v1/rank", items=list(items), user_id=user_id, history=list(history), **more
        )

    def explain(
        self, item_id: str, user_id: str | None = None, history: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Why an item would be recommended: its score, ``contributions`` and ``reasons``.

        Raises:
            OnomaError: there is no such item.
        """
        items = self.rank([item_id], user_id, history, explain=True)["items"]
        if not items:
            raise OnomaError(f"no item {item_id!r}", where="service")
        return dict(items[0])

    def chat(
        self, messages: Sequence[dict[str, Any]], user_id: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """``POST /v1/chat/completions``; the words are in ``choices``, the items in ``onoma``."""
        return self._post("/v1/chat/completions", messages=list(messages), user=user_id, **more)

    def similar(self, item_id: str, k: int = 10, by: str = "model") -> dict[str, Any]:
        """``POST /v1/similar``."""
        return self._post("/v1/similar", item_id=item_id, k=k, by=by)

    def search(
        self, query: str, k: int = 10, user_id: str | None = None, history: Sequence[str] = ()
    ) -> dict[str, Any]:
        """``POST /v1/search``."""
        return self._post("/v1/search", query=query, k=k, user_id=user_id, history=list(history))

    def events(self, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """``POST /v1/events``; an event without an ``event_id`` is given one.

        So an event that is sent again, because the connection broke, is kept once.
        """
        named = [{"event_id": uuid.uuid4().hex, **event} for event in events]
        return self._post("/v1/events", events=named)

    def put_items(self, items: Sequence[dict[str, Any]]) -> int:
        """``PUT /v1/items``; how many were put."""
        return int(self.call("PUT", "/v1/items", {"items": list(items)})["changed"])

    def withdraw(self, item_ids: Sequence[str]) -> int:
        """``DELETE /v1/items``; how many were there."""
        query = urlencode([("item_id", each) for each in item_ids])
        return int(self.call("DELETE", f"/v1/items?{query}")["changed"])

    def models(self) -> dict[str, Any]:
        """``GET /v1/models``."""
        return self.call("GET", "/v1/models")

    def swap(self, run: str) -> dict[str, Any]:
        """``POST /v1/models/swap``."""
        return self._post("/v1/models/swap", run=run)

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        return self.call("POST", path, {k: v for k, v in body.items() if v is not None})

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Any request.

        Raises:
            ServiceError: the service refused.
            OnomaError: it cannot be reached.
        """
        sent = None if body is None else json.dumps(body).encode()
        for last in (False, True):
            connection = self._connection()
            try:
                connection.request(method, path, sent, self._headers)
                response = connection.getresponse()
                said = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                fresh = getattr(connection, "_onoma_used", False) is False
                connection.close()
                self._local.connection = None
                # An idle connection that the service closed is no failure; a new one is.
                if last or fresh:
                    raise OnomaError(
                        f"cannot be reached ({error})", where=self._parts.netloc
                    ) from None
        connection._onoma_used = True  # type: ignore[attr-defined]
        try:
            document = json.loads(said)
        except ValueError:
            document = {"title": said[:200].decode("utf-8", "replace")}
        if response.status >= 400:
            raise ServiceError(response.status, document)
        return dict(document)

    def _connection(self) -> http.client.HTTPConnection:
        known: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if known is None:
            https = self._parts.scheme == "https"
            cls = http.client.HTTPSConnection if https else http.client.HTTPConnection
            assert self._parts.hostname is not None
            known = cls(self._parts.hostname, self._parts.port, timeout=self._timeout)
            self._local.connection = known
        return known
