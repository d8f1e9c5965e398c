"""Runs the application under uvicorn, in one process or several."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from onoma.errors import OnomaError
from onoma.serving.app import ENVIRONMENT
from onoma.serving.options import Options
from onoma.serving.service import Service
from onoma.serving.store import open_store

KEEP_ALIVE = 30  # seconds that an idle connection stays open


class Patient(HttpToolsProtocol):
    """Closes connections that do not finish the headers of a request in time, or its body.

    A connection has one timer, which looks again when it is due: to set and cancel one a request
    would cost a busy service a tenth of its time.
    """

    patience = 10.0
    _until: float | None = None  # the loop's time by which more must have come
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start waiting."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """A further request on the same connection."""
        super().on_message_begin()
        if self._until is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """The body has as long again."""
        self._wait()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The wait is over."""
        self._until = None
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._until = self.loop.time() + self.patience
        if self._timer is None:
            self._timer = self.loop.call_at(self._until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._until is None:
            return
        if self.loop.time() < self._until:
            self._timer = self.loop.call_at(self._until, self._look)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.close()


def serve(options: Options, factory: str = "onoma.serving.app:from_environment") -> None:
    """Serve until stopped.

    Args:
        options: see :class:`Options`.
        factory: what makes the application in each process; it reads the options from the
            environment.

    Raises:
        OnomaError: off loopback without a key in the store; or the run or the store cannot be
            opened.
    """
    check(options)
    Patient.patience = options.patience
    log_requests()
    os.environ[ENVIRONMENT] = options.model_dump_json()
    if options.workers > 1:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="onoma-metrics-")
    uvicorn.run(
        factory,
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.workers,
        http=Patient,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=10,
        limit_concurrency=4096,
        backlog=2048,
    )


def check(options: Options) -> None:
    """Refuse what must not be started.

    Raises:
        OnomaError: keys are needed and there are none; or several workers would open a run that
            cannot be opened.
    """
    store = open_store(options.store)
    try:
        keys = [record for record in store.records("keys") if not record.gone]
    finally:
        store.close()
    if options.keyed and not keys:
        raise OnomaError(
            f"{options.host} is reachable from elsewhere and there is no API key"
            if not options.loopback else "there is no API key",
            where="serve",
            fix=f"Make one: onoma keys add NAME --store {options.store}",
        )  # fmt: skip
    if options.workers > 1:  # one that cannot start is started again without end
        Service(options).close()


def log_requests() -> None:
    """Send the access log to stderr, a JSON document a line."""
    access = logging.getLogger("onoma.access")
    access.setLevel(logging.INFO)
    access.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.handlers = [handler]
