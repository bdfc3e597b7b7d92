"""Deadlines: many who each have the same time, and one timer for all of them.

Who came first is due first, so the order of coming is the order of the deadlines; the timer stands at the
oldest. Coming and going cost a dictionary's entry each, where a timer for each would cost more than the
request that it guards.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol


class Mortal(Protocol):
    """Who has a deadline."""

    def late(self) -> None:
        """The time is over; told once, after it was taken off the list."""


class Deadlines:
    """A list of those who have `seconds` from their coming."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds: Final = seconds
        self._loop: Final = loop
        self._due: dict[Mortal, float] = {}  # in the order of coming
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, who: Mortal) -> None:
        """From now on `who` has his time; he must not be on the list."""
        due = self._due[who] = self._loop.time() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)

    def take(self, who: Mortal) -> float | None:
        """Take `who` off the list; when he would have been due (the loop's time), None: he is not on it."""
        return self._due.pop(who, None)

    def _look(self) -> None:
        now = self._loop.time()
        self._timer = None
        while self._due:
            who, due = next(iter(self._due.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._look)
                return
            del self._due[who]
            who.late()
