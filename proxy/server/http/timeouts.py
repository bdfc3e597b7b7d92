"""TimeoutQueue: one timer for many connections that each have the same number of seconds.

All have the same time, so they are due in the order in which they were added, and one timer for the oldest is
enough. Adding and removing cost a dictionary entry each; a timer for each connection would cost more than
the request that it guards.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol


class Waiting(Protocol):
    """What can wait in a `TimeoutQueue`."""

    def timed_out(self) -> None:
        """Its time is over; called once, after it was removed."""


class TimeoutQueue:
    """Calls `timed_out` of everything that was added `seconds` ago and has not been removed."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds: Final = seconds
        self._loop: Final = loop
        self._due: dict[Waiting, float] = {}  # in the order in which they are due
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, waiting: Waiting) -> None:
        """Give `waiting` its seconds from now on; it must not be in the queue."""
        due = self._due[waiting] = self._loop.time() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)

    def remove(self, waiting: Waiting) -> float | None:
        """Take `waiting` out; when it would have been due (the loop's time), None where it is not there."""
        return self._due.pop(waiting, None)

    def _expire(self) -> None:
        now = self._loop.time()
        self._timer = None
        while self._due:
            waiting, due = next(iter(self._due.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                return
            del self._due[waiting]
            waiting.timed_out()
