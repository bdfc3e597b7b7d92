"""The tap: one subscription by metadata for a whole team, instead of one per run.

    Hatchet -> [tap] -> a run that somebody watches: told at once
                     -> a run that nobody has asked for yet: kept, within a budget, oldest use first to go

What is kept is what a client that comes later is told, from the first token on. The engine ends the
subscription whenever it believes that no run is active: it is opened again at once. What happened in between
nobody knows: every run is told that its line broke, and heals itself from its state.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proxy.core.clock import Clock, LoopClock
from proxy.core.events import LiveEvent
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.runs.follower import Run
from proxy.runs.observer import RunWatch
from proxy.runs.wires import Backoff

BUDGET: Final = 64 * 1024 * 1024  # bytes kept where the team has no limit of its own
OVERHEAD: Final = 400  # bytes that an event costs beside its payload, about
ENDED_FOR: Final = 300.0  # seconds that a run is kept after something that looked like its end
IDLE_FOR: Final = 3600.0  # seconds that a run is kept without an event: backoffs are minutes, not hours
SWEEP: Final = 10.0  # seconds between two looks for runs to forget
SOURCE: Final = "tap"


@dataclass(slots=True)
class Kept:
    """The events of a run that nobody has asked for; None marks where the subscription broke."""

    events: list[LiveEvent | None] = field(default_factory=list)
    bytes: int = 0
    ended: bool = False  # it looked like it
    used_at: float = 0.0


class Tap:
    """A team's tap on the pair `key`: `value`."""

    def __init__(
        self,
        key: str,
        value: str,
        upstream: Upstream,
        *,
        budget: int | None = None,
        grew: Callable[[int], None] | None = None,
        clock: Clock | None = None,
        watch: RunWatch | None = None,
        rng: Random | None = None,
    ) -> None:
        """`grew` is told of each change of what is kept, in bytes."""
        self.pair = (key, value)
        self.live = False
        self.bytes = 0
        self.trouble: HatchetError | None = None
        self._upstream = upstream
        self._budget = budget if budget is not None else BUDGET
        self._grew = grew or _nobody
        self._clock = clock or LoopClock()
        self._watch = watch or RunWatch()
        self._backoff = Backoff(rng or Random())
        self._runs: dict[str, Run] = {}
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the most recently used last
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Open it, and keep it open."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._follow()), loop.create_task(self._sweep())]

    async def close(self) -> None:
        """Close it; nothing is told after that."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget_all()

    # -- runs --

    def attach(self, run: Run) -> None:
        """`run` is watched: it is told what was kept, and all that comes from now on."""
        self._runs[run.run_id] = run
        kept = self._kept.pop(run.run_id, None)
        if kept is not None:
            self._weigh(-kept.bytes)
            for event in kept.events:
                if event is not None:
                    run.deliver(event, SOURCE)
                else:
                    run.unfeed(SOURCE)
        if self.live:
            run.feed(SOURCE)
        elif kept is not None:
            run.unfeed(SOURCE)

    def detach(self, run: Run) -> None:
        """`run` is not watched any more; what comes is kept again."""
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]

    @property
    def runs_kept(self) -> int:
        """How many runs that nobody has asked for are kept."""
        return len(self._kept)

    def shrink(self, to_bytes: int) -> None:
        """Forget runs, the least recently used first, until at most `to_bytes` are kept."""
        while self.bytes > to_bytes and self._kept:
            _, kept = self._kept.popitem(last=False)
            self._weigh(-kept.bytes)

    # -- the subscription --

    async def _follow(self) -> None:
        key, value = self.pair
        while True:
            now = self._clock.now()
            if now < self._backoff.at:
                await self._clock.sleep(self._backoff.at - now)
            opened_at = self._clock.now()
            self._watch.subscribed("tap", +1)
            clean = False
            try:
                await self._upstream.follow_metadata(key, value, self._deliver, self._opened)
                clean = True
            except HatchetError as trouble:
                self.trouble = trouble
            finally:
                self._watch.subscribed("tap", -1)
                self._broke()
            now = self._clock.now()
            self._backoff.ended(now, hung_up=clean, lasted=now - opened_at)

    def _opened(self) -> None:
        self.live = True
        self.trouble = None
        for run in list(self._runs.values()):
            run.feed(SOURCE)

    def _broke(self) -> None:
        if not self.live:
            return
        self.live = False
        for run in list(self._runs.values()):
            run.unfeed(SOURCE)
        for kept in self._kept.values():
            if kept.events and kept.events[-1] is not None:  # also after a run's end: it may be a false one
                kept.events.append(None)

    def _deliver(self, event: LiveEvent) -> None:
        run = self._runs.get(event.run_id)
        if event.step_run_id is not None:
            self._backoff.tries = 0
        if run is not None:
            run.deliver(event, SOURCE)
        else:
            self._keep(event)

    # -- what is kept --

    def _keep(self, event: LiveEvent) -> None:
        kept = self._kept.get(event.run_id)
        if kept is None:
            kept = self._kept[event.run_id] = Kept()
        else:
            self._kept.move_to_end(event.run_id)
        size = OVERHEAD + len(event.payload)
        kept.events.append(event)
        kept.bytes += size
        kept.ended = event.step_run_id is None
        kept.used_at = self._clock.now()
        self._weigh(size)
        if self.bytes > self._budget:
            self.shrink(self._budget)

    def _weigh(self, change: int) -> None:
        self.bytes += change
        self._grew(change)

    def _forget_all(self) -> None:
        self._kept.clear()
        self._weigh(-self.bytes)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP)
            now = self._clock.now()
            for run_id, kept in list(self._kept.items()):
                if now - kept.used_at < ENDED_FOR:
                    break  # the rest were used later
                if kept.ended or now - kept.used_at >= IDLE_FOR:
                    del self._kept[run_id]
                    self._weigh(-kept.bytes)
            for run_id, run in list(self._runs.items()):
                if run.over:
                    del self._runs[run_id]


def _nobody(change: int) -> None:
    """Nobody wants to know."""
