"""The memory budget of a team: bytes of all its backlogs and of its tap, and what gives way beyond the limit.

Every backlog reports each change of its size to `grew`. When the limit is exceeded, the budget makes room in
the next turn of the loop, not within `grew`: the backlog that reported is in the middle of an append.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from proxy.observability.counters import TeamCounters

SHRINK_TO: Final = 0.9  # of the limit: shrinking to the limit itself would begin again at the next frame


class Shrinkable(Protocol):
    """Something that holds bytes of the budget and can give some up."""

    @property
    def bytes(self) -> int:
        """How many bytes it holds."""

    def shrink(self, to_bytes: int) -> None:
        """Give up what is worth least, until about `to_bytes` are left."""


def shrink_largest(held: Iterable[Shrinkable], excess: int) -> None:
    """Let `held` give up `excess` bytes, those that hold most first."""
    for one in sorted(held, key=lambda one: one.bytes, reverse=True):
        if excess <= 0:
            return
        before = one.bytes
        one.shrink(max(0, before - excess))
        excess -= before - one.bytes


class MemoryBudget:
    """Bytes that a team's backlogs may hold; the bytes in use are `TeamCounters.backlog_bytes`."""

    def __init__(
        self, counters: TeamCounters, limit: int | None, holders: Callable[[], Iterable[Shrinkable]]
    ) -> None:
        """`limit`: bytes, None for no limit. `holders`: what is shrunk when it is reached, in this order."""
        self.limit = limit
        self._counters = counters
        self._holders = holders
        self._scheduled = False

    def grew(self, delta: int) -> None:
        """A backlog has grown by `delta` bytes (negative: it has shrunk)."""
        self._counters.backlog_bytes += delta
        if self.limit is not None and self._counters.backlog_bytes > self.limit and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._make_room, self.limit)

    def _make_room(self, limit: int) -> None:
        self._scheduled = False
        target = int(limit * SHRINK_TO)
        for holder in self._holders():
            excess = self._counters.backlog_bytes - target
            if excess <= 0:
                return
            holder.shrink(max(0, holder.bytes - excess))
