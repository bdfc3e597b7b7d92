"""Scheduler: calls at a later time; the only thing in the model that knows time.

The model of runs is synchronous: it asks its scheduler to call something later and never waits. On an event
loop that is `LoopScheduler`. In tests it is `ManualScheduler`, whose time passes at once and always in the
same way.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any, Final, Protocol


class Cancellable(Protocol):
    """A planned call."""

    def cancel(self) -> None:
        """Do not make the call; nothing happens if it was made."""


class Scheduler(Protocol):
    """A clock, and calls at a later time."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean something."""

    def wall(self) -> float:
        """The time of day, in seconds since 1970."""

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> Cancellable:
        """Call `call` after so many seconds."""


NEVER_EARLY: Final = 0.002  # seconds: timers of uvloop count whole milliseconds and may be early


class LoopScheduler:
    """An asyncio loop's own timers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._offset = time.time() - self._loop.time()
        self.jumped = 0.0  # seconds by which the wall clock is wrong, see `Faults.jump_clock`

    def now(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._loop.time() + self._offset + self.jumped

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> Cancellable:
        return self._loop.call_later(seconds + NEVER_EARLY if seconds > 0 else 0, call, *args)


class _Entry:
    """A planned call of a `ManualScheduler`."""

    def __init__(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.call, self.args, self.off = call, args, False

    def cancel(self) -> None:
        self.off = True


class ManualScheduler:
    """Time that passes only in `advance`."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._now = 0.0
        self._wall = wall
        self._heap: list[tuple[float, int, _Entry]] = []
        self._count = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall + self._now

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> Cancellable:
        entry = _Entry(call, args)
        heapq.heappush(self._heap, (self._now + max(seconds, 0.0), next(self._count), entry))
        return entry

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; calls are made in the order of their times."""
        until = self._now + seconds
        while self._heap and self._heap[0][0] <= until:
            at, _, entry = heapq.heappop(self._heap)
            self._now = max(self._now, at)
            if not entry.off:
                entry.call(*entry.args)
        self._now = until
