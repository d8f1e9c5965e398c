"""Single requests that come together are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


class Overloaded(Exception):
    """More requests wait than may."""


class Batcher(Generic[Q, R]):
    """While one batch is answered, what arrives waits and becomes the next.

    An idle server thus answers at once, and a busy one finds its own batch size; there is no
    timer. Batches run one at a time in a thread of their own.

    Args:
        answer: takes a batch, returns an answer or an exception for each.
        most: largest batch.
        longest: requests that may wait.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Sequence[R | Exception]], most: int, longest: int
    ) -> None:
        self._answer, self._most, self._longest = answer, most, longest
        self._waiting: list[tuple[Q, asyncio.Future[R]]] = []
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onoma-answers")

    async def ask(self, question: Q) -> R:
        """The answer to one question.

        Raises:
            Overloaded: the queue is full.
            Exception: what ``answer`` returned for this question.
        """
        if len(self._waiting) >= self._longest:
            raise Overloaded
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((question, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next, loop)  # what is already read from sockets joins in
        return await future

    def close(self) -> None:
        """Finish the batch at work."""
        self._thread.shutdown(wait=True)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._waiting[: self._most]
        del self._waiting[: self._most]
        batch = [pair for pair in batch if not pair[1].done()]  # the client may have gone
        if not batch:
            self._busy = bool(self._waiting)
            if self._busy:
                loop.call_soon(self._next, loop)
            return
        work = loop.run_in_executor(self._thread, self._answer, [q for q, _ in batch])
        work.add_done_callback(lambda done: self._deliver(loop, batch, done))

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Q, asyncio.Future[R]]],
        done: asyncio.Future[Sequence[R | Exception]],
    ) -> None:
        error = done.exception()
        answers = [error] * len(batch) if error is not None else done.result()
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._next(loop)
