"""Counts what happens around the runs of a team."""

from __future__ import annotations

from proxy.observability.counters import TeamCounters
from proxy.runs.observer import Observer


class RunCounters(Observer):
    """Adds what the runs of a team report to the counters of the team."""

    def __init__(self, counters: TeamCounters) -> None:
        self._counters = counters

    def false_end(self) -> None:
        self._counters.false_ends += 1

    def lookup(self, kind: str) -> None:
        self._counters.lookups[kind] += 1

    def subscribed(self, kind: str, change: int) -> None:
        self._counters.subscriptions[kind] += change

    def late_chunk(self, count: int = 1) -> None:
        self._counters.late_chunks += count
