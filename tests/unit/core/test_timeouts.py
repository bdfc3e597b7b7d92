"""One timer for many: each is timed out when its own time is over, unless it was removed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, cast

import pytest

from proxy.core.timeouts import TimeLimit, TimeoutQueue

SECONDS: Final = 8  # whole numbers, so that sums of times are exact


class HandLoop:
    """The part of an event loop that a `TimeoutQueue` uses; time passes when `turn` is called."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> object:
        self.timers.append((when, call))
        return self.timers[-1]  # the handle

    def turn(self, seconds: float) -> None:
        """Let `seconds` pass; each timer is called at its time."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            self.timers.remove(first := min(due, key=lambda timer: timer[0]))
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until


class Entry:
    """Remembers when it was timed out."""

    def __init__(self, loop: HandLoop) -> None:
        self._loop = loop
        self.at: float | None = None

    def timed_out(self) -> None:
        assert self.at is None
        self.at = self._loop.time()


@pytest.fixture
def loop() -> HandLoop:
    return HandLoop()


@pytest.fixture
def queue(loop: HandLoop) -> TimeoutQueue:
    return TimeoutQueue(SECONDS, cast("asyncio.AbstractEventLoop", loop))


def test_each_is_timed_out_when_its_own_time_is_over_and_by_one_timer(
    loop: HandLoop, queue: TimeoutQueue
) -> None:
    entries = [Entry(loop) for _ in range(3)]
    for entry in entries:
        queue.add(entry)
        assert len(loop.timers) == 1
        loop.turn(2)
    loop.turn(SECONDS)
    assert [entry.at for entry in entries] == [1000 + SECONDS, 1002 + SECONDS, 1004 + SECONDS]
    assert len(queue) == 0
    assert loop.timers == []


def test_a_removed_entry_is_not_called_and_one_that_is_added_again_has_all_its_time(
    loop: HandLoop, queue: TimeoutQueue
) -> None:
    removed, again = Entry(loop), Entry(loop)
    queue.add(removed)
    queue.add(again)
    assert queue.remove(again) == 1000 + SECONDS
    assert queue.remove(removed) is not None
    assert queue.remove(removed) is None
    loop.turn(5)
    queue.add(again)
    loop.turn(2 * SECONDS)
    assert again.at == 1005 + SECONDS
    assert removed.at is None


def test_an_entry_that_is_added_when_the_queue_was_empty_is_timed_out_too(
    loop: HandLoop, queue: TimeoutQueue
) -> None:
    first, second = Entry(loop), Entry(loop)
    queue.add(first)
    loop.turn(SECONDS)
    assert first.at is not None
    queue.add(second)
    loop.turn(SECONDS)
    assert second.at == first.at + SECONDS
    assert len(queue) == 0


# -- TimeLimit --


async def limited(limit: TimeLimit, body: Awaitable[None]) -> str:
    try:
        with limit.begin():
            await body
    except TimeoutError:
        return "late"
    return "in time"


@pytest.mark.timeout(10)
async def test_a_body_that_takes_too_long_is_cancelled_and_the_others_go_on() -> None:
    limit, freed = TimeLimit(0.05), asyncio.Event()
    late = asyncio.create_task(limited(limit, asyncio.sleep(60)))
    assert await limited(limit, asyncio.sleep(0)) == "in time"
    assert await late == "late"
    after = asyncio.create_task(limited(limit, freed.wait()))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    freed.set()
    assert await after == "in time"
    assert late.cancelling() == 0


@pytest.mark.timeout(10)
async def test_a_task_that_is_cancelled_by_others_stays_cancelled() -> None:
    limit = TimeLimit(0.05)
    cancelled = asyncio.create_task(limited(limit, asyncio.sleep(60)))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    async def ignores_the_limit() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            task.cancel()  # someone else cancels it too, in the same moment
            raise

    both = asyncio.create_task(limited(limit, ignores_the_limit()))
    with pytest.raises(asyncio.CancelledError):
        await both


@pytest.mark.timeout(10)
async def test_an_error_of_the_body_is_raised_as_it_is() -> None:
    limit = TimeLimit(60)

    async def fails() -> None:
        raise ValueError("of the body")

    with pytest.raises(ValueError, match="of the body"):
        await limited(limit, fails())
