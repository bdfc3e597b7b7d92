"""Reads a run's two states when the reconciler's plan says so; callers can wait for the first core state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from proxy.core.clock import Clock
from proxy.core.observations import CoreState, PastState
from proxy.hatchet.errors import HatchetAway, HatchetError, RateLimited, TokenRefused
from proxy.hatchet.upstream import Upstream
from proxy.runs.observer import Observer
from proxy.runs.reconcile.reconciler import Plan, Reconciler

PASSING: Final = (HatchetAway, TokenRefused, RateLimited)
CLOSED: Final = "the run was closed"


class StateReader:
    """The reads of one run; `changed` is called after each answer.

    A read that fails is tried again. `recovered` is called when Hatchet answers after it was in trouble.
    """

    def __init__(
        self,
        run_id: str,
        upstream: Upstream,
        reconciler: Reconciler,
        *,
        clock: Clock,
        rng: Random,
        observer: Observer,
        changed: Callable[[], None],
        recovered: Callable[[], None],
    ) -> None:
        self.trouble: HatchetError | None = None  # why the last read of the core state failed
        self._run_id = run_id
        self._upstream = upstream
        self._reconciler = reconciler
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._changed = changed
        self._recovered = recovered
        self._core: asyncio.Task[None] | None = None
        self._history: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[CoreState]] = []

    def poll(self, now: float) -> None:
        """Begin the reads that are due."""
        plan = self._reconciler.plan
        if self._core is None and plan.read_core_at is not None and plan.read_core_at <= now:
            self._reconciler.core_poll.begin(now)
            self._core = asyncio.get_running_loop().create_task(self._read_core())
        if self._history is None and plan.read_history_at is not None and plan.read_history_at <= now:
            self._reconciler.history_poll.begin(now)
            self._history = asyncio.get_running_loop().create_task(self._read_history())

    def next_at(self, plan: Plan) -> float | None:
        """When the next read of `plan` is due that is not under way."""
        core = plan.read_core_at if self._core is None else None
        history = plan.read_history_at if self._history is None else None
        if core is None or history is None:
            return core if history is None else history
        return min(core, history)

    async def first_state(self) -> CoreState:
        """The next core state. Raises RunUnknown, HatchetAway, TokenRefused, RateLimited as things stand."""
        if self.trouble is not None and self._reconciler.core_poll.held_off(self._clock.now()):
            raise self.trouble
        answer: asyncio.Future[CoreState] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._reconciler.core_poll.want(self._clock.now())
        self._changed()
        try:
            return await answer
        finally:
            if answer in self._waiting:
                self._waiting.remove(answer)
            del answer  # its error's traceback holds this frame

    def hatchet_answered(self) -> None:
        """An event came from Hatchet, so it can be reached: forget the last error."""
        if self.trouble is not None:
            self._reconciler.core_poll.answered()
            self._no_trouble()

    def close(self) -> list[asyncio.Task[None]]:
        """End all reads; returns the tasks that end, to be awaited."""
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(HatchetAway(CLOSED))
        tasks = self.stop()
        self.trouble = None  # tracebacks hold frames
        self._changed = self._recovered = _nothing  # breaks reference cycles: the callee holds this reader
        return tasks

    def stop(self) -> list[asyncio.Task[None]]:
        """Cancel the reads that are under way."""
        tasks = [task for task in (self._core, self._history) if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def _read_core(self) -> None:
        answer = await self._ask_core()
        self._core = None
        answer()
        self._changed()

    async def _read_history(self) -> None:
        answer = await self._ask_history()
        self._history = None
        answer()
        self._changed()

    async def _ask_core(self) -> Callable[[], None]:
        """What to do with the answer; an error of the proxy itself is counted, and the read tried again."""
        self._observer.lookup("core")
        try:
            state = await self._upstream.core(self._run_id)
        except HatchetError as trouble:
            return partial(self._no_core, trouble)  # no local name: its traceback holds this frame
        except Exception as error:
            self._observer.unforeseen(error)
            return self._core_unavailable
        return partial(self._got_core, state)

    def _no_trouble(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._recovered()

    def _got_core(self, state: CoreState) -> None:
        self._no_trouble()
        try:
            self._reconciler.core(state, self._clock.now())
        except Exception as error:
            self._observer.unforeseen(error)
            self._core_unavailable()
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(state)
        self._waiting.clear()

    def _no_core(self, trouble: HatchetError) -> None:
        if isinstance(trouble, PASSING):
            self.trouble = trouble
            self._core_unavailable()
        else:
            self._reconciler.core_poll.again(self._clock.now())
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(trouble)
        self._waiting.clear()

    def _core_unavailable(self) -> None:
        self._reconciler.core_poll.unavailable(self._clock.now(), self._rng.uniform(0.5, 1.0))

    async def _ask_history(self) -> Callable[[], None]:
        self._observer.lookup("past")
        try:
            state = await self._upstream.past(self._run_id)
        except HatchetError:
            return self._history_unavailable
        except Exception as error:
            self._observer.unforeseen(error)
            return self._history_unavailable
        return partial(self._got_history, state)

    def _got_history(self, state: PastState | None) -> None:
        try:
            self._reconciler.history(state, self._clock.now())
        except Exception as error:
            self._observer.unforeseen(error)
            self._history_unavailable()

    def _history_unavailable(self) -> None:
        self._reconciler.history_unavailable(self._clock.now(), self._rng.uniform(0.5, 1.0))


def _nothing() -> None:
    """The run was closed."""
