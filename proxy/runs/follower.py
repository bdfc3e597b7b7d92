"""Run: one run's life: the loop around its history: subscriptions, look-ups, timers.

The history decides, this does: it opens and closes subscriptions, reads the states the history wants to see,
ticks when something is due, and publishes what comes out, synchronously, in order. Everything that is due is
done in `_attend`; one sleeper wakes it. A chunk in order passes without it.

Trouble with Hatchet never ends a run: it is kept in `trouble` and tried again. Only the verified end does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from proxy.core.events import CoreState, GapCause, Item, LiveEvent
from proxy.hatchet.errors import HatchetAway
from proxy.runs.bridge import Spanning
from proxy.runs.telling import RunSettings
from proxy.runs.wires import SPREAD

__all__ = ["Run", "RunSettings"]

NAP: Final = 0.002  # seconds: whatever goes wrong with what is due, a run never spins


class Run(Spanning):
    """One run of one team; `publish` gets its items, each once, in order."""

    # -- from outside --

    def start(self) -> None:
        """Begin: subscribe, then look."""
        if self._started or self._closed:
            return
        self._started = True
        now = self._clock.now()
        self._history.core_look.want(now)
        self._attend()

    async def known(self) -> CoreState:
        """The first core state. Raises RunUnknown, HatchetAway, TokenRefused, RateLimited as things stand."""
        if self.state is not None:
            return self.state
        if self._closed:
            raise HatchetAway("the run was closed")
        if self.trouble is not None and self._history.core_look.held_off(self._clock.now()):
            raise self.trouble
        answer: asyncio.Future[CoreState] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.start()
        self._history.core_look.want(self._clock.now())
        self._attend()
        try:
            return await answer
        finally:
            if answer in self._answers:
                self._answers.remove(answer)
            del answer  # its error's traceback holds this frame

    def deliver(self, event: LiveEvent, source: str = "tap") -> None:
        """An event of this run from a subscription that is not its own; others' are passed over."""
        if self._closed or event.run_id != self.run_id:
            return
        if source not in self._outside:
            self.feed(source)
        line = self._outside.get(source)
        if line is not None:
            self._deliver(line, event)

    def feed(self, source: str = "tap") -> None:
        """A subscription that is not this run's own brings its events from now on."""
        if source not in self._outside and not self._closed and not self.over and self._carries(source):
            self._outside[source] = self._history.opened(self._clock.now(), ordered=False)
            self._attend()

    @property
    def caught_up(self) -> bool:
        """Whether the run's own subscription tells all that others told it, or there is nothing to tell."""
        return self.over or self._closed or self._history.caught_up

    def unfeed(self, source: str = "tap", *, broken: bool = True) -> None:
        """That subscription is over; `broken`: it may have missed something."""
        line = self._outside.pop(source, None)
        if line is not None and not self._closed:
            now = self._clock.now()
            if broken:
                self._untapped_at = now
            cause = GapCause.UPSTREAM if broken else None
            self._history.closed(line, now, cause, later=self._rng.uniform(0.0, SPREAD))
            self._flush()
            self._attend()

    async def close(self) -> None:
        """Cancel all, wait for it; nothing is published after that."""
        self._closed = True
        tasks = [task for task in (*self._tasks, self._sleeper) if task is not None]
        for task in tasks:
            task.cancel()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(HatchetAway("the run was closed"))
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        self._publish = _to_nobody  # who hears it holds this run: the two would keep each other
        self._sleeper = self.trouble = None  # tracebacks hold this run too

    # -- what is due --

    def _attend(self) -> None:
        """Do all that is due, and see to it that the next is."""
        if self._closed or not self._started:
            return
        now = self._clock.now()
        history = self._history
        if history.due is not None and history.due <= now:
            history.tick(now)
            self._flush()
        if history.over:
            self._finish()
            return
        self._look(now)
        times = [self._subscribe(now), self._span(now), history.due]
        if not self._core_reading:
            times.append(history.core_look.at)
        if not self._past_reading:
            times.append(history.past_look.at)
        self._flush()
        self._sleep(now, [time for time in times if time is not None])

    def _sleep(self, now: float, times: list[float]) -> None:
        at = max(min(times, default=float("inf")), now + NAP)
        if at == float("inf") or (self._sleeper is not None and self._sleeps_until <= at):
            return
        if self._sleeper is not None:
            self._sleeper.cancel()
        self._sleeps_until = at
        self._sleeper = asyncio.get_running_loop().create_task(self._wake(at - now))

    async def _wake(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._sleeper = None
        self._sleeps_until = float("inf")
        self._attend()

    def _finish(self) -> None:
        """The end has been told: nothing is asked of Hatchet any more."""
        if self._sleeper is not None:
            self._sleeper.cancel()
            self._sleeper = None
        for task in self._tasks:
            task.cancel()
        self._wires.clear()
        self._bridge = None


def _to_nobody(items: Sequence[Item]) -> None:
    """The run was closed."""
