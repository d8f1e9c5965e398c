"""What users did since the data was taken: read from the store, kept in memory."""

from __future__ import annotations

import bisect
import threading

from onoma.serving.store import NEGATIVE, POSITIVE, Store

Entry = tuple[int, int, str]  # timestamp, seq, item id


class Live:
    """Every user's events since the start of the store, in order of time, then of arrival.

    The store is the truth: :meth:`sync` reads what came after the last event seen, whichever
    process wrote it.

    Attributes:
        count: events read.
        erased: of users that were erased, the number of the last event before it.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._version: object = None
        self._seq = 0
        self._done: dict[str, list[Entry]] = {}
        self._disliked: dict[str, list[Entry]] = {}
        self.count = 0
        self.erased: dict[str, int] = {}

    def sync(self) -> None:
        """Read what is new; costs a look at the store's version where nothing is."""
        with self._lock:
            version = self._store.version()
            if version == self._version:
                return
            while events := self._store.events(self._seq):
                for event in events:
                    table = (
                        self._done if event.kind in POSITIVE
                        else self._disliked if event.kind in NEGATIVE else None
                    )  # fmt: skip
                    if table is not None:
                        entry = (event.timestamp, event.seq, event.item_id)
                        row = table.setdefault(event.user_id, [])
                        if row and row[-1] > entry:
                            bisect.insort(row, entry)
                        else:
                            row.append(entry)
                    self._seq = event.seq
                self.count += len(events)
            self._version = version

    def done(self, user_id: str, after: int = 0) -> list[tuple[int, str]]:
        """Unix seconds and item ids of what the user did, oldest first, after event ``after``."""
        row = self._done.get(user_id, ())
        return [(when, item) for when, seq, item in row if seq > after]

    def disliked(self, user_id: str) -> list[str]:
        """Item ids that the user disliked or hid."""
        return [item for _, _, item in self._disliked.get(user_id, ())]

    def erase(self, user_id: str, upto: int) -> None:
        """Drop a user's events up to a number, and what the data says of the user."""
        with self._lock:
            self.erased[user_id] = upto
            for table in (self._done, self._disliked):
                kept = [entry for entry in table.pop(user_id, ()) if entry[1] > upto]
                if kept:
                    table[user_id] = kept

    @property
    def seen(self) -> int:
        """The number of the last event read."""
        return self._seq

    @property
    def users(self) -> int:
        """Users with at least one event."""
        return len(self._done)
