"""TapKeepalive: keeps Hatchet from hanging up the tap's subscription at the end of a run.

The engine ends a subscription by metadata when every run that it has seen on it is COMPLETED. That is 5 to
105 ms after the last step's end, and chunks that are still on their way are lost with it. Any other event
of a run makes that run active again, and an event of a run that is over makes it active for good:

    run A: COMPLETED ── hangup ── opened again ── an empty chunk of A ── A stays active: no hangup any more

So after a hangup one empty chunk is sent in the name of a finished run that carries the pair. Its index is
negative, which no worker sends, so every proxy drops it (`proxy.runs.subscription`). Hatchet stores no
chunks, and nobody follows a run that is over. A run that FAILED or was CANCELLED keeps the subscription open
by itself. Source: internal/services/dispatcher/server.go, and seen on a running engine: 12 runs one after the
other brought 21 hangups without the chunk, and none with it.

What the engine counts belongs to one subscription. So where the engine ends it without a hangup (a restart, a
balancer), the next one needs a chunk of its own, and gets it at once: the run that is over is known.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from proxy.core.clock import Clock
from proxy.core.observations import CoreState, Kind, LiveEvent
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.hatchet.upstream import Upstream

CANDIDATES: Final = 8  # runs that are remembered: the last ones are over soonest
# Seconds after a hangup, and between two looks, until a state is expected to say that the run is over: 0.2 s
# were seen. A hangup may also be a false end, after which the run goes on.
LOOKS: Final = (0.5, 1.0, 4.0)
BETWEEN: Final = 5.0  # seconds between two chunks at least; doubled while the engine still hangs up
# The same after an end that was no hangup: the engine restarted and has forgotten the runs.
AGAIN: Final = 0.25
ARRIVES: Final = 0.2  # until the engine has counted a chunk; a hangup before that proves nothing
LONGEST: Final = 600.0  # ... and at most: another version of the engine may not work in this way
REFUSALS: Final = 3  # in a row, after which no chunk is sent any more: this engine does not take them

_ENDS_THAT_HOLD: Final = frozenset({Kind.FAILED, Kind.CANCELLED})


class TapKeepalive:
    """Keeps the subscription by the pair `key`: `value` open."""

    def __init__(self, key: str, value: str, upstream: Upstream, clock: Clock) -> None:
        self._pair = (key, value)
        self._upstream = upstream
        self._clock = clock
        # Ids of runs, the one with the latest event at the end.
        self._runs: OrderedDict[str, None] = OrderedDict()
        self._holding: set[str] = set()  # ids of runs that the engine counts as active although they are over
        self._refused = 0  # times in a row
        self._wait = BETWEEN
        self._sent_at = float("-inf")
        self._over: CoreState | None = None  # the run that a chunk was sent for last
        self._forgotten = False  # the last end was no hangup: the engine has forgotten the active runs
        self._at_once = False  # the chunk is sent at once: nothing shows that the last one had no effect
        self._task: asyncio.Task[None] | None = None

    @property
    def works(self) -> bool:
        """Whether the engine counts a run that is over as active."""
        return bool(self._holding)

    def opened(self) -> None:
        """The subscription is open."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._hold())

    def received(self, event: LiveEvent) -> None:
        """An event other than a chunk has come on the subscription."""
        if event.step_run_id is None:
            if event.kind is Kind.COMPLETED:
                self._holding.discard(event.run_id)
            elif event.kind in _ENDS_THAT_HOLD and len(self._holding) < CANDIDATES:
                self._holding.add(event.run_id)
        self._runs[event.run_id] = None
        self._runs.move_to_end(event.run_id)
        if len(self._runs) > CANDIDATES:
            self._runs.popitem(last=False)

    def ended(self, *, hung_up: bool) -> None:
        """The subscription is over."""
        early = hung_up and self._forgotten and self._clock.now() < self._sent_at + ARRIVES
        if hung_up and self._holding and not early:
            self._wait = min(2 * self._wait, LONGEST)
        self._forgotten = not hung_up
        self._at_once = not hung_up or early
        self._holding.clear()

    async def probe(self) -> bool:
        """Send a chunk that the subscription must bring; whether one was sent."""
        if self._refused >= REFUSALS:
            return False
        try:
            run = self._over or await self._finished_run()
        except HatchetError:
            return False
        if run is not None:
            await self._send(run)
        return run is not None and self._refused == 0

    def close(self) -> asyncio.Task[None] | None:
        """Stop; returns the task that ends, to be awaited."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    async def _hold(self) -> None:
        between = min(self._wait, AGAIN) if self._at_once else self._wait
        await self._clock.sleep(self._sent_at + between - self._clock.now())
        if self._at_once and self._over is not None and self._refused < REFUSALS:
            await self._send(self._over)
            return
        for pause in LOOKS:
            await self._clock.sleep(pause)
            if self._holding or self._refused >= REFUSALS:
                return
            try:
                run = await self._finished_run()
            except HatchetError:
                continue
            if run is not None:
                await self._send(run)
                return

    async def _send(self, run: CoreState) -> None:
        self._sent_at = self._clock.now()
        self._over = run
        try:
            await self._upstream.keep_open(run.steps[0].step_run_id)
        except HatchetError:
            self._refused += 1
        else:
            self._refused = 0
            self._holding.add(run.run_id)

    async def _finished_run(self) -> CoreState | None:
        """A run that is over and carries the pair: one that the tap brought, else one that is listed."""
        for run_id in list(reversed(self._runs)):
            if (state := await self._if_over(run_id)) is not None:
                return state
        listed = await self._upstream.runs_with(*self._pair, CANDIDATES) if self._upstream.has_history else []
        for one in listed:
            if one.over and (state := await self._if_over(one.run_id)) is not None:
                return state
        return None

    async def _if_over(self, run_id: str) -> CoreState | None:
        try:
            state = await self._upstream.core(run_id)
        except RunUnknown:
            return None
        return state if state.done and state.steps else None
