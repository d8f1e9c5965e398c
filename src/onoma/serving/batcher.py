"""Single requests that come together are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")
_HELD = 0.4  # of a batch's time that the next one may be held


class Overloaded(Exception):
    """More requests wait than may."""


class Batcher(Generic[Q, R]):
    """While one batch is answered, what arrives waits and becomes the next.

    An idle server thus answers at once, and a busy one finds its own batch size. Callers that wait
    for an answer before they ask again would fall apart into two batches that take turns, each at
    nearly the price of both. So after a batch the next one is held until as many wait as were
    there together, at most for a share of the time that the batch took. Batches run one at a time
    in a thread of their own.

    Args:
        answer: takes a batch, returns an answer or an exception for each.
        most: largest batch.
        longest: requests that may wait.
        prepare: called once in the thread that answers.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Sequence[R | Exception]],
        most: int,
        longest: int,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._answer, self._most, self._longest = answer, most, longest
        self._waiting: list[tuple[Q, asyncio.Future[R]]] = []
        self._busy = False
        self._together = 1  # callers that were here when the last batch ended
        self._held = 0.0  # the loop's time until which the next batch may be held
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "onoma-answers", prepare)

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
            self._begin(loop)
        return await future

    def close(self) -> None:
        """Finish the batch at work."""
        self._thread.shutdown(wait=True)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the next batch, now or when those who are expected are here."""
        if len(self._waiting) >= min(self._together, self._most) or loop.time() >= self._held:
            self._busy = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            loop.call_soon(self._next, loop)  # what is already read from sockets joins in
        elif self._timer is None:
            self._timer = loop.call_at(self._held, self._late, loop)

    def _late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._held = None, 0.0
        if self._waiting and not self._busy:
            self._begin(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._waiting[: self._most]
        del self._waiting[: self._most]
        batch = [pair for pair in batch if not pair[1].done()]  # the client may have gone
        if not batch:
            self._busy = False
            if self._waiting:
                self._begin(loop)
            return
        work = loop.run_in_executor(self._thread, self._answer, [q for q, _ in batch])
        work.add_done_callback(partial(self._deliver, loop, batch, loop.time()))

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Q, asyncio.Future[R]]],
        began: float,
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
        now = loop.time()
        self._together = len(batch) + len(self._waiting)
        self._held = now + _HELD * (now - began)
        self._busy = False
        if self._waiting:
            self._begin(loop)
