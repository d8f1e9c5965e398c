"""The store in PostgreSQL, for services on several machines."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from onoma.errors import OnomaError
from onoma.serving.refusals import Unreachable
from onoma.serving.store import TABLES, Event, Record, Store
from onoma.serving.writer import GroupWriter

_LOCK = 0x0A0A  # of the advisory lock that puts commits in the order of their numbers
_SCHEMA = """
CREATE TABLE IF NOT EXISTS onoma_counter (one INTEGER PRIMARY KEY, seq BIGINT NOT NULL);
INSERT INTO onoma_counter VALUES (1, 0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS onoma_events (
    seq BIGINT PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, kind TEXT NOT NULL, timestamp BIGINT NOT NULL,
    value DOUBLE PRECISION, request_id TEXT
);
CREATE INDEX IF NOT EXISTS onoma_events_by_user ON onoma_events (user_id);
"""
_RECORDS = """
CREATE TABLE IF NOT EXISTS onoma_{0} (
    id TEXT PRIMARY KEY, data TEXT NOT NULL, gone BOOLEAN NOT NULL, seq BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS onoma_{0}_by_seq ON onoma_{0} (seq);
"""
_EVENT = "event_id, user_id, item_id, kind, timestamp, value, request_id, seq"
_PATIENCE = 10.0  # seconds that a lost server may take to come back


class PostgresStore(Store):
    """Tables named ``onoma_*`` in one database.

    A lost connection is opened again, for ten seconds; what was not acknowledged by then fails
    and may be sent again, because events are idempotent.

    Args:
        url: ``postgresql://user@host/name``.

    Raises:
        OnomaError: psycopg is missing, or the server cannot be reached.
    """

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise OnomaError(
                "psycopg is not installed", where="store",
                fix="Install the postgres extra: pip install 'onoma[postgres]'",
            ) from None  # fmt: skip
        self._url, self._psycopg = url, psycopg
        try:
            with self._connect() as first, first.transaction():
                first.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                first.execute(_SCHEMA + "".join(_RECORDS.format(t) for t in TABLES))
                first.execute(
                    "INSERT INTO onoma_settings VALUES ('store', %s, FALSE, 0) "
                    "ON CONFLICT DO NOTHING",
                    (json.dumps({"id": uuid.uuid4().hex}),),
                )
                kept = first.execute("SELECT data FROM onoma_settings WHERE id = 'store'")
                self.id = json.loads(kept.fetchone()[0])["id"]
        except psycopg.Error as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OnomaError(f"cannot be opened ({said})", where="store") from None
        self._reader: Any = None
        self._lock = threading.Lock()
        self._writer: GroupWriter[Any] = GroupWriter(
            self._patiently,
            self._begin,
            lambda c: _run(c, "COMMIT"),
            lambda c: _run(c, "ROLLBACK"),
            self._lost,
        )

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """See :meth:`Store.add_events`."""

        def write(c: Any) -> list[bool]:
            seq, new = _next(c, 0), []
            for e in events:
                row = (e.event_id, e.user_id, e.item_id, e.kind, e.timestamp, e.value, e.request_id)
                done = c.execute(
                    f"INSERT INTO onoma_events ({_EVENT}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
                    "ON CONFLICT (event_id) DO NOTHING",
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

        def write(c: Any) -> None:
            seq = _next(c, len(records)) - len(records)
            for place, r in enumerate(records, start=1):
                c.execute(
                    f"INSERT INTO onoma_{table} VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE "
                    "SET data = EXCLUDED.data, gone = EXCLUDED.gone, seq = EXCLUDED.seq",
                    (r.id, json.dumps(r.data), r.gone, seq + place),
                )

        self._write(write)

    def version(self) -> object:
        """The counter."""
        return self._read("SELECT seq FROM onoma_counter", ())[0][0]

    def events(self, after: int = 0, limit: int = 100_000) -> list[Event]:
        """See :meth:`Store.events`."""
        query = f"SELECT {_EVENT} FROM onoma_events WHERE seq > %s ORDER BY seq LIMIT %s"
        return [Event(*row) for row in self._read(query, (after, limit))]

    def records(self, table: str, after: int = 0) -> list[Record]:
        """See :meth:`Store.records`."""
        query = f"SELECT id, data, gone, seq FROM onoma_{_known(table)} WHERE seq > %s ORDER BY seq"
        return _records(self._read(query, (after,)))

    def get(self, table: str, ids: Sequence[str]) -> list[Record]:
        """See :meth:`Store.get`."""
        query = f"SELECT id, data, gone, seq FROM onoma_{_known(table)} WHERE id = ANY(%s)"
        return _records(self._read(query, (list(ids),)))

    def forget(self, user_ids: Sequence[str]) -> int:
        """See :meth:`Store.forget`."""

        def write(c: Any) -> int:
            done = c.execute("DELETE FROM onoma_events WHERE user_id = ANY(%s)", (list(user_ids),))
            return int(done.rowcount)

        return int(self._write(write))

    def close(self) -> None:
        """Finish writing and disconnect."""
        self._writer.close()
        with self._lock:
            if self._reader is not None:
                self._reader.close()

    def _connect(self) -> Any:
        return self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)

    def _patiently(self) -> Any:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._connect()
            except self._psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _begin(self, connection: Any) -> None:
        connection.execute("BEGIN")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))

    def _lost(self, error: BaseException) -> bool:
        return isinstance(error, self._psycopg.OperationalError | self._psycopg.InterfaceError)

    def _told(self, error: Exception) -> Exception:
        """An error as the service tells it; never with the address of the server."""
        return Unreachable("does not answer", where="store") if self._lost(error) else error

    def _write(self, work: Any) -> Any:
        """Once more on a new connection; what the lost one may have kept is idempotent."""
        try:
            return self._writer.submit(work).result()
        except Exception as error:
            if not self._lost(error):
                raise
        try:
            return self._writer.submit(work).result()
        except Exception as error:
            raise self._told(error) from None

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            for last in (False, True):
                try:
                    if self._reader is None:
                        self._reader = self._patiently()
                    return self._reader.execute(query, values).fetchall()
                except Exception as error:
                    self._reader = None if self._lost(error) else self._reader
                    if last or not self._lost(error):
                        raise self._told(error) from None
        raise AssertionError


def _run(c: Any, command: str) -> None:
    c.execute(command)


def _next(c: Any, more: int) -> int:
    found = c.execute("UPDATE onoma_counter SET seq = seq + %s RETURNING seq", (more,))
    return int(found.fetchone()[0])


def _known(table: str) -> str:
    if table not in TABLES:
        raise ValueError(f"no table {table!r}")
    return table


def _records(rows: list[Any]) -> list[Record]:
    return [Record(i, json.loads(data), bool(gone), seq) for i, data, gone, seq in rows]
