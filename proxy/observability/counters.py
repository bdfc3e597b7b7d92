"""Plain numbers that the packages add to, and that metrics and logs read; passed in, never global.

Adding to an attribute costs almost nothing on the hot path. Labels are bounded (team, stream, rule, cause);
a run id is never one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PAUSE_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Histogram:
    """Observations in buckets; the buckets are not cumulative."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` (seconds) `times` times."""
        self.buckets[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add(self, other: Histogram) -> None:
        """Add the observations of another histogram with the same bounds."""
        self.buckets = [one + more for one, more in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total

    def quantile(self, share: float) -> float | None:
        """The bound below which at least `share` (0 to 1) of the observations are.

        None where there are no observations, or where those are above the highest bound.
        """
        below, wanted = 0, share * sum(self.buckets)
        for bound, count in zip(self.bounds, self.buckets, strict=False):
            below += count
            if below and below >= wanted:
                return bound
        return None


@dataclass(slots=True)
class StreamCounters:
    """The counters of one stream of a team."""

    clients: int = 0
    opened: int = 0
    frames: int = 0  # a frame to two clients counts twice
    bytes: int = 0  # to sockets, before HTTP framing
    forwarded: Counter[str] = field(default_factory=Counter)  # by rule
    rule_errors: Counter[str] = field(default_factory=Counter)  # by rule
    gaps: Counter[str] = field(default_factory=Counter)  # by cause
    resets: int = 0
    ends: Counter[str] = field(default_factory=Counter)  # how a client's stream ended
    latency: Histogram = field(default_factory=Histogram)  # an event's time to the socket


@dataclass(slots=True)
class TeamCounters:
    """The counters of one team."""

    events: int = 0  # of runs, after they were put in order
    runs: int = 0
    run_ends: Counter[str] = field(default_factory=Counter)  # by status
    subscriptions: Counter[str] = field(default_factory=Counter)  # open now, by kind
    lookups: Counter[str] = field(default_factory=Counter)  # by kind
    troubles: Counter[str] = field(default_factory=Counter)  # by error's name
    false_ends: int = 0
    late_chunks: int = 0  # after the verified end
    work_refused: int = 0  # events for which the team's allowance of work was used up
    foreign_events: int = 0  # of other runs, on a subscription by run id
    unforeseen: int = 0  # exceptions that should not be possible
    refusals: Counter[str] = field(default_factory=Counter)  # 4xx and waits, by reason
    backlog_bytes: int = 0
    streams: dict[str, StreamCounters] = field(default_factory=dict)

    def stream(self, name: str) -> StreamCounters:
        """The counters of a stream, created on first use."""
        return self.streams.setdefault(name, StreamCounters())


@dataclass(slots=True)
class Undelivered:
    """Spans or exports of metrics that no collector took; each number is written by one thread only."""

    no_room: int = 0  # too many waited already
    refused: int = 0  # the collector was away, too slow, or refused them

    @property
    def total(self) -> int:
        """All of them."""
        return self.no_room + self.refused


@dataclass(slots=True)
class LogCounters:
    """The counters of the log that replicas share."""

    used: int = 0  # 1: there is one
    leading: int = 0  # runs, at the last look
    following: int = 0
    local: int = 0  # runs that are served without the log
    appended: int = 0  # events
    bytes: int = 0  # of appends
    received: int = 0  # events of other leaders
    refused: int = 0  # appends, because another replica led
    unusable: int = 0  # appends that were not stored, because the log could not
    take_overs: int = 0
    leads_lost: int = 0
    latency: Histogram = field(default_factory=Histogram)  # an append's time to its acknowledgement
    lag: Histogram = field(default_factory=Histogram)  # by which received events are behind the log
    errors: Counter[str] = field(default_factory=Counter)  # replies, by code


@dataclass(slots=True)
class Counters:
    """The counters of a process."""

    teams: dict[str, TeamCounters] = field(default_factory=dict)
    log: LogCounters = field(default_factory=LogCounters)
    log_lines_dropped: int = 0  # because nobody reads the log
    telemetry: dict[str, Undelivered] = field(default_factory=dict)  # by signal, where OpenTelemetry is on
    loop_lag: Histogram = field(default_factory=Histogram)
    collector_pauses: Histogram = field(default_factory=lambda: Histogram(PAUSE_BOUNDS))

    def team(self, name: str) -> TeamCounters:
        """The counters of a team, created on first use."""
        return self.teams.setdefault(name, TeamCounters())

    @classmethod
    def sum(cls, parts: Iterable[Counters]) -> Counters:
        """The sum of several processes' counters."""
        total = cls()
        for part in parts:
            _add(total, part)
        return total

    def lasting(self) -> Counters:
        """What still counts when the process has ended: everything but what is there at a moment."""
        found = Counters.sum([self])
        found.log.leading = found.log.following = found.log.local = 0
        for team in found.teams.values():
            team.runs = team.backlog_bytes = 0
            team.subscriptions.clear()
            for stream in team.streams.values():
                stream.clients = 0
        return found


def _add(total: Any, part: Any) -> None:
    """Add each field of a dataclass of numbers to the same field of another one."""
    for each in fields(total):
        here, there = getattr(total, each.name), getattr(part, each.name)
        if isinstance(here, int | float):
            setattr(total, each.name, here + there)
        elif isinstance(here, Counter):
            here.update(there)
        elif isinstance(here, Histogram):
            here.add(there)
        elif is_dataclass(here):
            _add(here, there)
        else:
            for key, inner in there.items():
                _add(here.setdefault(key, type(inner)()), inner)
