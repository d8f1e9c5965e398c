"""The service's own interface, asked from inside: the studio sees what every client sees."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import FastAPI

from onoma.errors import OnomaError


class Api:
    """Asks the application without a network, with the visitor's key.

    Args:
        app: the application.
        token: an API key; None where none is asked for.
    """

    def __init__(self, app: FastAPI, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://localhost", headers=headers,
        )  # fmt: skip

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """What a route answers.

        Raises:
            OnomaError: it refuses, with what its problem document says.
        """
        return _told(await self._client.post(path, json=body))

    async def get(self, path: str, **params: Any) -> Any:
        """What a route answers; raises as :meth:`post`."""
        return _told(await self._client.get(path, params=params))


def _told(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    try:
        document = answer.json()
    except ValueError:
        document = {}
    said = document.get("detail") or document.get("title") or f"status {answer.status_code}"
    raise OnomaError(str(said), where=str(answer.request.url.path))
