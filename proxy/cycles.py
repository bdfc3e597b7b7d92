"""Cycles: when Python's collector of cyclic garbage walks, and over what; it stops the loop while it does.

What the proxy lets go of is freed by its reference counts (tests hold it to that), so there is next to
nothing to find, and a walk over a busy proxy's backlogs is a pause of a tenth of a second for nothing.
The law:

- The young are walked by themselves, `YOUNG` objects at a time: well under a millisecond. What survives is
  never walked by itself again.
- Everything is walked for a reason. `GREW`: the process holds much more than the last walk left, in objects
  or in bytes, so garbage in cycles is bounded by what is alive, whatever leaks. `RESTS`: objects survived
  since, and the loop has nothing to do. `RELOADED`: what a configuration was made of may be gone.
- What is there at the start is frozen: walks pass it by. A walk that is due to growth or to a reload thaws
  it first and freezes what is left, so nothing stays unexamined for good.

It holds for collectors with generations (CPython up to 3.13) and for one that walks by increments; whichever
it is, `pauses` tells how long the loop stood still.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from proxy.counts import Histogram

YOUNG: Final = 1_000  # objects more than there were: some 0.3 ms
NEVER: Final = 1 << 30  # young walks until older objects were walked by themselves
LOOK: Final = 1.0  # seconds between looks whether there is a reason
GROWTH: Final = 1.5  # times what was left by the last walk
SLACK: Final = 200_000  # blocks of memory more than that, or a small process would walk for each client
FAT: Final = 64 * 1024 * 1024  # bytes that the process has grown by, beside its quarter: blocks may be large
RESTING: Final = 0.1  # of a core: with so little to do, a pause meets few events
RENEWED: Final = 50  # young walks with survivors that make a walk worth its while, where there is time
PAUSE: Final = 60.0  # seconds between walks for the sake of order
PATIENCE: Final = 300.0  # seconds that a reload's walk waits for rest


class Reason(StrEnum):
    """Why everything is walked."""

    GREW = "grew"
    RESTS = "rests"
    RELOADED = "reloaded"


class Cycles:
    """The collector of this process, between `kept` and its end; `pauses` counts every walk's seconds."""

    def __init__(self, pauses: Histogram) -> None:
        self._pauses = pauses
        self._began = 0.0
        self._blocks = self._peak = self._walks = 0
        self._walked_at = self._looked_at = self._used = 0.0
        self._reloaded_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Take the collector over while the body runs on this loop: once all is there that stays."""
        before = gc.get_threshold()
        gc.callbacks.append(self._heard)
        gc.set_threshold(YOUNG, NEVER, NEVER)
        self.walk(Reason.RELOADED)
        self.look()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            gc.callbacks.remove(self._heard)
            gc.set_threshold(*before)
            gc.unfreeze()

    def reloaded(self) -> None:
        """A configuration was replaced."""
        if self._reloaded_at is None:
            self._reloaded_at = time.monotonic()

    # -- the reasons --

    def look(self) -> None:
        """See whether there is a reason; again after `LOOK`."""
        reason = self.reason(time.monotonic())
        if reason is not None:
            self.walk(reason)
        self._looked_at, self._used = time.monotonic(), time.process_time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LOOK, self.look)

    def reason(self, now: float) -> Reason | None:
        """Why everything should be walked now, if it should."""
        if sys.getallocatedblocks() > self._blocks * GROWTH + SLACK or peak() > self._peak * 1.25 + FAT:
            return Reason.GREW
        elapsed = now - self._looked_at
        rests = elapsed > 0 and (time.process_time() - self._used) < RESTING * elapsed
        if self._reloaded_at is not None and (rests or now - self._reloaded_at > PATIENCE):
            return Reason.RELOADED
        if rests and now - self._walked_at > PAUSE and young_walks() - self._walks >= RENEWED:
            return Reason.RESTS
        return None

    def walk(self, reason: Reason) -> None:
        """Walk over everything; over what is frozen too, unless it only rests."""
        thaws = reason is not Reason.RESTS
        if thaws:
            gc.unfreeze()
            self._reloaded_at = None
        gc.collect()
        if thaws:
            gc.freeze()
        self._blocks, self._peak, self._walks = sys.getallocatedblocks(), peak(), young_walks()
        self._walked_at = time.monotonic()

    def _heard(self, phase: str, told: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._pauses.observe(time.perf_counter() - self._began)


def young_walks() -> int:
    """How often the young were walked since the process began."""
    return int(gc.get_stats()[0]["collections"])


def peak() -> int:
    """The most bytes that the process ever held; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
