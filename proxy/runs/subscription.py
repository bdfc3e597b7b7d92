"""One subscription at Hatchet that is opened again for as long as it is wanted.

A run's own subscription, a team's tap and a search by metadata are each a `Subscription`: it opens, reads,
ends, waits, opens again, and calls its listener. After its first end it is opened again at once (a hangup) or
within SPREAD seconds; after more ends in a row it waits longer, up to SLOWEST. However often the engine ends
it, it is opened at most BURST times in a row, then RATE times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final, Protocol

from proxy.core.clock import Clock
from proxy.core.events import GapCause
from proxy.core.observations import LiveEvent
from proxy.hatchet.codec import KEEPALIVE_INDEX
from proxy.hatchet.errors import BadChunk, HatchetError, MessageTooLarge, RunUnknown
from proxy.hatchet.upstream import Deliver
from proxy.runs.observer import Observer

SPREAD: Final = 0.25  # seconds over which subscriptions reconnect after an end that was no hangup
SLOWEST: Final = 5.0  # seconds between two attempts at most
STEADY: Final = 5.0  # seconds; the end of a subscription that was open for longer resets the backoff
# Hangups in a row after which it is opened at once: a DAG's start may bring two false ends.
AT_ONCE: Final = 3
BURST: Final = 20  # openings in a row, whatever they bring; a tap of short runs is hung up often
RATE: Final = 10.0  # ... and then so many a second: a hangup after each event must not be a storm

Open = Callable[[Deliver, Callable[[], None]], Coroutine[Any, Any, None]]


class Listener(Protocol):
    """Receives what happens on a subscription."""

    def opened(self) -> None:
        """The request is on the wire: it brings what happens from now on."""

    def received(self, event: LiveEvent) -> None:
        """It has brought an event."""

    def ended(self, cause: GapCause, trouble: HatchetError | None, *, hung_up: bool) -> None:
        """It is over, and will be opened again. `hung_up`: its last event had the engine's hangup flag."""


class _NoListener:
    """The listener of a subscription that was closed."""

    def opened(self) -> None:
        """Do nothing."""

    def received(self, event: LiveEvent) -> None:
        """Do nothing."""

    def ended(self, cause: GapCause, trouble: HatchetError | None, *, hung_up: bool) -> None:
        """Do nothing."""


_NO_LISTENER: Final = _NoListener()


class Backoff:
    """When to open again: at once or soon the first time, then after growing, jittered, bounded waits."""

    def __init__(self, rng: Random) -> None:
        self.at = 0.0  # seconds of the clock: not before
        self._rng = rng
        self._tries = 0
        self._allowance = float(BURST)
        self._allowed_at = 0.0

    def opening(self, now: float) -> None:
        """It is opened."""
        refilled = self._allowance + max(0.0, now - self._allowed_at) * RATE
        self._allowance = min(float(BURST), refilled) - 1.0
        self._allowed_at = now

    def ended(self, now: float, *, hung_up: bool, lasted: float) -> None:
        """It is over; `lasted`: for how many seconds it was open."""
        if lasted >= STEADY:
            self._tries = 0
        if hung_up and self._tries < AT_ONCE:
            wait = 0.0
        elif self._tries == 0:
            wait = self._rng.uniform(0.0, SPREAD)
        else:
            wait = min(SPREAD * 2**self._tries, SLOWEST) * self._rng.uniform(0.5, 1.0)
        self._tries = min(self._tries + 1, 16)
        self.at = now + wait
        if self._allowance < 1.0:
            self.at = max(self.at, self._allowed_at + (1.0 - self._allowance) / RATE)

    def worked(self) -> None:
        """It has brought an event of a step: begin again with the shortest wait."""
        self._tries = 0

    def no_later_than(self, at: float) -> None:
        """Hatchet answers again: open it at `at`, or earlier."""
        self.at = min(self.at, at)


class Subscription:
    """Opens and reopens one subscription; `kind` is what the observer counts it as."""

    def __init__(
        self,
        open_: Open,
        listener: Listener,
        *,
        kind: str,
        clock: Clock,
        rng: Random,
        observer: Observer,
        echoed: Callable[[], object] | None = None,
    ) -> None:
        """`echoed`: called when a chunk of `Upstream.keep_open` comes, which the listener does not get."""
        self.backoff = Backoff(rng)
        self._open = open_
        self._listener: Listener = listener
        self._kind = kind
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._echoed = echoed
        self._task: asyncio.Task[None] | None = None
        self._pause: asyncio.Task[None] | None = None  # the wait before it is opened again
        self._is_open = False
        self._hung_up = False
        self._worked = False  # it brought an event of a step since it was opened

    def start(self) -> None:
        """Open it, and keep it open until `close`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_open())

    def close(self) -> asyncio.Task[None] | None:
        """End it for good; the listener is not called any more. Returns the task that ends, to be awaited."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._listener = _NO_LISTENER  # breaks a reference cycle: the listener holds this subscription
        return task

    @property
    def wanted(self) -> bool:
        """Whether it was started and not closed."""
        return self._task is not None

    def hatchet_is_back(self) -> None:
        """Hatchet answers again: if this waits to be opened, it waits at most SPREAD more."""
        if self._pause is None:
            return
        self.backoff.no_later_than(self._clock.now() + self._rng.uniform(0.0, SPREAD))
        self._pause.cancel()

    async def _keep_open(self) -> None:
        me = asyncio.current_task()
        while self._task is me:
            await self._wait()
            opened_at = self._clock.now()
            self.backoff.opening(opened_at)
            cause, trouble = await self._once()
            if self._task is not me:
                return
            now = self._clock.now()
            if self._worked:
                self.backoff.worked()
            self.backoff.ended(now, hung_up=self._hung_up or trouble is None, lasted=now - opened_at)
            self._listener.ended(cause, trouble, hung_up=self._hung_up)

    async def _wait(self) -> None:
        """Return when it may be opened; `hatchet_is_back` shortens the wait."""
        while (seconds := self.backoff.at - self._clock.now()) > 0:
            self._pause = asyncio.get_running_loop().create_task(self._clock.sleep(seconds))
            try:
                await asyncio.wait([self._pause])
            finally:
                self._pause.cancel()
                self._pause = None

    async def _once(self) -> tuple[GapCause, HatchetError | None]:
        """Follow it until it ends. Returns why chunks may be missing from then on, and the error, if any."""
        self._is_open = self._hung_up = self._worked = False
        self._observer.subscribed(self._kind, +1)
        try:
            await self._open(self._deliver, self._opened)
        except MessageTooLarge as trouble:
            return GapCause.TOO_LARGE, trouble
        except (BadChunk, RunUnknown):
            return GapCause.UPSTREAM, None
        except HatchetError as trouble:
            return GapCause.UPSTREAM, trouble
        except Exception as error:
            self._observer.unforeseen(error)
            return GapCause.UPSTREAM, None
        finally:
            self._observer.subscribed(self._kind, -1)
        return GapCause.UPSTREAM, None

    def _opened(self) -> None:
        if not self._is_open and self._task is not None:
            self._is_open = True
            self._listener.opened()

    def _deliver(self, event: LiveEvent) -> None:
        if not self._is_open:
            self._opened()
        if event.index == KEEPALIVE_INDEX:
            if self._echoed is not None and self._task is not None:
                self._echoed()
            return
        if event.hangup:
            self._hung_up = True
        if event.step_run_id is not None:
            self._worked = True
        if self._task is not None:
            self._listener.received(event)
