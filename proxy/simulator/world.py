"""World: what every part of one engine shares: its time, its random, its quirks."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.scheduler import Scheduler


@dataclass(slots=True)
class World:
    """`speed` is how many times faster workers are; the engine's own waits are never faster.

    `behind`: seconds by which the read side lags, beyond what it always does.
    """

    scheduler: Scheduler
    random: RandomSource
    quirks: Quirks
    speed: float = 1.0
    behind: float = 0.0

    def lag(self, span: tuple[float, float]) -> float:
        """How far the read side is behind, this time."""
        return self.behind + (self.random.between(span) if self.quirks.history_lag else 0.0)
