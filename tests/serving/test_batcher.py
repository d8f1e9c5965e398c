"""Requests that come together are answered together, and stay together."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence

import pytest
import torch
from asking import Serve

from onoma.serving.batcher import Batcher, Overloaded

COST = 0.02  # seconds of any batch


class Slow:
    """Answers with the double, after a while; keeps the sizes of its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun: list[float] = []

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.sizes.append(len(numbers))
        self.begun.append(time.perf_counter())
        time.sleep(COST)
        return [ValueError("odd") if n == 13 else 2 * n for n in numbers]


def run(clients: int, turns: int, pause: float = 0.0, stagger: float = 0.0) -> list[int]:
    """Sizes of the batches of clients who wait for each answer, and a while, before the next."""
    slow = Slow()
    batcher = Batcher(slow, 32, 100)

    async def client(number: int) -> None:
        await asyncio.sleep(stagger * number)
        for turn in range(turns):
            assert await batcher.ask(100 * number + turn + 20) == 2 * (100 * number + turn + 20)
            await asyncio.sleep(pause)

    async def main() -> None:
        await asyncio.gather(*(client(number) for number in range(clients)))

    asyncio.run(main())
    batcher.close()
    assert sum(slow.sizes) == clients * turns
    return slow.sizes


def test_clients_that_began_apart_share_one_batch_soon() -> None:
    sizes = run(clients=8, turns=12, pause=0.002, stagger=0.004)
    assert sizes[0] < 8
    assert sizes[3:-2].count(8) >= len(sizes[3:-2]) - 1


def waits(together: int, alone: int) -> tuple[list[int], list[float]]:
    """Sizes of batches, and how long single questions waited, after some that came together."""
    slow = Slow()
    batcher = Batcher(slow, 32, 100)

    async def main() -> list[float]:
        await asyncio.gather(*(batcher.ask(1) for _ in range(together)))
        asked = []
        for _ in range(alone):
            asked.append(time.perf_counter())
            await batcher.ask(3)
        return asked

    asked = asyncio.run(main())
    batcher.close()
    return slow.sizes, [b - a for a, b in zip(asked, slow.begun[1:], strict=True)]


def test_one_client_never_waits_for_others() -> None:
    sizes, waited = waits(1, 9)
    assert sizes == [1] * 10
    assert sorted(waited)[4] < 0.1 * COST


def test_a_client_that_stays_away_is_waited_for_once_and_briefly() -> None:
    sizes, waited = waits(2, 9)
    assert sizes == [2, *[1] * 9]
    assert 0.3 * COST < waited[0] < COST
    assert sorted(waited[1:])[4] < 0.1 * COST


def test_errors_cancelled_questions_and_a_full_queue_stay_with_their_own() -> None:
    slow = Slow()
    batcher = Batcher(slow, 2, 4)

    async def main() -> None:
        first = [asyncio.ensure_future(batcher.ask(n)) for n in (1, 13, 3, 4)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.ask(5)
        first[3].cancel()
        found = await asyncio.gather(*first, return_exceptions=True)
        assert found[0] == 2 and found[2] == 6
        assert isinstance(found[1], ValueError)
        assert isinstance(found[3], asyncio.CancelledError)
        assert await batcher.ask(7) == 14

    asyncio.run(main())
    batcher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_answers_use_the_threads_they_were_given(serve: Serve) -> None:
    def multiply() -> int:
        before = len(os.listdir("/proc/self/task"))
        torch.randn(512, 512) @ torch.randn(512, 512)
        return len(os.listdir("/proc/self/task")) - before

    service = serve("markov", threads=1).app.state.service
    assert service.batcher._thread.submit(multiply).result() == 0
