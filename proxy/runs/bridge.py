"""Spanning: the bridge over the engine's silences: a subscription by the run's own trace, for seconds."""

from __future__ import annotations

from typing import Final

from proxy.core.events import GapCause, LiveEvent
from proxy.runs.bridge_quota import SECONDS as BRIDGE_SECONDS
from proxy.runs.subscriptions import ASIDE, Following
from proxy.runs.wires import Wire

BRIDGE_PAUSE: Final = 0.5  # seconds until a run asks again for a bridge where the team has none left
BRIDGE_LOSSES: Final = 3  # how often a bridge that the engine ended is opened again
TRACE: Final = "traceparent"  # the engine puts it into every run's metadata


class Spanning(Following):
    """Builds a bridge where a step's chunks are held back, and burns it when they are not."""

    def _span(self, now: float) -> float | None:
        """Bridge the engine's silences, and only those; when to look again."""
        needs = self._history.needs if not self._outside else frozenset()
        if self._bridge is not None and (not needs or now >= self._bridge_until):
            if self._history.awaits_others(now):
                return now + ASIDE
            self._burn(now)
            needs = self._history.needs if not self._outside else frozenset()
        new = needs - self._bridged
        if not new:
            return self._bridge_until if self._bridge is not None else None
        if any(attempt > 1 for _, attempt, _ in new) and len(self._wires) == 1 and self._wires[0].spoke:
            self._open(now, fresh=True)
        state = self.state
        trace = state.metadata.get(TRACE) if state is not None else None
        if isinstance(trace, str) and trace:
            if self._bridge is None and not self._bridges.take():
                return now + BRIDGE_PAUSE
            if self._bridge is None:
                self._bridge = bridge = Wire(now)
                bridge.task = self._spawn(self._cross(bridge, trace))
                bridge.task.add_done_callback(lambda _: self._bridges.give())
            self._bridge_until = now + BRIDGE_SECONDS
        self._bridged |= new
        return self._bridge_until if self._bridge is not None else None

    def _burn(self, now: float) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge is not None and bridge.task is not None:
            bridge.task.cancel()
        if bridge is not None and bridge.line is not None:
            self._history.closed(bridge.line, now, None)

    async def _cross(self, bridge: Wire, trace: str) -> None:
        def opened() -> None:
            if bridge.line is None:
                bridge.line = self._history.opened(self._clock.now(), ordered=False)
                self._attend()

        def deliver(event: LiveEvent) -> None:
            if event.run_id != self.run_id:
                return
            if bridge.line is None:
                opened()
            if bridge.line is not None and bridge is self._bridge:
                self._deliver(bridge.line, event)

        self._watch.subscribed("bridge", +1)
        cause = GapCause.UPSTREAM
        try:
            cause = await self._guarded(self._upstream.follow_metadata(TRACE, trace, deliver, opened))
        finally:
            bridge.task = None
            self._watch.subscribed("bridge", -1)
            if bridge is self._bridge and not self._closed and not self._history.over:
                self._bridge = None
                self._bridge_losses += 1
                if self._bridge_losses <= BRIDGE_LOSSES:
                    self._bridged = frozenset()
                if bridge.line is not None:
                    self._history.closed(bridge.line, self._clock.now(), cause if not self._wires else None)
                self._flush()
                self._attend()
