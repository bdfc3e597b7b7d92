"""What happened lately in this process: the newest log lines, and the losses of the last hour."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.observability.counters import Counters, TeamCounters
from proxy.observability.log_writer import clean, plain

LINES: Final = 500
"""Log lines that are kept: some hundred kilobytes, and minutes of a busy proxy."""
HOUR: Final = 3600.0
SAMPLE_EVERY: Final = 60.0
"""Seconds between two samples of the counters: the hour is exact to a minute."""

Key = tuple[str, str, str, str]
"""Team, stream ("" for the team itself), kind, and its label (a cause, a reason, a rule)."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A log line; `at` is in Unix seconds."""

    at: float
    level: str
    event: str
    fields: Mapping[str, Any]

    @property
    def as_json(self) -> dict[str, Any]:
        fields = {name: plain(value) for name, value in self.fields.items()}
        return {"at": self.at, "level": self.level, "event": clean(self.event), "fields": fields}


class RecentLines:
    """The newest lines of the event log, oldest first."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=LINES)

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Take a line."""
        self._lines.append(LogLine(time.time(), level, event, fields))

    def __iter__(self) -> Iterator[LogLine]:
        return iter(tuple(self._lines))


class LastHour:
    """Losses and refusals of the last hour, as differences of the process's counters."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._samples: deque[tuple[float, Counter[Key]]] = deque()

    def sample(self, now: float) -> None:
        """Remember the counters at `now` (any monotonic seconds); to be called every `SAMPLE_EVERY`."""
        self._samples.append((now, _totals(self._counters)))
        while len(self._samples) > 1 and self._samples[1][0] <= now - HOUR:
            self._samples.popleft()

    def rows(self) -> list[dict[str, Any]]:
        """What was counted since an hour ago, or since the first sample; the most frequent first."""
        before = self._samples[0][1] if self._samples else Counter[Key]()
        grown = _totals(self._counters) - before
        return [
            {"team": team, "stream": stream, "kind": kind, "label": label, "times": times}
            for (team, stream, kind, label), times in grown.most_common()
        ]


def _totals(counters: Counters) -> Counter[Key]:
    totals: Counter[Key] = Counter()
    for name, team in counters.teams.items():
        for stream, kind, label, times in _counts(team):
            totals[name, stream, kind, label] = times
    return totals


def _counts(team: TeamCounters) -> Iterator[tuple[str, str, str, int]]:
    """Stream, kind, label and number of everything that a client may have missed."""
    for label, times in team.refusals.items():
        yield "", "refused", label, times
    for label, times in team.troubles.items():
        yield "", "trouble with Hatchet", label, times
    yield "", "skipped", "work allowance used up", team.work_refused
    yield "", "unforeseen error", "", team.unforeseen
    for name, stream in team.streams.items():
        for label, times in stream.gaps.items():
            yield name, "gap", label, times
        for label, times in stream.rule_errors.items():
            yield name, "rule failed", label, times
        for label, times in stream.ends.items():
            if label in ("stuck", "failed", "dropped", "expired"):
                yield name, "client ended", label, times
