"""A team's connection to Hatchet: can be replaced while runs are followed, and knows whether Hatchet answers.

Every call goes to the current client. Each answer and each error updates `health`, which the probes and the
event log report. The REST history may be at another address than gRPC, so it has a health of its own
(`history`). `probe` asks both while nobody else does. `keep_open` is logged when it fails, and changes
neither: streams go on without it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from proxy.core.clock import Clock, LoopClock
from proxy.core.observations import CoreState, ListedRun, PastState
from proxy.hatchet.errors import HatchetAway, HatchetError, HistoryAway, RunUnknown, TokenRefused
from proxy.hatchet.upstream import Deliver, Upstream
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamHealth, UpstreamState

NO_RUN: Final = "00000000-0000-0000-0000-000000000000"  # an id that no run has: the answer is "unknown run"
STATES: Final[dict[type[HatchetError], UpstreamState]] = {
    HatchetAway: UpstreamState.AWAY,
    TokenRefused: UpstreamState.REFUSED,
}  # any other error is an answer of Hatchet's, so it is reachable
IDLE: Final = 10.0  # seconds without an answer of gRPC after which a probe asks it
LACKS_AFTER: Final = 10.0
"""Seconds after which the history must know a run; it is 0.1 s behind, and some seconds under load."""
LACKS_FOR: Final = 60.0  # seconds for which a missing run counts, whatever the history answers otherwise
MOST_UNKNOWN: Final = 1000  # runs remembered that the history did not know

T = TypeVar("T")


class MonitoredUpstream:
    """The `Upstream` of a team."""

    def __init__(
        self,
        client: Upstream,
        event_log: EventLog,
        team: str,
        counters: TeamCounters,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.health = UpstreamHealth()
        self.history = UpstreamHealth(UpstreamState.UNKNOWN if client.has_history else UpstreamState.OFF)
        self._client = client
        self._counters = counters
        self._event_log = event_log
        self._team = team
        self._clock = clock or LoopClock()
        self._asked_at = float("-inf")  # when gRPC last answered or failed
        self._unknown: dict[str, float] = {}  # run ids that the history did not know -> when first
        self._lacked_at = float("-inf")  # when it last did not know a run that it should have known

    async def replace(self, client: Upstream) -> None:
        """Call `client` from now on. Calls on the old one end with HatchetAway; their callers try again."""
        old, self._client = self._client, client
        self._unknown.clear()
        self._asked_at = self._lacked_at = float("-inf")
        await old.close()

    @property
    def has_history(self) -> bool:
        return self._client.has_history

    # These return the coroutine of `_call` itself: one of their own around it would stay as long as the
    # subscription, for each run.

    def follow(
        self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> Coroutine[Any, Any, None]:
        client = self._client
        return self._call(partial(client.follow, run_id, deliver, opened), subscribed_at=client)

    def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> Coroutine[Any, Any, None]:
        client = self._client
        call = partial(client.follow_metadata, key, value, deliver, opened)
        return self._call(call, subscribed_at=client)

    def core(self, run_id: str) -> Coroutine[Any, Any, CoreState]:
        return self._call(partial(self._client.core, run_id))

    async def past(self, run_id: str) -> PastState | None:
        state = await self._call_history(self._client.past(run_id))
        self._note_past(run_id, known=state is not None)
        return state

    async def find(self, key: str, value: str, workflows: Sequence[str] | None = None) -> str | None:
        return await self._call_history(self._client.find(key, value, workflows))

    async def keep_open(self, step_run_id: str) -> None:
        try:
            await self._client.keep_open(step_run_id)
        except HatchetError as error:
            self._failed(error)
            raise

    async def runs_with(self, key: str, value: str, most: int) -> list[ListedRun]:
        return await self._call_history(self._client.runs_with(key, value, most))

    async def check_history(self) -> None:
        await self._call_history(self._client.check_history())
        self._learn_history(None)

    async def check(self) -> None:
        """Ask Hatchet something small, to learn whether it answers. Raises HatchetError."""
        with contextlib.suppress(RunUnknown):
            await self.core(NO_RUN)

    async def probe(self) -> None:
        """Ask the history, and gRPC unless it was asked a moment ago; both healths have the answers."""
        if self._clock.now() >= self._asked_at + IDLE:
            with contextlib.suppress(HatchetError):
                await self.check()
        if not self.has_history:
            self.history = UpstreamHealth(UpstreamState.OFF)
            return
        with contextlib.suppress(HatchetError):
            await self.check_history()

    async def close(self) -> None:
        await self._client.close()

    async def _call(
        self, call: Callable[[], Coroutine[Any, Any, T]], *, subscribed_at: Upstream | None = None
    ) -> T:
        """What `call` returns; `subscribed_at`: it was a subscription at this client, and is over.

        `call` is no coroutine yet: a task that is cancelled before its first step would leave it unawaited.
        """
        try:
            answer = await call()
        except RunUnknown:
            self._learn(None)
            raise
        except HatchetError as error:
            self._failed(error)
            self._learn(error)
            raise
        self._learn(None)
        if subscribed_at is not None and subscribed_at is not self._client:
            raise HatchetAway("the connection to Hatchet was replaced")
        return answer

    async def _call_history(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await call
        except HatchetError as error:
            self._failed(error)
            self._learn_history(error)
            raise

    def _failed(self, error: HatchetError) -> None:
        self._counters.troubles[type(error).__name__] += 1
        self._event_log.trouble(self._team, error)

    def _learn(self, error: HatchetError | None) -> None:
        """A call was answered, or failed with `error`."""
        self._asked_at = self._clock.now()
        old = self.health
        state = UpstreamState.REACHABLE if error is None else STATES.get(type(error), UpstreamState.REACHABLE)
        trouble = None if state is UpstreamState.REACHABLE else str(error)
        self.health = old.became(state, trouble, time.time())
        if self.health.is_fine and not old.is_fine and old.since is not None:
            self._event_log.recovered(self._team, seconds=time.time() - old.since)

    def _note_past(self, run_id: str, *, known: bool) -> None:
        """The history knew a run, or not; gRPC knows every run whose history is read.

        The history is behind for a moment. Where it lacks a run for longer, it is another Hatchet's, or its
        address has a wrong path.
        """
        now = self._clock.now()
        if known:
            self._unknown.pop(run_id, None)
            return
        if run_id not in self._unknown and len(self._unknown) >= MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        if now >= self._unknown.setdefault(run_id, now) + LACKS_AFTER:
            self._lacked_at = now
            error = HistoryAway(
                "the REST history answers HTTP 404 for a run that Hatchet knows: look at hatchet.api"
            )
            self._failed(error)
            self._learn_history(error)

    def _learn_history(self, error: HatchetError | None) -> None:
        """The history gave a usable answer, or none."""
        if error is None and self._clock.now() < self._lacked_at + LACKS_FOR:
            return
        old = self.history
        state = UpstreamState.REACHABLE if error is None else UpstreamState.AWAY
        self.history = old.became(state, None if error is None else str(error), time.time())
        if self.history.is_fine and not old.is_fine and old.since is not None:
            self._event_log.history_recovered(self._team, seconds=time.time() - old.since)
