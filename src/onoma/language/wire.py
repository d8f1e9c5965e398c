"""Questions over HTTP: tries that are counted, waits that end, answers that are not too large."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import weakref
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from onoma.language.answers import parsed
from onoma.language.base import BadAnswer, LanguageError, Meter, Usage
from onoma.language.faults import Reading, pause

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What came, and what it took."""

    data: dict[str, Any]
    usage: Usage


class Wire:
    """A server of OpenAI's form.

    All that is under way lives on one thread of its own, so that a question can be given up at
    its deadline whatever the server does: accept and say nothing, or send a byte now and then.

    Args:
        url: up to ``/v1``.
        key_env: variable of the environment that holds the key; it is read here and kept
            nowhere else.
        timeout: seconds without a byte.
        deadline: seconds for a question with all its tries.
        retries: further tries after 408, 409, 425, 429, 5xx, silence or a broken connection.
        backoff: seconds before the second try; doubled for each further one, with jitter.
        concurrency: questions under way at once; more wait.
        most: bytes of the largest answer.
        meter: where tries are counted.
    """

    def __init__(
        self,
        url: str,
        *,
        key_env: str,
        timeout: float,
        deadline: float,
        retries: int,
        backoff: float,
        concurrency: int,
        most: int,
        meter: Meter,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LanguageError("not an address of a server", where=url, fix="http://HOST/v1")
        if parts.username or parts.password or parts.query:
            raise LanguageError(
                "what stands in an address is written down with it, keys too",
                where=parts.hostname,
                fix=f"Put it into the environment as {key_env}",
            )
        self.url, self.timeout = url.rstrip("/"), timeout
        self.deadline, self.retries = deadline, retries
        self.backoff, self.most, self.meter = backoff, most, meter
        self.proven = False  # whether it ever answered as a server of this kind does
        self._key = os.environ.get(key_env, "")
        self._reading = Reading(self.url, timeout, self._key, key_env)
        self._client = self._made()
        self._free = asyncio.Semaphore(concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """The JSON object that a path answers; without a body it is fetched.

        Raises:
            BadAnswer: ``timeout``, or ``malformed``.
            LanguageError: what the server refuses (see :mod:`onoma.language.faults`).
        """
        return self.ask_all(path, [body])[0]

    def ask_all(self, path: str, bodies: Sequence[Mapping[str, Any] | None]) -> list[Reply]:
        """The answers of a path to several bodies, as many at once as may be.

        Raises:
            BadAnswer: as of :meth:`ask`, for the first that went wrong; the rest is given up.
            LanguageError: as of :meth:`ask`.
        """
        import httpx2

        tries = [_Tries() for _ in bodies]

        async def one(body: Mapping[str, Any] | None, counted: _Tries) -> Any:
            async def send() -> Any:
                if body is None:
                    return await self._client.get(path, cast_to=httpx2.Response)
                return await self._client.post(path, cast_to=httpx2.Response, body=dict(body))

            return await self._patient(send, counted)

        async def all_of_them() -> list[Any]:
            tasks = [
                asyncio.ensure_future(one(body, counted))
                for body, counted in zip(bodies, tries, strict=True)
            ]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()

        began = time.perf_counter()
        try:
            responses = self._wait(all_of_them())
        finally:
            seconds = time.perf_counter() - began
            used = [replace(counted.usage(), seconds=seconds / len(bodies)) for counted in tries]
            for body, usage in zip(bodies, used, strict=True):
                if body is not None:  # a list of models reaches none
                    self.meter.add(usage)
        return [
            Reply(self._read(response), usage)
            for response, usage in zip(responses, used, strict=True)
        ]

    def stream(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed chat answer; tries again only before the first.

        Raises:
            BadAnswer: ``timeout``, ``cut`` or ``malformed``.
            LanguageError: as of :meth:`ask`.
        """
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        tries = _Tries()

        async def pump() -> None:
            try:
                await self._patient(lambda: self._events(body, came.put, tries), tries)
            except Exception as error:  # told where the events are read
                came.put(error)

        under_way = asyncio.run_coroutine_threadsafe(pump(), self._running())
        under_way.add_done_callback(lambda _: came.put(None))
        try:
            while (event := came.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield _object(parsed(event, self.url), event, self.url)
            if under_way.cancelled():
                raise LanguageError("the connection is closed", where=self.url)
        finally:
            under_way.cancel()
            self.meter.add(tries.usage())

    def close(self) -> None:
        """End what is under way, the connections and the thread."""
        if not self._stop.alive:
            return

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._client.close()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._stop()
        self._thread.join(5)
        self._loop.close()

    def _made(self) -> Any:
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise LanguageError(
                f"{error.name} is not installed", where=self.url, fix="pip install 'onoma[llm]'"
            ) from None
        where, most, keyed = self.url, self.most, bool(self._key)

        class Bounded(httpx2.AsyncByteStream):
            def __init__(self, stream: Any) -> None:
                self.stream = stream

            async def __aiter__(self) -> AsyncIterator[bytes]:
                size = 0
                async for piece in self.stream:
                    size += len(piece)
                    if size > most:
                        raise BadAnswer("malformed", f"more than {most} bytes", where=where)
                    yield piece

            async def aclose(self) -> None:
                await self.stream.aclose()

        async def bounded(response: Any) -> None:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise BadAnswer("malformed", "packed, which was not asked for", where=where)
            response.stream = Bounded(response.stream)

        async def unsigned(request: Any) -> None:
            if not keyed:
                request.headers.pop("authorization", None)

        # Nothing is sent on to another address, and answers come as they are: a small body that
        # unpacks to a large one would pass the limit.
        client = openai.DefaultAsyncHttpxClient(
            event_hooks={"request": [unsigned], "response": [bounded]}, follow_redirects=False
        )
        return openai.AsyncOpenAI(
            base_url=self.url,
            api_key=self._key or "none",
            timeout=self.timeout,
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},
            http_client=client,
        )

    def _running(self) -> asyncio.AbstractEventLoop:
        if not self._stop.alive:
            raise LanguageError("the connection is closed", where=self.url)
        return self._loop

    def _wait(self, question: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; leaving early, as Ctrl-C does, gives it up."""
        if not self._stop.alive:
            question.close()
        under_way = asyncio.run_coroutine_threadsafe(question, self._running())
        try:
            return under_way.result()
        except CancelledError:
            raise LanguageError("the connection is closed", where=self.url) from None
        finally:
            under_way.cancel()

    async def _patient(self, send: Callable[[], Awaitable[T]], tries: _Tries) -> T:
        """Send, and send again after what may pass."""
        async with self._free:
            end = self._loop.time() + self.deadline
            try:
                async with asyncio.timeout_at(end):
                    while True:
                        tries.count += 1
                        try:
                            return await send()
                        except Exception as error:
                            wait = None
                            if tries.count <= self.retries and not tries.begun:
                                wait = pause(error, tries.count, self.backoff)
                            if wait is None or self._loop.time() + wait > end:
                                raise self._reading.told(error, wait) from None
                        await asyncio.sleep(wait)
            except TimeoutError:
                said = f"no whole answer within {self.deadline:g} s"
                raise BadAnswer("timeout", said, where=self.url) from None

    async def _events(
        self, body: Mapping[str, Any], put: Callable[[str], None], tries: _Tries
    ) -> None:
        """Hand on the data of server-sent events as they come."""
        import openai

        resource = self._client.chat.completions.with_streaming_response
        try:
            async with resource.create(**body) as response:
                kind = response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    raise self._strange(kind)
                async for event in _split(response.iter_bytes()):
                    if event == "[DONE]":
                        return
                    tries.begun = True
                    put(event)
        except openai.OpenAIError:
            raise
        except (LanguageError, BadAnswer, TimeoutError):
            raise
        except Exception as error:  # the transport's own errors: the SDK does not wrap them here
            import httpx2

            if isinstance(error, httpx2.TimeoutException):
                raise self._reading.silent() from None
            if isinstance(error, httpx2.RequestError):
                said = f"the connection broke ({self._reading.clean(str(error))})"
                raise BadAnswer("cut", said, where=self.url) from None
            raise

    def _read(self, response: Any) -> dict[str, Any]:
        kind = response.headers.get("content-type", "")
        if "json" not in kind:
            raise self._strange(kind)
        try:
            text = response.content.decode()
        except UnicodeDecodeError:
            raise BadAnswer("malformed", "not UTF-8", where=self.url) from None
        return _object(parsed(text, self.url), text, self.url)

    def _strange(self, kind: str) -> BadAnswer | LanguageError:
        said = f"answers {self._reading.clean(kind) or 'no kind of text'}, not what was asked for"
        if self.proven:
            return BadAnswer("malformed", said, where=self.url)
        return LanguageError(said, where=self.url, fix="Does the address end in /v1?")


class _Tries:
    """Counts the tries of one question."""

    def __init__(self) -> None:
        self.count, self.begun = 0, False
        self._began = time.perf_counter()

    def usage(self) -> Usage:
        seconds = time.perf_counter() - self._began
        return Usage(calls=min(self.count, 1), retries=max(self.count - 1, 0), seconds=seconds)


async def _split(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each server-sent event."""
    rest: list[bytes] = []
    data: list[bytes] = []
    async for piece in pieces:
        *lines, end = piece.split(b"\n")
        if lines:
            lines[0], rest = b"".join([*rest, lines[0]]), []
        rest.append(end)
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data).decode("utf-8", "replace")
                data = []
    if data:
        yield b"\n".join(data).decode("utf-8", "replace")


def _object(value: Any, text: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadAnswer("malformed", "not an object", where=where, text=text[:1000])
    return value
