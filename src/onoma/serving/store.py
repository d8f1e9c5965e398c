"""What the service must not forget: the contract of its store, and the door to the two stores.

One counter, ``seq``, numbers every change in the order of commits, so whoever has read up to a
number can ask for what came after it: that is how several processes see each other's changes and
how a process that was killed finds its place again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onoma.errors import OnomaError

POSITIVE = frozenset({"view", "click", "cart", "purchase", "play", "rating", "like"})
NEGATIVE = frozenset({"dislike", "hide"})
KINDS = (*sorted(POSITIVE), *sorted(NEGATIVE), "impression")


@dataclass(frozen=True, slots=True)
class Event:
    """Something a user did.

    Attributes:
        event_id: the sender's; the same id twice is one event.
        user_id: the owner's.
        item_id: the owner's.
        kind: one of :data:`KINDS`.
        timestamp: Unix seconds.
        value: a rating, an amount; None where there is none.
        request_id: the answer that it followed, for attribution.
        seq: given by the store.
    """

    event_id: str
    user_id: str
    item_id: str
    kind: str
    timestamp: int
    value: float | None = None
    request_id: str | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """An item, a user, a key or a setting: a JSON document under an id.

    Attributes:
        id: the owner's id.
        data: JSON values.
        gone: withdrawn, deleted or revoked.
        seq: given by the store at the last change.
    """

    id: str
    data: dict[str, Any]
    gone: bool = False
    seq: int = 0


TABLES = ("items", "users", "keys", "settings")


class Store(ABC):
    """Durable when a call returns; safe to use from several threads and processes.

    Attributes:
        id: drawn when the store was made; numbers of stores with different ids say nothing of
            each other.
    """

    id: str

    @abstractmethod
    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Keep events; False for those whose ``event_id`` was there before."""

    @abstractmethod
    def put(self, table: str, records: Sequence[Record]) -> None:
        """Keep records of a table of :data:`TABLES`; an id that is there is replaced."""

    @abstractmethod
    def version(self) -> object:
        """A value that differs when anything may have changed since the last call; cheap."""

    @abstractmethod
    def events(self, after: int = 0, limit: int = 100_000) -> list[Event]:
        """The events with a larger ``seq``, in its order."""

    @abstractmethod
    def records(self, table: str, after: int = 0) -> list[Record]:
        """The records of a table changed after ``seq``, in its order."""

    @abstractmethod
    def get(self, table: str, ids: Sequence[str]) -> list[Record]:
        """The records of these ids that there are, in any order."""

    @abstractmethod
    def forget(self, user_ids: Sequence[str]) -> int:
        """Delete the events of users for good; how many there were."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was begun and let go."""


def open_store(url: str | Path) -> Store:
    """The store at a URL.

    Args:
        url: ``postgresql://...``, ``sqlite:///path`` or the path of a SQLite file.

    Raises:
        OnomaError: it cannot be opened, or the driver is missing.
    """
    text = str(url)
    if text.startswith(("postgresql://", "postgres://")):
        from onoma.serving.postgres import PostgresStore

        return PostgresStore(text)
    from onoma.serving.sqlite import SqliteStore

    if "://" in text and not text.startswith("sqlite:///"):
        raise OnomaError(
            "no such kind of store", where=text.partition("://")[0],
            fix="Use a path, sqlite:///PATH or postgresql://USER@HOST/NAME",
        )  # fmt: skip
    return SqliteStore(Path(text.removeprefix("sqlite:///")))
