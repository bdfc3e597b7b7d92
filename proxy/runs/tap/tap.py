"""The tap: one subscription by a metadata pair for a whole team, instead of one for each run.

    Hatchet ──▶ tap ──▶ a run that has a follower: delivered at once
                   └──▶ a run that has none yet: buffered, within a budget

A client that comes later gets the buffered events, from the first token on. Where the budget is exceeded,
the buffer of the least recently used run is dropped. The engine ends the subscription whenever it believes
that no run is active; it is opened again at once, and `TapKeepalive` makes this rare.
Events in between may be missing, so every run is notified that the subscription broke.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from proxy.core.clock import Clock, LoopClock
from proxy.core.events import GapCause
from proxy.core.observations import STEP_END_KINDS, Kind, LiveEvent
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.runs.event_buffer import EventBuffer
from proxy.runs.feeds import TAP
from proxy.runs.followed_run import FollowedRun
from proxy.runs.lag import LagMeter
from proxy.runs.observer import Observer
from proxy.runs.reconcile.subscription_state import Pulse
from proxy.runs.subscription import Subscription
from proxy.runs.tap.keepalive import TapKeepalive
from proxy.runs.tap.probe import TapProbe

BUDGET: Final = 64 * 1024 * 1024  # bytes of buffers, where the team has no limit of its own
ENDED_FOR: Final = 300.0  # seconds that a run is buffered after something that looked like its end
IDLE_FOR: Final = (
    3600.0  # seconds that a run is buffered without an event: a retry's backoff is minutes, not hours
)
SWEEP: Final = 10.0  # seconds between two searches for buffers to drop

_STREAM: Final = Kind.STREAM


class Tap:
    """A team's tap on the pair `key`: `value`; `grew` gets each change of the buffers' size, in bytes.

    `name` is the source that followers are given. `begun` gets the id of each run that is buffered.
    `keepalive`: whether `TapKeepalive` may send an empty chunk in the name of a finished run.
    """

    def __init__(
        self,
        key: str,
        value: str,
        upstream: Upstream,
        *,
        budget: int | None = None,
        grew: Callable[[int], None] | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        lag: LagMeter | None = None,
        rng: Random | None = None,
        keepalive: bool = True,
        name: str = TAP,
        begun: Callable[[str], None] | None = None,
    ) -> None:
        self.pair = (key, value)
        self._name = name
        self._begun = begun or _nothing
        self.keepalive = keepalive
        self.bytes = 0
        self.trouble: HatchetError | None = None
        self._budget = budget if budget is not None else BUDGET
        self._grew = grew or _nobody
        self._clock = clock or LoopClock()
        self._observer = observer or Observer()
        self._lag = lag or LagMeter()
        self._pulse = Pulse()
        self._open_since: float | None = None  # None: it is not open
        self._forgot_at = float("-inf")  # when events of any run were dropped last
        self._runs: dict[str, FollowedRun] = {}
        self._buffers: OrderedDict[str, EventBuffer] = OrderedDict()  # the most recently used last
        self._sweeper: asyncio.Task[None] | None = None
        self._keepalive = TapKeepalive(key, value, upstream, self._clock) if keepalive else None
        self._probe: TapProbe | None = None
        if self._keepalive is not None:
            self._probe = TapProbe(
                self._pulse,
                self._clock,
                self._observer,
                busy=self._is_busy,
                send=self._keepalive.probe,
                lag=self._lag.settle,
                deaf=self._is_deaf,
            )
        self._subscription = Subscription(
            partial(upstream.follow_metadata, key, value),
            self,
            kind="tap",
            clock=self._clock,
            rng=rng or Random(),
            observer=self._observer,
            echoed=self._echoed,
        )

    @property
    def live(self) -> bool:
        """Whether the subscription is open, and brings what is sent."""
        return self._open_since is not None

    @property
    def is_kept_open(self) -> bool:
        """Whether the engine does not hang the subscription up at the end of a run."""
        return self._keepalive is not None and self._keepalive.works

    def start(self) -> None:
        """Open it, and keep it open."""
        if self._sweeper is None:
            self._subscription.start()
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    def hatchet_is_back(self) -> None:
        """Hatchet answers again: shorten the wait until it is opened again."""
        self._subscription.hatchet_is_back()

    async def close(self) -> None:
        """Close it; nothing is delivered after that."""
        helpers = [one.close() for one in (self._keepalive, self._probe) if one is not None]
        tasks = [task for task in (self._subscription.close(), self._sweeper, *helpers) if task is not None]
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._buffers.clear()
        self._weigh(-self.bytes)

    # -- runs --

    def attach(self, run: FollowedRun) -> None:
        """`run` gets what was buffered for it, and all its events from now on.

        Another follower of the same run gets none any more.
        """
        before = self._runs.get(run.run_id)
        if before is not None and before is not run:
            self._forgot_at = self._clock.now()  # events that it got are not given again
            before.unfeed(self._name)
        self._runs[run.run_id] = run
        buffer = self._buffers.pop(run.run_id, None)
        if buffer is not None:
            self._weigh(-buffer.bytes)
            buffer.give_to(run, self._name, self._pulse)
        elif self._open_since is not None:
            run.feed(self._name, self._pulse, self._complete_since(self._clock.now()))

    def _complete_since(self, now: float) -> float:
        """Since when no event of any run was missed or dropped."""
        return now if self._open_since is None else max(self._open_since, self._forgot_at)

    def detach(self, run: FollowedRun) -> None:
        """`run` gets no more events; they are buffered again."""
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
            self._forgot_at = self._clock.now()

    def shrink(self, to_bytes: int) -> None:
        """Drop the buffers of runs, the least recently used first, until they hold at most `to_bytes`."""
        while self.bytes > to_bytes and self._buffers:
            _, buffer = self._buffers.popitem(last=False)
            self._forgot_at = self._clock.now()
            self._weigh(-buffer.bytes)

    # -- the subscription --

    def opened(self) -> None:
        """It is open."""
        if self._keepalive is not None:
            self._keepalive.opened()
        if self._probe is not None:
            self._probe.opened()
        self._resume()

    def _resume(self) -> None:
        """From now on it brings what is sent."""
        self._open_since = self._clock.now()
        self.trouble = None
        for run in list(self._runs.values()):
            run.feed(self._name, self._pulse, self._open_since)
        for buffer in self._buffers.values():
            buffer.opened(self._open_since)

    def received(self, event: LiveEvent) -> None:
        """An event of one of the runs that carry the pair."""
        self._pulse.at = self._clock.now()
        if self._open_since is None:
            self._resume()
        if event.kind is _STREAM and event.at is not None and event.step_run_id is not None:
            self._lag.observe(event.at)
        elif event.kind in STEP_END_KINDS and event.step_run_id is not None:
            self._pulse.ended(self._pulse.at)
        if event.kind is not _STREAM and self._keepalive is not None:
            self._keepalive.received(event)
        run = self._runs.get(event.run_id)
        if run is not None:
            run.deliver(event, self._name)
        else:
            self._keep(event)

    def ended(self, cause: GapCause, trouble: HatchetError | None, *, hung_up: bool) -> None:
        """It is over, and will be opened again."""
        del cause
        self.trouble = trouble
        if self._keepalive is not None:
            self._keepalive.ended(hung_up=hung_up)
        if self._probe is not None:
            self._probe.close()
        self._break(hung_up=hung_up)

    def _break(self, *, hung_up: bool) -> None:
        """From now on events are missed."""
        if self._open_since is None:
            return
        self._open_since = None
        for run in list(self._runs.values()):
            run.unfeed(self._name, hung_up=hung_up)
        for buffer in self._buffers.values():
            buffer.closed(self._clock.now(), hung_up=hung_up)

    # -- whether it is deaf --

    def _echoed(self) -> None:
        """It has brought a probe, or another replica's."""
        if self._probe is not None:
            self._probe.echoed()
        if self._open_since is None:
            self._resume()

    def _is_busy(self) -> bool:
        """Whether a run goes on whose chunks may be missed."""
        return any(not run.over for run in self._runs.values()) or any(
            not buffer.run_is_over for buffer in self._buffers.values()
        )

    def _is_deaf(self) -> None:
        """A probe did not come back."""
        self.trouble = HatchetAway("the tap is open and brings nothing: the engine's queue may be broken")
        self._break(hung_up=False)

    # -- buffers --

    def _keep(self, event: LiveEvent) -> None:
        now = self._clock.now()
        buffer = self._buffers.get(event.run_id)
        if buffer is None:
            buffer = self._buffers[event.run_id] = EventBuffer(self._complete_since(now))
            self._begun(event.run_id)
        else:
            self._buffers.move_to_end(event.run_id)
        self._weigh(buffer.received(event, now))
        if self.bytes > self._budget:
            self.shrink(self._budget)

    def _weigh(self, change: int) -> None:
        self.bytes += change
        self._grew(change)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP)
            try:
                self._drop_old(self._clock.now())
            except Exception as error:  # a sweep that stops would keep the buffers of runs that are over
                self._observer.unforeseen(error)

    def _drop_old(self, now: float) -> None:
        for run_id, buffer in list(self._buffers.items()):
            if now - buffer.used_at < ENDED_FOR:
                break  # the rest were used later
            if buffer.run_is_over or now - buffer.used_at >= IDLE_FOR:
                del self._buffers[run_id]
                self._forgot_at = now
                self._weigh(-buffer.bytes)
        for run_id, run in list(self._runs.items()):
            if run.over:
                del self._runs[run_id]


def _nothing(run_id: str) -> None:
    """Nobody looks for runs."""


def _nobody(change: int) -> None:
    """Ignore a change."""
