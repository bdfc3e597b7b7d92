"""Counts and logs what happens around the runs of a team."""

from __future__ import annotations

from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.runs.observer import Observer
from proxy.runs.quota import SubscriptionQuota


class RunCounters(Observer):
    """Adds what the runs of a team report to its counters; logs what an operator should act on."""

    def __init__(
        self, counters: TeamCounters, event_log: EventLog, team: str, quota: SubscriptionQuota
    ) -> None:
        self._counters = counters
        self._event_log = event_log
        self._team = team
        self._quota = quota

    def false_end(self) -> None:
        self._counters.false_ends += 1

    def lookup(self, kind: str) -> None:
        self._counters.lookups[kind] += 1

    def subscribed(self, kind: str, change: int) -> None:
        self._counters.subscriptions[kind] += change

    def late_chunk(self, count: int = 1) -> None:
        self._counters.late_chunks += count

    def foreign_event(self) -> None:
        self._counters.foreign_events += 1
        self._event_log.foreign_event(self._team)

    def state_only(self, change: int) -> None:
        if change > 0:
            self._event_log.subscriptions_used_up(self._team, limit=self._quota.most)

    def unforeseen(self, error: Exception) -> None:
        self._counters.unforeseen += 1
        self._event_log.unforeseen(self._team, error)
