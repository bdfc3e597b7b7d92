"""Following: a run's own subscriptions: by run id, one that lasts, or none while the tap tells."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from proxy.core.events import GapCause, LiveEvent
from proxy.hatchet.errors import BadChunk, HatchetError, MessageTooLarge, RunUnknown
from proxy.runs.state_reader import Looking
from proxy.runs.telling import PASSING
from proxy.runs.wires import MOST, SPREAD, Wire, choose, earliest

ASIDE: Final = 0.05  # seconds until a choice that would be too early is looked at again
TAP_PATIENCE: Final = 1.0  # seconds that a run waits for a tap that broke before it subscribes by itself


class Following(Looking):
    """Opens, chooses and drops subscriptions by run id."""

    def _subscribe(self, now: float) -> float | None:
        """See to it that there is a subscription by run id, or the tap; when to do so again."""
        if self._tapped(now):
            self._drop(list(self._wires))
            self._reopen = True
            self._second_look = None
            return self._untapped_at + TAP_PATIENCE if "tap" not in self._outside and self.state else None
        if self._history.awaits_others(now):
            choice: float | None = now + ASIDE
        else:
            drop, choice = choose(self._wires, now)
            self._drop(drop)
        if self._second_look is not None and now >= self._second_look:
            self._second_look = None
            if self._history.young and len(self._wires) == 1 and not self._wires[0].spoke:
                self._open(now)
                choice = choose(self._wires, now)[1]
        if any(wire.spoke for wire in self._wires):
            self._reopen = False
        elif self._reopen and len(self._wires) < MOST - 1:
            if now < self._backoff.at:
                return earliest(choice, self._second_look, self._backoff.at)
            self._reopen = False
            self._open(now)
        return earliest(choice, self._second_look)

    def _tapped(self, now: float) -> bool:
        """Whether the tap brings this run's events, or will in a moment."""
        if self.pair is None:
            return False
        if self.state is None:
            return True
        if not self._carries("tap"):
            line = self._outside.pop("tap", None)
            if line is not None:
                self._history.closed(line, now, None)
            return False
        return "tap" in self._outside or now < self._untapped_at + TAP_PATIENCE

    def _carries(self, source: str) -> bool:
        """Whether the run is one that the tap tells of, as far as is known."""
        state = self.state
        if source != "tap" or self.pair is None or state is None:
            return True
        key, value = self.pair
        return state.metadata.get(key) == value

    def _open(self, now: float, *, fresh: bool = False) -> None:
        wire = Wire(now, fresh=fresh)
        self._wires.append(wire)
        wire.task = self._spawn(self._follow(wire))

    def _drop(self, wires: list[Wire]) -> None:
        for wire in wires:
            self._wires.remove(wire)
            if wire.task is not None:
                wire.task.cancel()
            if wire.line is not None:
                self._history.closed(wire.line, self._clock.now(), None)

    async def _follow(self, wire: Wire) -> None:
        def opened() -> None:
            if wire.line is None:
                wire.line = self._history.opened(self._clock.now(), ordered=True)
                self._opened.set()
                self._attend()

        def deliver(event: LiveEvent) -> None:
            if wire.line is None:
                opened()
            if event.hangup:
                wire.hung_up = True
            if wire.line is not None and wire in self._wires:
                self._deliver(wire.line, event)

        self._watch.subscribed("run", +1)
        cause = GapCause.UPSTREAM
        try:
            cause = await self._guarded(self._upstream.follow(self.run_id, deliver, opened))
        finally:
            wire.task = None  # a cancelled task holds this frame, and so the wire
            self._watch.subscribed("run", -1)
            if wire in self._wires and not self._closed and not self._history.over:
                self._ended(wire, cause)

    def _ended(self, wire: Wire, cause: GapCause) -> None:
        now = self._clock.now()
        self._wires.remove(wire)
        self._reopen = True
        self._backoff.ended(now, hung_up=wire.hung_up, lasted=now - wire.opened_at)
        if wire.line is not None:
            later = 0.0 if wire.hung_up else self._rng.uniform(0.0, SPREAD)
            self._history.closed(wire.line, now, cause, later=later)
        self._opened.set()
        self._flush()
        self._attend()

    async def _guarded(self, following: Coroutine[Any, Any, None]) -> GapCause:
        """Follow until it ends; why chunks may be missing then."""
        try:
            await following
        except MessageTooLarge:
            return GapCause.TOO_LARGE
        except BadChunk:  # it ends every line, one after the other: each may be replaced before the next ends
            self._history.lost_chunk(self._clock.now())
        except RunUnknown:
            pass
        except PASSING as trouble:
            self.trouble = trouble
        except HatchetError as trouble:
            self.trouble = trouble
        return GapCause.UPSTREAM
