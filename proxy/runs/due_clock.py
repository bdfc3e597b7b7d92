"""DueClock: a run's clock, which stands still at the next due time until what came before it is read."""

from __future__ import annotations

from math import inf, nextafter

from proxy.core.clock import Clock


class DueClock:
    """`clock`, but just before `due` for as long as that is set.

    An attempt counts as whole if nothing of it came for the settling time. If the process stalls meanwhile
    (no CPU, garbage collection), that time passes while chunks wait in the socket:

        end ──── stall ──────────────────────▶ event read ── chunk read ── wake-up
             └ due: judged here, not when the first event after the stall is read

    So events that are read late are dated before the due time, and what is due happens at the wake-up.
    """

    def __init__(self, clock: Clock) -> None:
        self.due = inf  # seconds
        self._clock = clock

    def now(self) -> float:
        """Seconds; they never run backwards."""
        now = self._clock.now()
        return now if now < self.due else nextafter(self.due, 0.0)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await self._clock.sleep(seconds)
