"""The store in a SQLite file: write-ahead log, one writer a process, a disk sync a transaction."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onoma.errors import OnomaError
from onoma.serving.store import TABLES, Event, Record, Store
from onoma.serving.writer import GroupWriter

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 0);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, kind TEXT NOT NULL, timestamp INTEGER NOT NULL, value REAL,
    request_id TEXT
);
CREATE INDEX IF NOT EXISTS events_by_user ON events (user_id);
"""
_RECORDS = """
CREATE TABLE IF NOT EXISTS {0} (
    id TEXT PRIMARY KEY, data TEXT NOT NULL, gone INTEGER NOT NULL, seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {0}_by_seq ON {0} (seq);
"""
_EVENT = "event_id, user_id, item_id, kind, timestamp, value, request_id, seq"
_FORMAT = 1


class SqliteStore(Store):
    """A file, and beside it the write-ahead log.

    ``synchronous = FULL``: a transaction is on the disk before it is acknowledged, so neither
    ``kill -9`` nor a power cut loses one.

    Args:
        path: made when missing.

    Raises:
        OnomaError: the file cannot be opened, or is no store of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            first = self._connect()
            found = first.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, _FORMAT):
                raise OnomaError(f"a store of format {found}", where=str(path))
            first.executescript(_SCHEMA + "".join(_RECORDS.format(t) for t in TABLES))
            first.execute(f"PRAGMA user_version = {_FORMAT}")
            drawn = json.dumps({"id": uuid.uuid4().hex})
            first.execute("INSERT OR IGNORE INTO settings VALUES ('store', ?, 0, 0)", (drawn,))
            kept = first.execute("SELECT data FROM settings WHERE id = 'store'").fetchone()[0]
            self.id = json.loads(kept)["id"]
            first.close()
        except (sqlite3.Error, OSError) as error:
            raise OnomaError(f"cannot be opened as a store ({error})", where=str(path)) from None
        self._writer = GroupWriter(
            self._connect,
            lambda c: _run(c, "BEGIN IMMEDIATE"),
            lambda c: _run(c, "COMMIT"),
            lambda c: c.rollback(),
        )
        self._reader, self._lock = self._connect(), threading.Lock()

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA synchronous = FULL")
        return made

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """See :meth:`Store.add_events`."""

        def write(c: sqlite3.Connection) -> list[bool]:
            seq = _next(c, 0)
            new = []
            for e in events:
                row = (e.event_id, e.user_id, e.item_id, e.kind, e.timestamp, e.value, e.request_id)
                done = c.execute(
                    f"INSERT OR IGNORE INTO events ({_EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, seq + 1),
                )
                new.append(done.rowcount == 1)
                seq += new[-1]
            _next(c, sum(new))
            return new

        return self._write(write)

    def put(self, table: str, records: Sequence[Record]) -> None:
        """See :meth:`Store.put`."""
        _known(table)

        def write(c: sqlite3.Connection) -> None:
            seq = _next(c, len(records)) - len(records)
            rows = [
                (r.id, json.dumps(r.data), int(r.gone), seq + place)
                for place, r in enumerate(records, start=1)
            ]
            c.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)", rows)

        self._write(write)

    def version(self) -> object:
        """Changes with every commit of another connection; the writer's is another."""
        with self._lock:
            return self._reader.execute("PRAGMA data_version").fetchone()[0]

    def events(self, after: int = 0, limit: int = 100_000) -> list[Event]:
        """See :meth:`Store.events`."""
        query = f"SELECT {_EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return [Event(*row) for row in self._read(query, (after, limit))]

    def records(self, table: str, after: int = 0) -> list[Record]:
        """See :meth:`Store.records`."""
        query = f"SELECT id, data, gone, seq FROM {_known(table)} WHERE seq > ? ORDER BY seq"
        return _records(self._read(query, (after,)))

    def get(self, table: str, ids: Sequence[str]) -> list[Record]:
        """See :meth:`Store.get`."""
        query = (
            f"SELECT id, data, gone, seq FROM {_known(table)} "
            "WHERE id IN (SELECT value FROM json_each(?))"
        )
        return _records(self._read(query, (json.dumps(list(ids)),)))

    def forget(self, user_ids: Sequence[str]) -> int:
        """See :meth:`Store.forget`."""

        def write(c: sqlite3.Connection) -> int:
            done = c.execute(
                "DELETE FROM events WHERE user_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(user_ids)),),
            )
            return int(done.rowcount)

        return int(self._write(write))

    def close(self) -> None:
        """Finish writing and close the file."""
        self._writer.close()
        with self._lock:
            self._reader.close()

    def _write(self, work: Any) -> Any:
        return self._writer.submit(work).result()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            return self._reader.execute(query, values).fetchall()


def _run(c: sqlite3.Connection, command: str) -> None:
    c.execute(command)


def _next(c: sqlite3.Connection, more: int) -> int:
    found = c.execute("UPDATE counter SET seq = seq + ? RETURNING seq", (more,)).fetchone()
    return int(found[0])


def _known(table: str) -> str:
    if table not in TABLES:
        raise ValueError(f"no table {table!r}")
    return table


def _records(rows: list[Any]) -> list[Record]:
    return [Record(i, json.loads(data), bool(gone), seq) for i, data, gone, seq in rows]
