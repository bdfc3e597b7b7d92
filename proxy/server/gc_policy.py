"""When the cyclic garbage collector of Python runs, and over what: it stops the event loop while it does.

What the proxy releases is freed by reference counting (``tests/e2e/test_freed.py``), so the collector finds
almost nothing. By its own rules CPython walks all objects again and again while backlogs grow; with 200,000
objects that is a pause of 50 to 500 ms each time.

- What exists at the start is frozen: no collection walks it.
- Young objects are collected `YOUNG` at a time: a pause of 1 to 2 ms at most. Survivors are not walked again.
- Everything is collected when memory has grown by more than backlogs, clients and runs explain. So garbage
  in cycles, whatever its cause, stays below about half of what is alive.

These rules were chosen by measurement. Backlogs of many runs fill with chunks; CPU time of the collector
(CPython 3.11):

                                            400 runs, 400,000 chunks     4,000 runs, 240,000 chunks
                                            in all     longest           in all     longest
    CPython's own rules                     190 ms     145 ms            590 ms     200 ms
    frozen at the start, threshold 10,000   46 ms      12 ms             140 ms     44 ms
    these rules                             65 ms      30 ms (full)      45 ms      0.3 ms

The longest pause of simpler rules grows with what is alive; here only a full collection does, and it comes
only where memory grew by more than is explained.

Collectors with generations (CPython up to 3.13) and the incremental one of 3.14 both follow these thresholds.
Every pause is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from proxy.observability.counters import Histogram

YOUNG: Final = 1_000  # new objects before the young ones are collected: about a tenth of a millisecond
NEVER: Final = 1 << 30  # collections of young objects before CPython collects older ones by itself
CHECK: Final = 1.0  # seconds between checks whether memory has grown
GROWTH: Final = 1.5  # times what was left by the last full collection
SLACK_BLOCKS: Final = 200_000  # the least growth, because a small process would collect all the time
SLACK_BYTES: Final = 64 * 1024 * 1024  # the same for bytes: a few blocks may be large
BYTES_PER_BLOCK: Final = 40  # of known size that explain a block: an event with its frame is about ten blocks
SPARE: Final = 4  # bytes of the process for each byte of known size: objects and the allocator's overhead


class GcPolicy:
    """The collector's rules while `applied` is open."""

    def __init__(self, pauses: Histogram, held: Callable[[], int]) -> None:
        """`pauses` gets the seconds of each collection; `held` gives the known bytes of what is alive."""
        self._pauses = pauses
        self._held = held
        self._started_at = 0.0
        self._blocks = self._peak = self._explained = 0  # after the last full collection
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the rules on the running loop; to be entered when all long-lived objects exist."""
        before = gc.get_threshold()
        gc.callbacks.append(self._measure)
        gc.set_threshold(YOUNG, NEVER, NEVER)
        self.collect()
        self._timer = asyncio.get_running_loop().call_later(CHECK, self.check)
        try:
            yield
        finally:
            self._timer.cancel()
            gc.callbacks.remove(self._measure)
            gc.set_threshold(*before)
            gc.unfreeze()

    def check(self) -> None:
        """Collect everything if memory has grown; again after `CHECK`."""
        if self.has_grown():
            self.collect()
        self._timer = asyncio.get_running_loop().call_later(CHECK, self.check)

    def has_grown(self) -> bool:
        """Whether memory has grown by more than is explained, in blocks or in bytes."""
        explained = max(0, self._held() - self._explained)
        blocks = self._blocks * GROWTH + SLACK_BLOCKS + explained // BYTES_PER_BLOCK
        size = self._peak * GROWTH + SLACK_BYTES + explained * SPARE
        return sys.getallocatedblocks() > blocks or peak() > size

    def collect(self) -> None:
        """Collect everything, also what is frozen, and freeze what is left."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._blocks, self._peak, self._explained = sys.getallocatedblocks(), peak(), self._held()

    def _measure(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started_at = time.perf_counter()
        else:
            self._pauses.observe(time.perf_counter() - self._started_at)


def peak() -> int:
    """The most bytes that the process ever had in memory; 0 where the system does not report it."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
