"""A team's connection to Hatchet: can be replaced while runs are followed, and knows whether Hatchet answers.

Every call goes to the current client. Each answer and each error updates `health`, which the probes and the
event log report. Calls to the REST history and `keep_open` are logged when they fail, but do not change
`health`: the history may be at another address than gRPC, and streams go on without either.
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
from proxy.observability.health import UpstreamHealth, UpstreamState

NO_RUN: Final = "00000000-0000-0000-0000-000000000000"  # an id that no run has: the answer is "unknown run"
STATES: Final[dict[type[HatchetError], UpstreamState]] = {
    HatchetAway: UpstreamState.AWAY,
    TokenRefused: UpstreamState.REFUSED,
}  # any other error is an answer of Hatchet's, so it is reachable

T = TypeVar("T")


class MonitoredUpstream:
    """The `Upstream` of a team."""

    def __init__(self, client: Upstream, event_log: EventLog, team: str, counters: TeamCounters) -> None:
        self.health = UpstreamHealth()
        self._client = client
        self._counters = counters
        self._event_log = event_log
        self._team = team

    async def replace(self, client: Upstream) -> None:
        """Call `client` from now on. Calls on the old one end with HatchetAway; their callers try again."""
        old, self._client = self._client, client
        await old.close()

    @property
    def has_history(self) -> bool:
        return self._client.has_history

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        await self._subscribe(lambda client: client.follow(run_id, deliver, opened))

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        await self._subscribe(lambda client: client.follow_metadata(key, value, deliver, opened))

    async def core(self, run_id: str) -> CoreState:
        return await self._call(self._client.core(run_id))

    async def past(self, run_id: str) -> PastState | None:
        return await self._call_aside(self._client.past(run_id))

    async def find(self, key: str, value: str) -> str | None:
        return await self._call_aside(self._client.find(key, value))

    async def keep_open(self, step_run_id: str) -> None:
        await self._call_aside(self._client.keep_open(step_run_id))

    async def check(self) -> None:
        """Ask Hatchet something small, to learn whether it answers. Raises HatchetError."""
        with contextlib.suppress(RunUnknown):
            await self.core(NO_RUN)

    async def close(self) -> None:
        await self._client.close()

    async def _subscribe(self, call: Callable[[Upstream], Coroutine[Any, Any, None]]) -> None:
        client = self._client
        await self._call(call(client))
        if client is not self._client:
            raise HatchetAway("the connection to Hatchet was replaced")

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            answer = await call
        except RunUnknown:
            self._learn(None)
            raise
        except HatchetError as error:
            self._failed(error)
            self._learn(error)
            raise
        self._learn(None)
        return answer

    async def _call_aside(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await call
        except HatchetError as error:
            self._failed(error)
            raise

    def _failed(self, error: HatchetError) -> None:
        self._counters.troubles[type(error).__name__] += 1
        self._event_log.trouble(self._team, error)

    def _learn(self, error: HatchetError | None) -> None:
        """A call was answered, or failed with `error`."""
        old = self.health
        state = UpstreamState.REACHABLE if error is None else STATES.get(type(error), UpstreamState.REACHABLE)
        trouble = None if state is UpstreamState.REACHABLE else str(error)
        if state is old.state:
            if trouble != old.trouble:
                self.health = UpstreamHealth(state, old.since, trouble)
            return
        now = time.time()
        if state is UpstreamState.REACHABLE and not old.is_fine and old.since is not None:
            self._event_log.recovered(self._team, seconds=now - old.since)
        self.health = UpstreamHealth(state, now, trouble)
