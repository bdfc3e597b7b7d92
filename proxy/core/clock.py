"""The clock that everything with a timer is given, so that tests can advance it by hand."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

MOST_CANCELLED: Final = 100
"""Cancelled calls that a clock keeps at least until their time; beyond that, as many as are not cancelled."""

TICK: Final = 0.001
"""Seconds: loops round their timers to a millisecond. One that rings early would be set to nothing again and
again, and the loop would turn without a pause until the time has come."""


class Clock(Protocol):
    """Monotonic seconds, and a sleep on them."""

    def now(self) -> float:
        """Monotonic seconds; only differences are meaningful."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class Alarm(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Do not make it."""


class AlarmClock(Clock, Protocol):
    """A clock that also calls functions at their time."""

    def call_at(self, at: float, call: Callable[[], object]) -> Alarm:
        """Call `call` once the clock shows `at` seconds."""


class LoopClock:
    """The real clock.

    Its calls share one timer of the loop. Every run has a call to come, for seconds: a timer for each takes
    500 bytes and a task that sleeps takes 2 KB, an entry here takes 150 bytes.
    """

    now = staticmethod(time.monotonic)  # no method around it: it is called for each event

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, _Call]] = []  # a heap; the number keeps the order of equal times
        self._made = 0
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_at(self, at: float, call: Callable[[], object]) -> Alarm:
        """Call `call` at `at`, or as soon after it as the loop can. Call it on the running loop."""
        made = _Call(self, call)
        self._made += 1
        heapq.heappush(self._calls, (at, self._made, made))
        if self._timer is None or at < self._timer_at:
            self._set_timer()
        return made

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._calls[0][0]
        left = self._timer_at - self.now()
        delay = left + TICK if left > 0 else 0.0
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self.now()
        try:
            while self._calls and self._calls[0][0] <= now:
                heapq.heappop(self._calls)[2].ring()
        finally:  # a call that raises is no reason to forget the others
            if self._calls and self._timer is None:
                self._set_timer()

    def count_cancelled(self, change: int) -> None:
        """So many more calls are cancelled and kept; too many of them are thrown away."""
        self._cancelled += change
        if self._cancelled > max(MOST_CANCELLED, len(self._calls) // 2):
            self._calls = [entry for entry in self._calls if entry[2].call is not None]
            heapq.heapify(self._calls)
            self._cancelled = 0


class _Call:
    """A call of a `LoopClock`."""

    __slots__ = ("_clock", "call")

    def __init__(self, clock: LoopClock, call: Callable[[], object]) -> None:
        self._clock = clock
        self.call: Callable[[], object] | None = call  # None: it was made or cancelled

    def ring(self) -> None:
        """Make the call, if it was not cancelled."""
        call, self.call = self.call, None
        if call is None:
            self._clock.count_cancelled(-1)
        else:
            call()

    def cancel(self) -> None:
        if self.call is not None:
            self.call = None
            self._clock.count_cancelled(+1)
