"""World: what every part of one engine shares: its time, its random source, its quirks."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.scheduler import Scheduler


@dataclass(slots=True)
class World:
    """`speed`: how many times faster workers are; the engine's own waits are never faster.

    `history_lag` and `chunk_lag`: seconds by which the read side and chunks lag beyond what they always do.
    """

    scheduler: Scheduler
    random: RandomSource
    quirks: Quirks
    speed: float = 1.0
    history_lag: float = 0.0
    chunk_lag: float = 0.0

    def lag(self, span: tuple[float, float]) -> float:
        """How far the read side is behind, this time."""
        return self.history_lag + (self.random.between(span) if self.quirks.history_lag else 0.0)
