"""Measures how far chunks lag behind at the engine, and derives how long an end waits for them.

A chunk carries its worker's time. The smallest difference between that and its arrival is the difference of
the two clocks plus the network's delay; anything above it is lag. An idle engine flushes chunks every 20 to
40 ms; an overloaded one keeps them for seconds while ends overtake them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from proxy.core.instant import SECOND
from proxy.runs.reconcile.timing import LAG_IDLE, SETTLE

WINDOW: Final = 2 * SECOND  # the largest lag of the last one to two windows counts
# Nanoseconds per millisecond by which the smallest difference grows again: clocks drift.
DRIFT: Final = 1_000


class LagMeter:
    """The lag of one team's chunks; `wall` is the time in nanoseconds since 1970."""

    __slots__ = ("_base", "_last", "_recent", "_wall", "_window_ends")

    def __init__(self, wall: Callable[[], int] = time.time_ns) -> None:
        self._wall = wall
        self._base: int | None = None
        self._recent = 0  # the largest lag in this window
        self._last = 0  # ... and in the one before
        self._window_ends = 0

    def observe(self, at: int) -> None:
        """A chunk that its worker sent at `at` has arrived."""
        now = self._wall()
        difference = now - at
        base = self._base
        if base is None or difference < base:
            self._base = base = difference
        lag = difference - base
        if now >= self._window_ends:
            self._roll(now)
        if lag > self._recent:  # noqa: PLR1730 - `max` takes three times as long, for every chunk
            self._recent = lag

    def _roll(self, now: int) -> None:
        past = now >= self._window_ends + WINDOW
        self._last = 0 if past else self._recent
        self._recent = 0
        self._window_ends = now + WINDOW
        if self._base is not None:
            self._base += DRIFT * (WINDOW // 1_000_000)

    @property
    def seconds(self) -> float:
        """The largest lag of the last one to two windows, in seconds."""
        if self._wall() >= self._window_ends:
            self._roll(self._wall())
        return max(self._recent, self._last) / SECOND

    def settle(self) -> float:
        """How many seconds an end that comes now waits for the chunks that it overtook.

        It is the measured lag, and as much longer as that exceeds the lag of an idle engine: the chunks that
        are still to come are later than those that were measured.
        """
        lag = self.seconds
        return max(SETTLE, lag + (lag - LAG_IDLE))
