"""Turns: how the connections of one team share the loop with those of others, and save it work.

A burst is taken in slices, for a fraction of a millisecond in each turn of the loop, whichever of the team's
connections brought it; so no team's burst holds up another's events. And while events come thick, nothing
reads on before a breath is over, and then all do together, so that the loop wakes up once for many events:
the first after a sleep costs several times what the others do. A quiet team waits for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

TURN: Final = 0.00025  # seconds of a team's slices: then others have a turn
THICK: Final = 1000  # frames a second: fewer spare little if they wait
AHEAD: Final = 5  # frames sooner than that: then they are thick; twice as many are the most that is counted
BREATH: Final = 0.005  # seconds: nobody sees them


class Turns:
    """What the links of a team share; it belongs to the running loop."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` tells seconds, also within a turn, as the loop's does not."""
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._taken = False  # this turn
        self._until = 0.0
        self._resting: list[Callable[[], None]] = []
        self._ahead, self._counted = 0.0, self._loop.time()

    # -- slices --

    def ask(self, take: Callable[[], None]) -> None:
        """Call `take` once it is its turn, which may be now."""
        if self._taken:
            self._waiting.append(take)
        else:
            self._taken = True
            self._give(take)

    @property
    def over(self) -> bool:
        """Whether who has the turn has had its time."""
        return self._clock() >= self._until

    def _give(self, take: Callable[[], None]) -> None:
        self._loop.call_soon(self._next)
        self._until = self._clock() + TURN
        take()

    def _next(self) -> None:
        if self._waiting:
            self._give(self._waiting.popleft())
        else:
            self._taken = False

    # -- breaths --

    def thick(self, frames: int) -> bool:
        """Whether so many more make too many in too short a time."""
        now = self._loop.time()
        ahead = max(0.0, self._ahead - THICK * (now - self._counted)) + frames
        self._ahead, self._counted = min(ahead, 2 * AHEAD), now
        return ahead >= AHEAD

    def rest(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` after the breath that is under way, or begins now."""
        if not self._resting:
            self._loop.call_later(BREATH, self._rested)
        self._resting.append(go_on)

    def _rested(self) -> None:
        resting, self._resting = self._resting, []
        for go_on in resting:
            go_on()
