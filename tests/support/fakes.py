"""A fake Hatchet and a clock that the test advances: what a run needs, without a network or a wait."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from proxy.core.clock import Alarm
from proxy.core.observations import CoreState, ListedRun, LiveEvent, PastState
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.hatchet.upstream import Deliver

TURNS = 30  # of the loop: enough for everything that one event causes


async def rest() -> None:
    """Let the loop turn until nothing has anything left to do."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class HandClock:
    """Time passes when `turn` is called, and only then."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ids = count()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._ids), future))
        await future

    def call_at(self, at: float, call: Callable[[], object]) -> Alarm:
        """Call `call` in the turn that follows the one in which the time comes."""

        async def wait() -> None:
            await self.sleep(at - self._now)
            call()

        return asyncio.get_running_loop().create_task(wait())

    def stall(self, seconds: float) -> None:
        """Let `seconds` pass in which the process does nothing: sleepers are woken by the next `turn`."""
        self._now += seconds

    async def turn(self, seconds: float) -> None:
        """Advance by `seconds`: each sleeper wakes at its time, and does its work before the next one."""
        until = self._now + seconds
        await rest()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now = max(self._now, at)
            future.set_result(None)
            await rest()
        self._now = until
        await rest()


@dataclass(eq=False)
class FakeSubscription:
    """One open subscription; the test sends events on it and ends it."""

    run_id: str | None
    pair: tuple[str, str] | None
    deliver: Deliver
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def emit(self, *events: LiveEvent) -> None:
        for event in events:
            self.deliver(event)

    def end(self, error: HatchetError | None = None) -> None:
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)


class FakeUpstream:
    """An `Upstream` whose states are set by the test."""

    def __init__(self, *, has_history: bool = True) -> None:
        self._has_history = has_history
        self.open: list[FakeSubscription] = []
        self.most_open = 0
        self.opened_ever: list[FakeSubscription] = []
        self.cores: dict[str, CoreState | HatchetError] = {}
        self.pasts: dict[str, PastState | HatchetError | None] = {}
        self.found: dict[tuple[str, str], str | HatchetError | None] = {}
        self.listed: dict[tuple[str, str], list[ListedRun]] = {}
        self.calls: list[str] = []
        self.kept_open: list[str] = []  # step run ids
        self.keep_open_fails: HatchetError | None = None
        self.history_fails: HatchetError | None = None  # what `check_history` raises
        self.refuse: HatchetError | None = None  # every subscription ends with it at once

    @property
    def has_history(self) -> bool:
        return self._has_history

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        await self._hold(FakeSubscription(run_id, None, deliver), opened)

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        await self._hold(FakeSubscription(None, (key, value), deliver), opened)

    async def _hold(self, subscription: FakeSubscription, opened: Callable[[], None] | None) -> None:
        await asyncio.sleep(0)
        if self.refuse is not None:
            raise self.refuse
        self.open.append(subscription)
        self.opened_ever.append(subscription)
        self.most_open = max(self.most_open, len(self.open))
        try:
            if opened is not None:
                opened()
            await subscription.ended
        finally:
            self.open.remove(subscription)

    async def core(self, run_id: str) -> CoreState:
        self.calls.append("core")
        await asyncio.sleep(0)
        state = self.cores.get(run_id, RunUnknown("no such run"))
        if isinstance(state, HatchetError):
            raise state
        return state

    async def past(self, run_id: str) -> PastState | None:
        self.calls.append("past")
        await asyncio.sleep(0)
        state = self.pasts.get(run_id)
        if isinstance(state, HatchetError):
            raise state
        return state

    async def keep_open(self, step_run_id: str) -> None:
        self.calls.append("keep_open")
        self.kept_open.append(step_run_id)
        await asyncio.sleep(0)
        if self.keep_open_fails is not None:
            raise self.keep_open_fails

    async def find(self, key: str, value: str, workflows: Sequence[str] | None = None) -> str | None:
        self.calls.append("find")
        await asyncio.sleep(0)
        found = self.found.get((key, value))
        if isinstance(found, HatchetError):
            raise found
        return found

    async def runs_with(self, key: str, value: str, most: int) -> list[ListedRun]:
        self.calls.append("runs_with")
        await asyncio.sleep(0)
        if self.history_fails is not None:
            raise self.history_fails
        return self.listed.get((key, value), [])

    async def check_history(self) -> None:
        self.calls.append("check_history")
        await asyncio.sleep(0)
        if self.history_fails is not None:
            raise self.history_fails

    async def close(self) -> None:
        for subscription in list(self.open):
            subscription.end()

    def by_id(self) -> list[FakeSubscription]:
        return [held for held in self.open if held.run_id is not None]

    def by_pair(self) -> list[FakeSubscription]:
        return [held for held in self.open if held.pair is not None]
