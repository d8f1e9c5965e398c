"""What the tests of the service share."""

from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

Serve = Callable[..., TestClient]


def ids(answer: Any) -> list[str]:
    """The item ids of an answer that must have gone well."""
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]
