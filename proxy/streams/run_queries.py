"""RunQueries: what is asked of Hatchet about one run: its first state, its workflow's name, a replay.

Requests that wait for the same answer share one call. The calls that follow the run are made elsewhere
(`proxy.runs.follower`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from proxy.core.events import Event
from proxy.core.observations import CoreState, PastState
from proxy.hatchet.errors import HatchetAway, HatchetError, HistoryAway, RunUnknown
from proxy.hatchet.upstream import Upstream
from proxy.runs.followed_run import FollowedRun
from proxy.runs.reconcile.rebuild import rebuild

LOOKUP_PAUSE: Final = 0.2
"""Seconds between lookups of a run that does not exist yet: the engine shows a new run after about 0.1 s."""
NAMING_PAUSE: Final = 0.05
"""Seconds between reads of the history for a workflow's name: it learns of a new run after 0.05 to 0.1 s."""
REPLAY_CHECK: Final = 1.0
"""Seconds for which the answer "not replayed" is reused: it bounds the calls for a run that is over."""
CLOSED: Final = "the run was closed"

T = TypeVar("T")


class RunQueries:
    """Asks about one run. `patience` is in seconds everywhere."""

    __slots__ = ("_closed", "_lookup", "_naming", "_replay_checked_at", "_run_id", "_upstream")

    def __init__(self, run_id: str, upstream: Upstream) -> None:
        self._run_id = run_id
        self._upstream = upstream
        self._closed = False
        self._lookup: asyncio.Task[CoreState] | None = None
        self._naming: asyncio.Task[str] | None = None
        self._replay_checked_at = 0.0

    async def first_state(self, run: FollowedRun, patience: float) -> CoreState:
        """The run's first state; waits up to `patience` for a run that does not exist yet.

        Raises RunUnknown after that, and any other HatchetError at once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            if self._lookup is None or self._lookup.done():
                self._lookup = asyncio.create_task(run.first_state())
            try:
                return await _shared(self._lookup)
            except RunUnknown:
                left = deadline - loop.time()
                if left <= 0 or self._closed:
                    raise
                await asyncio.sleep(min(LOOKUP_PAUSE, left))

    async def workflow(self, run: FollowedRun, patience: float) -> str:
        """The name of the run's workflow, which `run` is given too; waits up to `patience` for the history.

        Raises HistoryAway.
        """
        if self._naming is None or self._naming.done():
            self._naming = asyncio.create_task(self._name(run, patience))
        return await _shared(self._naming)

    async def _name(self, run: FollowedRun, patience: float) -> str:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            if run.workflow is None:
                past = await self._upstream.past(self._run_id)
                if past is not None and past.workflow is not None:
                    run.name_workflow(past.workflow)
            if run.workflow is not None:
                return run.workflow
            if loop.time() >= deadline or self._closed:
                raise HistoryAway("the history does not know the run's workflow yet")
            await asyncio.sleep(NAMING_PAUSE)

    async def lifecycle_events(self) -> list[Event]:
        """Every lifecycle event that the run's current state implies. Raises HatchetError."""
        core = await self._upstream.core(self._run_id)
        return rebuild(core, await self._history())

    async def _history(self) -> PastState | None:
        if not self._upstream.has_history:
            return None
        try:
            return await self._upstream.past(self._run_id)
        except HatchetError:
            return None

    # -- replays --

    def ended(self) -> None:
        """The run has just ended: it was not replayed since."""
        self._replay_checked_at = asyncio.get_running_loop().time()

    @property
    def may_be_replayed(self) -> bool:
        """Whether `replayed` would ask Hatchet; its last answer is reused for `REPLAY_CHECK` seconds."""
        return asyncio.get_running_loop().time() - self._replay_checked_at >= REPLAY_CHECK

    async def replayed(self, were_published: Callable[[Iterable[Event]], bool]) -> bool:
        """Whether the run, which was over, was replayed since.

        `were_published` says whether all events of a state were published before.
        """
        if not self.may_be_replayed:
            return False
        now = asyncio.get_running_loop().time()
        try:
            core = await self._upstream.core(self._run_id)
        except HatchetError:
            return False  # nothing contradicts the verified end
        self._replay_checked_at = now
        return not core.done or not were_published(rebuild(core, await self._history()))

    def close(self) -> None:
        """End all reads that are under way; their callers get HatchetAway."""
        self._closed = True
        for task in (self._lookup, self._naming):
            if task is not None:
                task.cancel()
        self._lookup = self._naming = None


async def _shared(task: asyncio.Task[T]) -> T:
    """The result of a task that several callers await. Raises HatchetAway where `close` ended it."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if not task.cancelled() or caller is None or caller.cancelling():
            raise
        raise HatchetAway(CLOSED) from None  # the run was dropped; the caller was not cancelled
    finally:
        del task  # the traceback of its error holds this frame: a reference cycle
