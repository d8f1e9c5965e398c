"""A server of OpenAI's form on loopback that answers, or misbehaves as it is told to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any

WELL = "well"


@dataclass(frozen=True)
class Asked:
    """A question that arrived; ``times`` counts how often the same arrived before."""

    path: str
    body: dict[str, Any]
    times: int
    headers: dict[str, str]


class FaultyServer:
    """Answers with a kind of :data:`CHAT`, :data:`STREAM`, :data:`ECHO`, :data:`VECTORS`.

    Args:
        schedule: kinds in the order of arrival, taken again from the start when they are used
            up; or what tells the kind of a question. ``well`` is a proper answer.
        well: the proper answer to a path and a body; default one that fits the schema asked for.
    """

    def __init__(
        self,
        schedule: Sequence[str] | Callable[[Asked], str],
        well: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        order = None if callable(schedule) else cycle(schedule)
        self.asked: list[tuple[Asked, str]] = []
        self.stopped = threading.Event()
        lock = threading.Lock()

        def kind_of(path: str, body: dict[str, Any], headers: dict[str, str]) -> str:
            with lock:
                times = sum(a.path == path and a.body == body for a, _ in self.asked)
                one = Asked(path, body, times, headers)
                kind = schedule(one) if callable(schedule) else next(order)  # type: ignore
                self.asked.append((one, kind))
                return kind

        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.json({"object": "list", "data": [{"id": "little", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                kind = kind_of(self.path, body, dict(self.headers))
                good = (well or proper)(self.path, body)
                try:
                    if kind == WELL:
                        if body.get("stream"):
                            self.events(pieces(good["choices"][0]["message"]["content"]))
                        else:
                            self.json(good)
                    else:
                        acts_of(self.path, body)[kind](self, good)
                except OSError:  # the other side has had enough
                    self.close_connection = True

            def json(self, value: Any, status: int = 200, **headers: str) -> None:
                self.raw(json.dumps(value).encode(), status, **headers)

            def raw(self, data: bytes, status: int = 200, **headers: str) -> None:
                self.send_response(status)
                sent = {"content-type": "application/json", "content-length": str(len(data))}
                for name, value in (
                    sent | {k.replace("_", "-"): v for k, v in headers.items()}
                ).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def events(self, values: Sequence[Any], end: bool = True) -> None:
                """Events; strings go as they are, None ends without a word."""
                self.close_connection = True
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for value in values:
                    line = value if isinstance(value, str) else json.dumps(value)
                    self.wfile.write(f"data: {line}\n\n".encode())
                if end:
                    self.wfile.write(b"data: [DONE]\n\n")

            def reset(self) -> None:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()

            def dribble(self, byte: bytes) -> None:
                """A byte now and then, without an end."""
                while not faulty.stopped.wait(0.02):
                    self.wfile.write(byte)

            def hang(self) -> None:
                faulty.stopped.wait(30)
                self.close_connection = True

            def finish(self) -> None:
                try:
                    super().finish()
                except (OSError, ValueError):
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def __enter__(self) -> FaultyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def proper(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A proper answer: a value that fits the schema, echoes of one token a character, vectors."""
    if path.endswith("/embeddings"):
        rows = [[float(len(text)), 1.0, 2.0] for text in body["input"]]
        return {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]}
    if path.endswith("/completions") and "prompt" in body:
        return {"choices": [_echo(i, text) for i, text in enumerate(body["prompt"])]}
    message: dict[str, Any] = {"role": "assistant", "content": "A fine answer."}
    form = body.get("response_format")
    if form:
        message["content"] = json.dumps(instance(form["json_schema"]["schema"]))
    if body.get("tools"):
        function = body["tools"][0]["function"]
        call = {"name": function["name"], "arguments": json.dumps(instance(function["parameters"]))}
        message = {"role": "assistant", "content": None,
                   "tool_calls": [{"id": "call_7", "function": call}]}  # fmt: skip
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage}


