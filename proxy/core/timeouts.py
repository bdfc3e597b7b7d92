"""One timer for many that each have the same number of seconds: `TimeoutQueue`, and `TimeLimit` for tasks.

All have the same time, so they are due in the order in which they were added, and one timer for the oldest is
enough. Adding and removing cost a dictionary entry each; a timer for each connection or call would cost more
than the request that it guards.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Protocol


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


class TimeLimit:
    """`asyncio.timeout` for many tasks, each with the same number of seconds:

        with limit.begin():
            await something()       # or TimeoutError

    Use it on one loop.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._queue: TimeoutQueue | None = None  # made when it is first needed, on the running loop

    def begin(self) -> _Limited:
        """A context whose body has the seconds from now on."""
        if self._queue is None:
            self._queue = TimeoutQueue(self._seconds, asyncio.get_running_loop())
        return _Limited(self._queue)


class _Limited:
    """The body of one `with` statement in a task: it is cancelled when its time is over."""

    __slots__ = ("_cancelling", "_expired", "_queue", "_task")

    def __init__(self, queue: TimeoutQueue) -> None:
        task = asyncio.current_task()
        assert task is not None, "a time limit needs a task, which it can cancel"
        self._queue = queue
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._expired = False

    def __enter__(self) -> None:
        self._queue.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            self._queue.remove(self)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error  # nobody else has cancelled the task

    def timed_out(self) -> None:
        """Called by the queue."""
        self._expired = True
        self._task.cancel()
