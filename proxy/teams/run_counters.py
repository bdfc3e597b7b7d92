"""RunCounters: what a team's runs tell about themselves, kept as the team's counts."""

from __future__ import annotations

from proxy.observability.counters import TeamCounters
from proxy.runs.observer import Observer


class RunCounters(Observer):
    """What a team's runs tell about themselves, as counts."""

    def __init__(self, counts: TeamCounters) -> None:
        self._counts = counts

    def false_end(self) -> None:
        self._counts.false_ends += 1

    def lookup(self, kind: str) -> None:
        self._counts.lookups[kind] += 1

    def subscribed(self, kind: str, change: int) -> None:
        self._counts.subscriptions[kind] += change

    def late_chunk(self, count: int = 1) -> None:
        self._counts.late_chunks += count
