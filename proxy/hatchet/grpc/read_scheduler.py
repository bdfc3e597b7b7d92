"""ReadScheduler: decides when the gRPC connections of one team parse what they read, and when they read on.

It does two things. Both exist because all teams share one event loop.

**Slices.** A large read is parsed in slices of at most `SLICE_TIME` per turn of the loop, whichever
connection of the team brought it. Between two slices the other teams' connections and all clients get their
turn:

    loop turn      1            2            3            4
    team A         parse 0.25   parse 0.25   parse 0.25   parse the rest
    team B, others    work         work         work         work

**Read pauses.** While a team receives more than `BUSY_RATE` frames a second, its connections are read once
in a `READ_PAUSE`, all together (`GroupedReads`). The loop then wakes up once for many events; the first event
after a sleep costs several times what the following ones cost (docs/performance.md, "Receiving"):

    ms             0         5         10        15
    frames         x x xx x  xx x x x  x x xx x  x         arrive from the network
    reads          |         |         |         |         parsed together
    few frames     x    x         x                        read at once, no pause

Each team counts alone: many teams with few frames each are read at once, so no team makes another one wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.hatchet.grpc.grouped_reads import READ_PAUSE, GroupedReads, LeakyBucket

SLICE_TIME: Final = 0.00025  # seconds that a team may parse in one turn of the loop


class ReadScheduler:
    """Shared by the connections of one team; belongs to the running loop."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, reads: GroupedReads | None = None
    ) -> None:
        """`clock` returns seconds and advances within a turn of the loop, which the loop's own clock does
        not.

        `reads` is shared by all teams; None: this one is alone.
        """
        self.reads = reads or GroupedReads()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._turn_taken = False  # a connection of this team has parsed in this turn of the loop
        self._slice_end = 0.0
        self._paused: list[Callable[[], None]] = []
        self._bucket = LeakyBucket()

    # -- slices -----------------------------------------------------------------------------------

    def schedule(self, parse: Callable[[], None]) -> None:
        """Call `parse` when it is this connection's turn: at once if no other one has parsed in this turn."""
        if self._turn_taken:
            self._waiting.append(parse)
        else:
            self._turn_taken = True
            self._run(parse)

    @property
    def slice_over(self) -> bool:
        """Whether the connection that is parsing has used up its time."""
        return self._clock() >= self._slice_end

    def _run(self, parse: Callable[[], None]) -> None:
        self._loop.call_soon(self._next_turn)
        self._slice_end = self._clock() + SLICE_TIME
        parse()

    def _next_turn(self) -> None:
        if self._waiting:
            self._run(self._waiting.popleft())
        else:
            self._turn_taken = False

    # -- read pauses ------------------------------------------------------------------------------

    def is_busy(self, frames: int) -> bool:
        """Count `frames` that were received now; whether the team receives more than BUSY_RATE a second."""
        return self._bucket.is_full(frames, self._loop.time())

    def resume_later(self, resume: Callable[[], None]) -> None:
        """Call `resume` at the end of the team's current read pause; start one if there is none."""
        if not self._paused:
            self._loop.call_later(READ_PAUSE, self._resume_all)
        self._paused.append(resume)

    def _resume_all(self) -> None:
        paused, self._paused = self._paused, []
        for resume in paused:
            resume()
