"""How much work the rules of a team may do in a second, in all its streams and runs together.

Rules run on the event loop that all teams share. One event is bounded by `WORK_LIMIT`; ten streams with ten
costly events a second would still take the whole loop. A team that has used up its allowance gets no more
until time has passed: expressions that need work fail with a reason that says so, plain ones go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from config.expressions.api import WORK_LIMIT
from proxy.core.clock import Clock, LoopClock

RATE: Final = 400_000.0
"""Units in a second: about a fifth of one core. Usual rules need some ten units for an event."""
BURST: Final = float(WORK_LIMIT)
"""Units at once: one event may cost as much as any event may."""


class WorkAllowance:
    """The allowance of one team; `used_up` is called for each event that was refused work."""

    def __init__(self, used_up: Callable[[], None], *, clock: Clock | None = None) -> None:
        self._used_up = used_up
        self._clock = clock or LoopClock()
        self._left = BURST
        self._counted_at = self._clock.now()

    def grant(self) -> int:
        """How many units the next event may use."""
        now = self._clock.now()
        self._left = min(BURST, self._left + (now - self._counted_at) * RATE)
        self._counted_at = now
        return max(0, int(self._left))

    def spent(self, units: int, granted: int) -> None:
        """An event used `units`; where that is more than the `granted` ones, it was stopped."""
        self._left -= min(units, granted)
        if units > granted and granted < WORK_LIMIT:
            self._used_up()
