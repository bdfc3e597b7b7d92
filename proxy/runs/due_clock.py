"""DueClock: a run's clock, which stands still at the next due time until what came before it is read.

WakeUp sets that due time, and wakes the run up at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf, nextafter
from typing import Final

from proxy.core.clock import Alarm, AlarmClock

# Turns of the loop between a due time and what is due then: each of them reads the sockets. After a stall of
# the process, chunks that came in time are received before an end is judged.
TURNS: Final = 3
NEAREST: Final = 0.002  # seconds between two wake-ups at least: a wrong due time causes no busy loop


class DueClock:
    """`clock`, but just before `due` for as long as that is set.

    An attempt counts as whole if nothing of it came for the settling time. If the process stalls meanwhile
    (no CPU, garbage collection), that time passes while chunks wait in the socket:

        end ──── stall ──────────────────────▶ event read ── chunk read ── wake-up
             └ due: judged here, not when the first event after the stall is read

    So events that are read late are dated before the due time, and what is due happens at the wake-up.
    """

    __slots__ = ("_clock", "due")

    def __init__(self, clock: AlarmClock) -> None:
        self.due = inf  # seconds
        self._clock = clock

    def now(self) -> float:
        """Seconds; they never run backwards."""
        now = self._clock.now()
        return now if now < self.due else nextafter(self.due, 0.0)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await self._clock.sleep(seconds)

    def call_at(self, at: float, call: Callable[[], object]) -> Alarm:
        """Call `call` once `clock` shows `at` seconds."""
        return self._clock.call_at(at, call)


class WakeUp:
    """Calls `wake` at the earliest due time. It alone sets the clock's `due`."""

    __slots__ = ("_alarm", "_clock", "_wake")

    def __init__(self, clock: DueClock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._alarm: Alarm | None = None

    def by(self, now: float, at: float) -> None:
        """Wake up at `at`, if not before; infinity: never. Both in seconds of the clock."""
        at = max(at, now + NEAREST)
        if at == inf or (self._alarm is not None and self._clock.due <= at):
            return
        self.cancel()
        self._clock.due = at
        self._alarm = self._clock.call_at(at, self._ring)

    def _ring(self) -> None:
        self._turn(TURNS)

    def _turn(self, left: int) -> None:
        if left:
            self._alarm = asyncio.get_running_loop().call_soon(self._turn, left - 1)
            return
        self._alarm = None
        self._clock.due = inf
        self._wake()

    def cancel(self) -> None:
        """Wake up no more, until `by` is called again."""
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()

    def close(self) -> None:
        """Never wake up again."""
        self._wake = _nothing  # breaks a reference cycle: what is woken up has this object
        self.cancel()


def _nothing() -> None:
    """The wake-up was closed."""
