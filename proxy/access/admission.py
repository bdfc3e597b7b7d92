"""A team's limits on its clients, and the process's own: counts and one token bucket, pure.

What is not written is not limited. A client that is refused waits (`stream.wait`, cause limit) and comes
back; only admitted clients count. The clock is handed in.

``connections_per_subject`` counts by the token's ``sub``; clients without one (``auth: none``, a token
without ``sub``) cannot be told apart and are held by the other limits only.
"""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass
from typing import Final

from config.model.files import LimitsConfig

SPARE_FILES: Final = 64
"""Descriptors for what is no client: listeners, logs, one channel per team, the history, the issuers."""
SPARE_SHARE: Final = 16
"""And one in so many of all: gRPC opens more under load, and accept() must never meet the limit itself."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No place now; `which` is the limit's name in the configuration."""

    which: str


class Lease:
    """A client's place; `release` gives it back, once."""

    __slots__ = ("_limits", "_run", "_subject")

    def __init__(self, limits: TeamLimits, run: str, subject: str | None) -> None:
        self._limits: TeamLimits | None = limits
        self._run = run
        self._subject = subject

    def release(self) -> None:
        limits, self._limits = self._limits, None
        if limits is not None:
            limits._take_back(self._run, self._subject)


class TeamLimits:
    """Who of a team's clients may come in; outlives reloads, so that clients who are here stay counted."""

    def __init__(self, config: LimitsConfig) -> None:
        self._config = config
        self._limited = _limits_clients(config)
        self._connections = 0
        self._by_run: Counter[str] = Counter()
        self._by_subject: Counter[str] = Counter()
        self._tokens = float(config.connects_per_second or 0)
        self._counted_at: float | None = None

    def configure(self, config: LimitsConfig) -> None:
        """New limits from now on; nobody who is here is sent away."""
        if config.connects_per_second != self._config.connects_per_second:
            self._tokens = float(config.connects_per_second or 0)
        self._config = config
        self._limited = _limits_clients(config)

    @property
    def connections(self) -> int:
        """Clients that are here."""
        return self._connections

    def admit(self, run: str, subject: str | None, now: float) -> Lease | Refused:
        """A place for one more client on `run` (as in the path), or the limit in the way."""
        which = (self._full(run, subject) or self._too_fast(now)) if self._limited else None
        if which is not None:
            return Refused(which)
        self._connections += 1
        self._by_run[run] += 1
        if subject is not None:
            self._by_subject[subject] += 1
        return Lease(self, run, subject)

    def knock(self, now: float) -> Refused | None:
        """Whether somebody who wants no place (a ticket) comes too fast: he counts as a new connection."""
        which = self._too_fast(now)
        return None if which is None else Refused(which)

    def _full(self, run: str, subject: str | None) -> str | None:
        config = self._config
        if _reached(config.connections, self._connections):
            return "connections"
        if _reached(config.connections_per_run, self._by_run.get(run, 0)):
            return "connections_per_run"
        if subject is not None and _reached(config.connections_per_subject, self._by_subject.get(subject, 0)):
            return "connections_per_subject"
        if run not in self._by_run and _reached(config.runs, len(self._by_run)):
            return "runs"
        return None

    def _too_fast(self, now: float) -> str | None:
        """A bucket of one second's worth: a team whose page has just gone live is not punished for it."""
        rate = self._config.connects_per_second
        if rate is None:
            return None
        since = 0.0 if self._counted_at is None else max(0.0, now - self._counted_at)
        self._counted_at = now
        self._tokens = min(float(rate), self._tokens + since * rate)
        if self._tokens < 1:
            return "connects_per_second"
        self._tokens -= 1
        return None

    def _take_back(self, run: str, subject: str | None) -> None:
        self._connections -= 1
        _decrease(self._by_run, run)
        if subject is not None:
            _decrease(self._by_subject, subject)


def ceiling(files: int) -> int:
    """How many connections a process with room for `files` descriptors may hold, all teams together."""
    return max(1, files - SPARE_FILES - files // SPARE_SHARE)


def raise_file_limit() -> int:
    """Take as many descriptors as the system grants this process; how many that is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS names a hard limit that it does not give
        return soft
    return hard


def _limits_clients(config: LimitsConfig) -> bool:
    """Whether anything is written that can be in a client's way."""
    written = (
        *(config.connections, config.connections_per_run, config.connections_per_subject),
        *(config.runs, config.connects_per_second),
    )
    return any(limit is not None for limit in written)


def _reached(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit


def _decrease(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
