"""Flushes: when merged chunks become frames, as entries in the log of a run that this replica leads.

A rule with ``merge`` holds chunks back for some time. If each replica measured that time for itself, their
frames would differ. So the leader measures it for all of them, and appends a `Flush` when it is over:

    chunk  chunk  chunk  Flush(50)  chunk  chunk  Flush(50)
    └──── 50 ms ────────┘           └── 50 ms ───┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from proxy.core.events import STEP_STREAM, Event, Item
from proxy.replicas.writer import Writer

MOST_TIMES: Final = 16  # of one run; chunks with another time wait for the next item


class Flushes:
    """The flushes of one run."""

    def __init__(self, writer: Writer, times: Iterable[int]) -> None:
        """`times`: each time that the team's rules have as `merge`, in milliseconds."""
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._idle = set(sorted(times)[:MOST_TIMES])  # no chunk has come since their last flush
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._closed = False

    def publish(self, items: Sequence[Item]) -> None:
        """Append items of the run's follower; chunks are flushed in time."""
        self._writer.publish(items)
        if self._idle and any(isinstance(item, Event) and item.type == STEP_STREAM for item in items):
            self.ask_all()

    def ask_all(self) -> None:
        """Chunks may wait: flush them in time."""
        for milliseconds in tuple(self._idle):
            self._begin(milliseconds)

    def ask(self, milliseconds: int) -> None:
        """Chunks wait for a rule with this `merge`, which this replica may not know."""
        if milliseconds not in self._timers and len(self._timers) + len(self._idle) < MOST_TIMES:
            self._idle.add(milliseconds)
        if milliseconds in self._idle:
            self._begin(milliseconds)

    def _begin(self, milliseconds: int) -> None:
        if not self._closed:
            self._idle.discard(milliseconds)
            self._timers[milliseconds] = self._loop.call_later(milliseconds / 1000, self._flush, milliseconds)

    def _flush(self, milliseconds: int) -> None:
        del self._timers[milliseconds]
        self._idle.add(milliseconds)
        self._writer.flush(milliseconds)

    def close(self) -> None:
        """Append nothing more."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
