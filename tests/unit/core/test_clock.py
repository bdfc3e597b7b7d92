"""The real clock: many calls with one timer."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest
import uvloop

from proxy.core.clock import MOST_CANCELLED, Alarm, LoopClock

pytestmark = pytest.mark.timeout(30)


async def test_calls_are_made_in_the_order_of_their_times_and_never_early() -> None:
    clock, rng, made = LoopClock(), random.Random(), list[tuple[float, float]]()
    done = asyncio.Event()
    times = [clock.now() + rng.uniform(-0.01, 0.05) for _ in range(200)]

    def call(at: float) -> None:
        made.append((at, clock.now()))
        if len(made) == len(times):
            done.set()

    for at in times:
        clock.call_at(at, partial(call, at))
    await done.wait()
    assert [at for at, _ in made] == sorted(times)
    assert all(at <= now for at, now in made)


async def test_a_cancelled_call_is_not_made_and_an_earlier_one_is_not_late() -> None:
    clock, made = LoopClock(), list[str]()
    done = asyncio.Event()
    clock.call_at(clock.now() + 3600, lambda: made.append("far"))
    cancelled = clock.call_at(clock.now() + 0.01, lambda: made.append("cancelled"))
    clock.call_at(clock.now() + 0.02, done.set)
    cancelled.cancel()
    cancelled.cancel()
    await done.wait()
    assert made == []


async def test_a_call_can_cancel_another_one_that_is_due_in_the_same_turn() -> None:
    clock, made = LoopClock(), list[str]()
    done = asyncio.Event()
    at = clock.now() + 0.005
    others: list[Alarm] = []
    clock.call_at(at, lambda: [other.cancel() for other in others])
    others.append(clock.call_at(at, lambda: made.append("second")))
    clock.call_at(at, done.set)
    await done.wait()
    assert made == []


async def test_a_call_that_raises_does_not_keep_the_others_from_being_made() -> None:
    clock, done = LoopClock(), asyncio.Event()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))

    def fail() -> None:
        raise ValueError("it fails")

    at = clock.now()
    clock.call_at(at, fail)
    clock.call_at(at, done.set)
    await done.wait()
    assert len(problems) == 1


async def test_cancelled_calls_do_not_pile_up() -> None:
    clock, done = LoopClock(), asyncio.Event()
    for number in range(50 * MOST_CANCELLED):
        clock.call_at(clock.now() + 3600 + number, done.set).cancel()
        assert len(clock._calls) <= MOST_CANCELLED + 1
    clock.call_at(clock.now(), done.set)
    await done.wait()


def test_the_loop_does_not_turn_until_the_time_has_come() -> None:
    """uvloop calls at once what is to be called in less than half a millisecond."""
    rings = 0

    class Counting(LoopClock):
        def _ring(self) -> None:
            nonlocal rings
            rings += 1
            super()._ring()

    async def wait() -> None:
        clock, done = Counting(), asyncio.Event()
        for _ in range(20):
            done.clear()
            clock.call_at(clock.now() + 0.0104, done.set)
            await done.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wait())
    assert rings <= 2 * 20
