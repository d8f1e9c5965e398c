"""Clients that do not finish what they began are cut off; those that do are not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from onoma.serving.server import Patient

PATIENCE = 0.4
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that answers with the body that it was sent."""
    monkeypatch.setattr(Patient, "patience", PATIENCE)

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"%d" % len(body))]})  # fmt: skip
        await send({"type": "http.response.body", "body": body})

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    config = uvicorn.Config(app, port=number, http=Patient, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield number
    server.should_exit = True
    thread.join(5)


def closed(connection: socket.socket) -> bool:
    """Whether the other side ends the connection within a few patiences."""
    connection.settimeout(5 * PATIENCE)
    try:
        return connection.recv(100) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHo", HEAD, HEAD + b"\r\nab"])
def test_an_unfinished_request_is_cut_off(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        assert closed(connection)
        assert time.monotonic() - began >= 0.5 * PATIENCE


def test_headers_and_body_have_each_their_time_and_a_connection_may_rest(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(5)
        for _ in range(2):
            connection.sendall(HEAD)
            time.sleep(0.7 * PATIENCE)
            connection.sendall(b"\r\nab")
            time.sleep(0.7 * PATIENCE)
            connection.sendall(b"cd")
            said = b""
            while not said.endswith(b"abcd"):
                said += connection.recv(1000)
            time.sleep(1.5 * PATIENCE)  # idle between requests is no unfinished request
        # The next one that is left unfinished is cut off all the same.
        connection.sendall(HEAD)
        assert closed(connection)
