"""One thread that writes for many: whoever waits at the same moment shares a transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

C = TypeVar("C")
_MOST = 256  # calls a transaction


class GroupWriter(Generic[C]):
    """Runs functions on one connection and commits those that came together, together.

    A commit waits for the disk (or the database) once for all of them, and a future is fulfilled
    only after it.

    Args:
        connect: opens the connection, in the writer's own thread.
        begin: starts a transaction.
        commit: ends one.
        rollback: undoes one.
        reconnect: whether an error of this kind means that the connection is lost.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        begin: Callable[[C], None],
        commit: Callable[[C], None],
        rollback: Callable[[C], None],
        reconnect: Callable[[BaseException], bool] = lambda error: False,
    ) -> None:
        self._connect, self._begin, self._commit = connect, begin, commit
        self._rollback, self._reconnect = rollback, reconnect
        self._queue: queue.SimpleQueue[tuple[Callable[[C], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="onoma-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[C], Any]) -> Future[Any]:
        """A future of what ``work`` returns, done when it is committed."""
        future: Future[Any] = Future()
        self._queue.put((work, future))
        return future

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        connection: C | None = None
        closing = False
        while not closing:
            waiting = [self._queue.get()]
            while len(waiting) < _MOST and not self._queue.empty():
                waiting.append(self._queue.get())
            closing = None in waiting
            calls = [call for call in waiting if call is not None]
            try:
                connection = self._connect() if connection is None else connection
                self._together(connection, calls)
            except BaseException as error:
                if connection is not None and self._reconnect(error):
                    connection = None
                for _, future in calls:
                    if not future.done():
                        future.set_exception(error)
        if connection is not None:
            getattr(connection, "close", lambda: None)()

    def _together(self, connection: C, calls: list[tuple[Callable[[C], Any], Future[Any]]]) -> None:
        """All in one transaction; where one fails, each in its own."""
        if not calls:
            return
        try:
            self._begin(connection)
            done = [work(connection) for work, _ in calls]
            self._commit(connection)
        except BaseException as error:
            if self._reconnect(error):
                raise
            self._rollback(connection)
            if len(calls) == 1:
                raise
            for call in calls:
                try:
                    self._together(connection, [call])
                except BaseException as alone:
                    if self._reconnect(alone):
                        raise
                    call[1].set_exception(alone)
            return
        for (_, future), result in zip(calls, done, strict=True):
            future.set_result(result)