def instance(schema: dict[str, Any]) -> Any:
    """A value that fits a schema of the plain kind: the first of everything."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return instance(schema["anyOf"][0])
    kind = schema.get("type")
    if kind == "object":
        return {name: instance(one) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        inner = schema.get("items", {})
        wanted = schema.get("minItems", 1)
        if len(inner.get("enum", ())) >= wanted:
            return inner["enum"][:wanted]
        return [instance(inner) for _ in range(wanted)]
    first = {"string": "text", "integer": schema.get("minimum", 0), "boolean": True}
    return first.get(kind, schema.get("minimum", 0.5))


def pieces(text: str) -> list[dict[str, Any]]:
    """A streamed answer of three pieces."""
    third = max(len(text) // 3, 1)
    parts = [text[:third], text[third : 2 * third], text[2 * third :]]
    first = _piece({"role": "assistant", "content": ""})
    return [first, *(_piece({"content": part}) for part in parts), _piece({}, "stop")]


def _piece(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _echo(index: int, text: str) -> dict[str, Any]:
    tokens = [*text, "!"]
    values = [None, *(-0.1 for _ in tokens[1:])]
    told = {"tokens": tokens, "token_logprobs": values, "text_offset": list(range(len(tokens)))}
    return {"index": index, "text": text + "!", "finish_reason": "length", "logprobs": told}


def _message(**change: Any) -> Callable[[Any, dict[str, Any]], None]:
    def act(handler: Any, good: dict[str, Any]) -> None:
        choice = good["choices"][0]
        reason = change.get("finish_reason", "stop")
        message = choice["message"] | {k: v for k, v in change.items() if k != "finish_reason"}
        handler.json({**good, "choices": [{**choice, "message": message, "finish_reason": reason}]})

    return act


def _items(change: Callable[[list[str]], Any]) -> Callable[[Any, dict[str, Any]], None]:
    """Bend the list of items of a proper answer."""

    def act(handler: Any, good: dict[str, Any]) -> None:
        content = good["choices"][0]["message"].get("content") or "{}"
        try:
            items = json.loads(content)["items"]
        except (ValueError, KeyError):
            items = [content]
        _message(content=json.dumps({"items": change(items)}))(handler, good)

    return act


def _half(handler: Any, good: dict[str, Any]) -> None:
    content = good["choices"][0]["message"].get("content") or "text"
    _message(content=content[: len(content) // 2], finish_reason="length")(handler, good)


def _half_stopped(handler: Any, good: dict[str, Any]) -> None:
    content = good["choices"][0]["message"].get("content") or "text"
    _message(content=content[: len(content) // 2], finish_reason=None)(handler, good)


def _dribbled_head(handler: Any, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
    handler.dribble(b"x")


def _dribbled_body(handler: Any, _: Any) -> None:
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
    )
    handler.dribble(b" ")


def _reset_in_body(handler: Any, good: dict[str, Any]) -> None:
    whole = json.dumps(good).encode()
    handler.raw(whole[: len(whole) // 2], content_length=str(len(whole)))
    handler.wfile.flush()
    time.sleep(0.01)
    handler.reset()


def _short_body(handler: Any, good: dict[str, Any]) -> None:
    whole = json.dumps(good).encode()
    handler.close_connection = True
    handler.raw(whole[: len(whole) // 2], content_length=str(len(whole)))


def _huge(handler: Any, good: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    )
    for _ in range(400):
        handler.wfile.write(b" " * 65536)


def _status(status: int, code: str = "", said: str = "no", **headers: str) -> Any:
    error = {"error": {"message": said, "code": code, "type": "x"}}
    return lambda handler, _: handler.json(error, status, **headers)


def _raw(data: bytes, **headers: str) -> Any:
    return lambda handler, _: handler.raw(data, **headers)


def _started(then: Callable[[Any], None]) -> Any:
    """The first pieces of a stream, and then something else."""

    def act(handler: Any, good: dict[str, Any]) -> None:
        handler.events(pieces("half of an answer")[:2], end=False)
        handler.wfile.flush()
        then(handler)

    return act


def _stream(*last: Any) -> Any:
    """The first pieces of a stream, and then these events."""
    return lambda handler, _: handler.events([*pieces("half of an answer")[:2], *last])


def _told(change: Callable[[dict[str, Any]], Any]) -> Any:
    """Bend the last echo of a proper answer."""

    def act(handler: Any, good: dict[str, Any]) -> None:
        change(good["choices"][-1])
        handler.json(good)

    return act


def _value(value: Any) -> Any:
    def change(choice: dict[str, Any]) -> None:
        choice["logprobs"]["token_logprobs"][-2] = value

    return _told(change)


def _vectors(change: Callable[[list[dict[str, Any]]], Any]) -> Any:
    return lambda handler, good: handler.json({"data": change(good["data"])})


WIRE: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "silent": lambda handler, _: handler.hang(),
    "dribbled head": _dribbled_head,
    "dribbled body": _dribbled_body,
    "reset": lambda handler, _: handler.reset(),
    "reset in the body": _reset_in_body,
    "short body": _short_body,
    "huge": _huge,
    "429": _status(429, retry_after="0.05"),
    "429 for long": _status(429, retry_after="3600"),
    "429 of old": _status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "no quota": _status(429, "insufficient_quota"),
    "408": _status(408),
    "409": _status(409),
    "500": _status(500),
    "503": _raw(b"<html>busy</html>", content_type="text/html", status=503),  # type: ignore
    "400": _status(400),
    "401": _status(401),
    "403": _status(403),
    "404": _status(404),
    "too long": _status(400, "context_length_exceeded"),
    "held back": _status(400, "content_filter"),
    "moved": _status(302, location="http://127.0.0.1:1/v1"),
    "html": _raw(b"<html>Welcome</html>", content_type="text/html"),
    "no kind": _raw(b"{}", content_type=""),
    "not json": _raw(b'{"choices": ['),
    "nothing": _raw(b""),
    "a list": _raw(b"[]"),
    "null": _raw(b"null"),
    "deep": _raw(b"[" * 200_000),
    "not utf-8": _raw(b'{"choices": "\xff\xfe"}'),
    "no choices": _raw(b"{}"),
    "null choices": _raw(b'{"choices": null}'),
    "empty choices": _raw(b'{"choices": []}'),
    "a null choice": _raw(b'{"choices": [null]}'),
    "packed": _raw(b"\x1f\x8b\x08\x00", content_encoding="gzip"),
    "an error as 200": _raw(b'{"error": {"message": "upstream is down", "code": 502}}'),
    "garbage": lambda handler, _: handler.wfile.write(b"\x00\x01 garbage\r\n\r\n"),
}
CHAT: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "no message": _raw(b'{"choices": [{"message": null, "finish_reason": "stop"}]}'),
    "number": _message(content=7),
    "parts": _message(content=[{"type": "text", "text": "x"}]),
    "null content": _message(content=None, tool_calls=None),
    "empty": _message(content=""),
    "blank": _message(content=" \n "),
    "refused": _message(content=None, refusal="I would rather not."),
    "content_filter": _message(finish_reason="content_filter"),
    "length": _half,
    "unfinished": _half_stopped,
    "aborted": _message(finish_reason="abort"),
    "unasked call": _message(
        content=None, tool_calls=[{"id": "a", "function": {"name": "rm", "arguments": "{}"}}]
    ),
}
HELD: dict[str, Callable[[Any, dict[str, Any]], None]] = {  # where a schema was asked for
    "prose": _message(content="Here is the list: A, B."),
    "fenced": _message(content='```json\n{"items": []}\n```'),
    "half of it": lambda h, g: _message(content=g["choices"][0]["message"]["content"][:-2])(h, g),
    "invented": _items(lambda items: ["No such thing", *items[1:]]),
    "almost": _items(lambda items: [items[0].lower() + " ", *items[1:]]),
    "too many": _items(lambda items: [*items, *items]),
    "too few": _items(lambda items: items[1:]),
    "no list": _items(lambda items: items[0]),
    "nulls": _items(lambda items: [None for _ in items]),
    "numbers": _items(lambda items: list(range(len(items)))),
    "repeated": _items(lambda items: [items[0] for _ in items]),
    "more than asked": _message(content='{"items": [], "and": 1}'),
    "nan": _message(content='{"items": NaN}'),
    "surrogate": _message(content='{"items": ["\\ud800"]}'),
}
STREAM: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "stops in between": _started(lambda handler: handler.hang()),
    "dribbles in between": _started(lambda handler: handler.dribble(b":\n")),
    "resets in between": _started(lambda handler: (time.sleep(0.01), handler.reset())),
    "ends in between": _started(lambda handler: None),
    "done in between": _stream(),
    "error in between": _stream({"error": {"message": "overloaded"}}),
    "length": _stream(_piece({}, "length")),
    "content_filter": _stream(_piece({}, "content_filter")),
    "refused": _stream(_piece({"refusal": "no"})),
    "bad event": _stream('{"choices": [', _piece({}, "stop")),
    "null choices": _stream({"choices": None}, _piece({}, "stop")),
    "a null choice": _stream({"choices": [None]}, _piece({}, "stop")),
    "no delta": _stream({"choices": [{"delta": None}]}, _piece({}, "stop")),
    "number": _stream(_piece({"content": 7}), _piece({}, "stop")),
    "a list": _stream([], _piece({}, "stop")),
    "empty": lambda handler, _: handler.events([_piece({}, "stop")]),
    "no events": lambda handler, _: handler.events([]),
    "not streamed": lambda handler, good: handler.json(good),
    "huge event": _stream("x" * (2 << 20)),
}
ECHO: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "too short": _told(lambda choice: choice["logprobs"]["token_logprobs"].pop()),
    "too long a list": _told(lambda choice: choice["logprobs"]["token_logprobs"].append(-1.0)),
    "null value": _value(None),
    "positive": _value(3.0),
    "nan": _value(float("nan")),
    "endless": _value(float("-inf")),
    "text": _value("-1.0"),
    "no logprobs": _told(lambda choice: choice.pop("logprobs")),
    "null logprobs": _told(lambda choice: choice.update(logprobs=None)),
    "another text": _told(
        lambda choice: choice["logprobs"].update(tokens=["x"] * len(choice["logprobs"]["tokens"]))
    ),
    "tokens of nothing": _told(lambda choice: choice["logprobs"].update(tokens=[None] * 3)),
    "same index": _told(lambda choice: choice.update(index=0)),
    "index beyond": _told(lambda choice: choice.update(index=99)),
    "one too few": lambda handler, good: handler.json({"choices": good["choices"][:-1]}),
    "one too many": lambda h, good: h.json({"choices": good["choices"] + good["choices"][:1]}),
    "cannot echo": _status(400, "", "echo is not supported"),
}
VECTORS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "too few": _vectors(lambda rows: rows[:-1]),
    "one too many": _vectors(lambda rows: [*rows, rows[0]]),
    "same index": _vectors(lambda rows: [*rows[:-1], {**rows[-1], "index": 0}]),
    "ragged": _vectors(lambda rows: [*rows[:-1], {**rows[-1], "embedding": [1.0]}]),
    "nan": _vectors(lambda rows: [{**row, "embedding": [float("nan")] * 3} for row in rows]),
    "zeros": _vectors(lambda rows: [{**row, "embedding": [0.0] * 3} for row in rows]),
    "text": _vectors(lambda rows: [{**row, "embedding": "AAAA"} for row in rows]),
    "null": _vectors(lambda rows: None),
    "index of text": _vectors(lambda rows: [{**row, "index": "0"} for row in rows]),
    "list as index": _vectors(lambda rows: [{**row, "index": [0]} for row in rows]),
}


def acts_of(path: str, body: dict[str, Any]) -> dict[str, Callable[[Any, dict[str, Any]], None]]:
    """The faults that a question can meet."""
    if path.endswith("/embeddings"):
        return {**WIRE, **VECTORS}
    if path.endswith("/chat/completions"):
        return {**WIRE, **STREAM} if body.get("stream") else {**WIRE, **CHAT, **HELD}
    return {**WIRE, **ECHO}
