"""Telling: what a run is made of, and how it tells: all that came out of its history, in order, at once.

The first of the rooms of `proxy.runs.follower`; each adds verbs to the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from proxy.core.clock import Clock, LoopClock
from proxy.core.events import CoreState, End, Event, Item, LiveEvent, Reset, StepGap
from proxy.hatchet.errors import HatchetAway, HatchetError, RateLimited, TokenRefused
from proxy.hatchet.upstream import Upstream
from proxy.runs.bridge_quota import Bridges
from proxy.runs.observer import RunWatch
from proxy.runs.reconcile.reconciler import History
from proxy.runs.reconcile.subscription_state import Line
from proxy.runs.wires import Backoff, Wire

PASSING: Final = (HatchetAway, TokenRefused, RateLimited)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What operators may turn."""

    check_after: float = 15.0  # seconds without an event after which the state is read


class Telling:
    """A run's state, and its telling."""

    def __init__(
        self,
        run_id: str,
        upstream: Upstream,
        *,
        publish: Callable[[Sequence[Item]], None],
        settings: RunSettings | None = None,
        clock: Clock | None = None,
        watch: RunWatch | None = None,
        bridges: Bridges | None = None,
        rng: Random | None = None,
        pair: tuple[str, str] | None = None,
    ) -> None:
        """`pair`: the tap's; a run that carries it subscribes by itself only while the tap is away."""
        self.run_id = run_id
        self.trouble: HatchetError | None = None
        self.pair = pair
        self._upstream = upstream
        self._publish = publish
        self._clock = clock or LoopClock()
        self._watch = watch or RunWatch()
        self._bridges = bridges or Bridges()
        self._rng = rng or Random()
        settings = settings or RunSettings()
        self._history = History(run_id, has_past=upstream.has_history, check_after=settings.check_after)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wires: list[Wire] = []
        self._bridge: Wire | None = None
        self._bridge_until = 0.0
        self._bridged: frozenset[tuple[str, int, int]] = frozenset()
        self._bridge_losses = 0
        self._outside: dict[str, Line] = {}
        self._backoff = Backoff(self._rng)
        self._core_reading = self._past_reading = False
        self._second_look: float | None = None
        self._opened = asyncio.Event()
        self._answers: list[asyncio.Future[CoreState]] = []
        self._sleeper: asyncio.Task[None] | None = None
        self._sleeps_until = float("inf")
        self._started = self._closed = False
        self._counted = (0, 0)
        self._reopen = True  # a subscription is missing
        self._untapped_at = float("-inf")

    @property
    def over(self) -> bool:
        """Whether the verified end has been told."""
        return self._history.over

    @property
    def state(self) -> CoreState | None:
        """The last core state, where there is one."""
        return self._history.core_state

    def _attend(self) -> None:
        """Do all that is due, and see to it that the next is."""
        raise NotImplementedError

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _deliver(self, line: Line, event: LiveEvent) -> None:
        history = self._history
        now = self._clock.now()
        if not history.stirred and (told := history.flow(line, event, now)) is not None:
            self._publish((told,))
            return
        history.live(line, event, now)
        if history.stirred:
            history.stirred = False
            if self.trouble is not None:
                self.trouble = None
                history.core_look.answered()
            if event.step_run_id is not None:
                self._backoff.spoke()
            self._flush()
            self._attend()
        else:
            items = history.take()
            if items:  # nothing where it was a double
                self._publish(items)

    def _flush(self) -> None:
        history = self._history
        items = history.take()
        if items:
            self._count(items)
            self._publish(items)
        ends, late = self._counted
        for _ in range(history.false_ends - ends):
            self._watch.false_end()
        if history.late > late:
            self._watch.late_chunk(history.late - late)
        self._counted = (history.false_ends, history.late)

    def _count(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Event):
                continue
            if isinstance(item, StepGap):
                self._watch.gap(item.cause, item.missed)
            elif isinstance(item, Reset):
                self._watch.reset()
            elif isinstance(item, End):
                self._watch.ended(item.status)
