"""MonitoredUpstream: a team's one way to Hatchet, whose door can be replaced while runs are followed.

It passes every call on and learns from each answer whether Hatchet answers and takes the token: that is what
the probes and the event log tell. The history's failures are told too, but say nothing about that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from proxy.core.observations import CoreState, PastState
from proxy.hatchet.errors import HatchetAway, HatchetError, RunUnknown, TokenRefused
from proxy.hatchet.upstream import Deliver, Upstream
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamState

NO_RUN: Final = "00000000-0000-0000-0000-000000000000"  # nobody's: asking for it asks only for an answer
REACHES: Final[dict[type[HatchetError], UpstreamState]] = {
    HatchetAway: UpstreamState.AWAY,
    TokenRefused: UpstreamState.REFUSED,
}

T = TypeVar("T")


class MonitoredUpstream:
    """The team's `Upstream`, whose door can be replaced while runs are followed; knows whether it answers."""

    def __init__(self, door: Upstream, event_log: EventLog, team: str, counts: TeamCounters) -> None:
        self._door = door
        self._counts = counts
        self._event_log = event_log
        self._team = team
        self.reach = UpstreamState.UNKNOWN
        self.since: float | None = None  # Unix seconds
        self.trouble: str | None = None

    async def replace(self, door: Upstream) -> None:
        """From now on ask `door`; calls on the old one end with HatchetAway and are tried again."""
        old, self._door = self._door, door
        await old.close()

    @property
    def has_history(self) -> bool:
        return self._door.has_history

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        await self._lasting(lambda door: door.follow(run_id, deliver, opened))

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        await self._lasting(lambda door: door.follow_metadata(key, value, deliver, opened))

    async def core(self, run_id: str) -> CoreState:
        return await self._heard(self._door.core(run_id))

    async def past(self, run_id: str) -> PastState | None:
        return await self._noted(self._door.past(run_id))

    async def find(self, key: str, value: str) -> str | None:
        return await self._noted(self._door.find(key, value))

    async def check(self) -> None:
        """One small question, for the start and for probes. Raises HatchetError."""
        with contextlib.suppress(RunUnknown):
            await self.core(NO_RUN)

    async def close(self) -> None:
        await self._door.close()

    async def _lasting(self, call: Callable[[Upstream], Coroutine[Any, Any, None]]) -> None:
        door = self._door
        await self._heard(call(door))
        if door is not self._door:
            raise HatchetAway("the connection to Hatchet was replaced")

    async def _heard(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            answer = await call
        except RunUnknown:
            self._learn(UpstreamState.REACHABLE, None)
            raise
        except HatchetError as error:
            self._counts.troubles[type(error).__name__] += 1
            self._learn(REACHES.get(type(error), UpstreamState.REACHABLE), error)
            raise
        self._learn(UpstreamState.REACHABLE, None)
        return answer

    async def _noted(self, call: Coroutine[Any, Any, T]) -> T:
        """The history's calls: their failing says nothing about whether Hatchet answers."""
        try:
            return await call
        except HatchetError as error:
            self._counts.troubles[type(error).__name__] += 1
            self._event_log.trouble(self._team, error)
            raise

    def _learn(self, reach: UpstreamState, error: HatchetError | None) -> None:
        bad = reach is not UpstreamState.REACHABLE
        self.trouble = str(error) if bad else None
        if error is not None:
            self._event_log.trouble(self._team, error)
        if reach is self.reach:
            return
        now = time.time()
        if self.reach in (UpstreamState.AWAY, UpstreamState.REFUSED) and not bad and self.since is not None:
            self._event_log.recovered(self._team, seconds=now - self.since)
        self.reach, self.since = reach, now
