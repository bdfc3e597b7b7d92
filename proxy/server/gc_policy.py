"""GcPolicy: when Python's collector of cyclic garbage walks, and over what; it stops the loop while it does.

What the proxy lets go of is freed by its reference counts (tests hold it to that), so there is next to
nothing to find, and a walk over a busy proxy's backlogs is a pause of a tenth of a second for nothing.
The law:

- The young are walked by themselves, `YOUNG` objects at a time: a millisecond, seldom more. What survives is
  never walked by itself again.
- Everything is walked for a reason. `GREW`: memory grew, in objects or in bytes, by more than what is known
  to be held explains, so garbage in cycles is bounded by what is alive, whatever leaks. Where the loop rests
  and the walk is a short one: `RESTS`, objects survived since; `RELOADED`, a configuration was replaced.
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
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

from proxy.observability.counters import Histogram

YOUNG: Final = 1_000  # objects more than there were: a tenth of a millisecond or so
NEVER: Final = 1 << 30  # young walks until older objects were walked by themselves
LOOK: Final = 1.0  # seconds between looks whether there is a reason
GROWTH: Final = 1.5  # times what was left by the last walk
SLACK: Final = 200_000  # blocks of memory more than that, or a small process would walk all the time
BLOCK: Final = 40  # bytes known to be held that explain a block: an event with its frame is some ten of them
FAT: Final = 64 * 1024 * 1024  # bytes more, beside half of what there was: blocks may be large
SPARE: Final = (
    4  # bytes of the process that a byte known to be held explains: Python's objects and the allocator
)
RESTING: Final = 0.1  # of a core: with so little to do, a pause meets few events
RENEWED: Final = 50  # young walks with survivors that make a walk worth its while, where there is time
PAUSE: Final = 60.0  # seconds between walks for the sake of order
SHORT: Final = 0.1  # seconds that a walk for the sake of order may take; growth finds what it would have


class Reason(StrEnum):
    """Why everything is walked."""

    GREW = "grew"
    RESTS = "rests"
    RELOADED = "reloaded"


class GcPolicy:
    """The collector of this process, between `kept` and its end; `pauses` counts every walk's seconds."""

    def __init__(self, pauses: Histogram, held: Callable[[], int], short: float = SHORT) -> None:
        """`held`: bytes that the process knows to be held: backlogs, clients, runs."""
        self._short = short
        self._pauses = pauses
        self._held = held
        self._explained = 0
        self._pace = 0.0  # seconds of a walk, for each block
        self._began = 0.0
        self._blocks = self._peak = self._walks = 0
        self._walked_at = self._looked_at = self._used = 0.0
        self._reloaded = False
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
        self._reloaded = True

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
        blocks, explained = sys.getallocatedblocks(), max(0, self._held() - self._explained)
        if blocks > self._blocks * GROWTH + SLACK + explained // BLOCK:
            return Reason.GREW
        if peak() > self._peak * GROWTH + FAT + explained * SPARE:
            return Reason.GREW
        elapsed = now - self._looked_at
        busy = elapsed <= 0 or time.process_time() - self._used > RESTING * elapsed
        if busy or blocks * self._pace > self._short:
            return None
        if self._reloaded:
            return Reason.RELOADED
        if now - self._walked_at > PAUSE and young_walks() - self._walks >= RENEWED:
            return Reason.RESTS
        return None

    def walk(self, reason: Reason) -> None:
        """Walk over everything; over what is frozen too, unless it only rests."""
        thaws = reason is not Reason.RESTS
        if thaws:
            gc.unfreeze()
            self._reloaded = False
        began, blocks = time.perf_counter(), sys.getallocatedblocks()
        gc.collect()
        self._pace = (time.perf_counter() - began) / blocks
        if thaws:
            gc.freeze()
        self._blocks, self._peak, self._walks = sys.getallocatedblocks(), peak(), young_walks()
        self._explained = self._held()
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
