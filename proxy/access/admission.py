"""The limits of a team on its clients, and the limit of the process: counters and a token bucket, pure.

A limit that is not configured does not exist. A client beyond a limit gets `stream.wait` with the cause
`limit` and reconnects later; only admitted clients count. The clock is passed in.

``connections_per_subject`` counts by the token's ``sub``. Clients without one (``auth: none``, a token
without ``sub``) cannot be distinguished, so only the other limits apply to them.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from config.model.files import LimitsConfig

SPARE_FILES: Final = 64
"""File descriptors for everything but clients: listeners, logs, connections to Hatchet and to issuers."""
SPARE_SHARE: Final = 16
"""One in so many descriptors is spare too: gRPC opens more under load, and accept() must never fail."""


PROCESS_LIMIT: Final = "process_connections"
"""The name of the process's own limit, which follows from its file descriptors."""
TICKETS_LIMIT: Final = "pending_tickets"
"""The name of the limit on requests for tickets that wait for their run."""


class LimitUse(Struct, frozen=True):
    """A configured limit and how much of it is used; where each run or subject has one, by the fullest."""

    limit: int
    used: int


class Refusals(Struct, frozen=True):
    """How many clients a limit has turned away since the start, and the last time (Unix seconds)."""

    times: int
    last: float


class Refused(Struct, frozen=True):
    """A limit is reached; `which` is its name in the configuration."""

    which: str


class Lease(Struct, eq=False, gc=False):
    """An admitted client; after `release` it is no longer counted. A second `release` has no effect."""

    _limits: TeamLimits | None
    _run: str
    _subject: str | None

    def release(self) -> None:
        limits, self._limits = self._limits, None
        if limits is not None:
            limits._release(self._run, self._subject)


class TeamLimits:
    """Admits the clients of a team; outlives reloads, so that connected clients stay counted."""

    def __init__(self, config: LimitsConfig) -> None:
        self._config = config
        self._limited = _limits_clients(config)
        self._connections = 0
        self._by_run: dict[str, int] = {}  # plain dicts: a Counter costs a call for each new key
        self._by_subject: dict[str, int] = {}
        self._tokens = float(config.connects_per_second or 0)
        self._counted_at: float | None = None
        self._refusals: dict[str, Refusals] = {}

    def configure(self, config: LimitsConfig) -> None:
        """Use new limits from now on; connected clients stay."""
        if config.connects_per_second != self._config.connects_per_second:
            self._tokens = float(config.connects_per_second or 0)
        self._config = config
        self._limited = _limits_clients(config)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._connections

    @property
    def refusals(self) -> Mapping[str, Refusals]:
        """The limits that were reached, by name."""
        return self._refusals

    def count_refusal(self, which: str, at: float) -> None:
        """A client was turned away because of the limit `which`; `at` in Unix seconds."""
        before = self._refusals.get(which)
        self._refusals[which] = Refusals(1 + (before.times if before else 0), at)

    def use(self, now: float) -> dict[str, LimitUse]:
        """The configured limits on clients, by name; `now` as for `admit`."""
        config = self._config
        rate = config.connects_per_second or 0
        used = {
            "connections": (config.connections, self._connections),
            "connections_per_run": (config.connections_per_run, max(self._by_run.values(), default=0)),
            "connections_per_subject": (
                config.connections_per_subject,
                max(self._by_subject.values(), default=0),
            ),
            "runs": (config.runs, len(self._by_run)),
            "connects_per_second": (config.connects_per_second, rate - math.floor(self._filled(rate, now))),
        }
        return {name: LimitUse(limit, now) for name, (limit, now) in used.items() if limit is not None}

    def admit(self, run: str, subject: str | None, now: float) -> Lease | Refused:
        """Admit a client of `run` (as in the path), or name the limit that is reached; `now` in seconds."""
        which = (self._full(run, subject) or self._too_fast(now)) if self._limited else None
        if which is not None:
            return Refused(which)
        self._connections += 1
        self._by_run[run] = self._by_run.get(run, 0) + 1
        if subject is not None:
            self._by_subject[subject] = self._by_subject.get(subject, 0) + 1
        return Lease(self, run, subject)

    def admit_request(self, now: float) -> Refused | None:
        """Count a request for a ticket against ``connects_per_second``.

        The limit if it is reached, else None.
        """
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
        """Take a token. The bucket holds one second's worth, so a burst after a quiet time is admitted."""
        rate = self._config.connects_per_second
        if rate is None:
            return None
        self._tokens, self._counted_at = self._filled(rate, now), now
        if self._tokens < 1:
            return "connects_per_second"
        self._tokens -= 1
        return None

    def _filled(self, rate: int, now: float) -> float:
        """The tokens in the bucket at `now`."""
        since = 0.0 if self._counted_at is None else max(0.0, now - self._counted_at)
        return min(float(rate), self._tokens + since * rate)

    def _release(self, run: str, subject: str | None) -> None:
        self._connections -= 1
        _decrease(self._by_run, run)
        if subject is not None:
            _decrease(self._by_subject, subject)


def max_connections(files: int) -> int:
    """How many connections a process with `files` descriptors may hold, of all teams together."""
    return max(1, files - SPARE_FILES - files // SPARE_SHARE)


def raise_file_limit() -> int:
    """Raise the soft limit of file descriptors to the hard one; returns the limit that is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS reports a hard limit that it does not grant
        return soft
    return hard


def _limits_clients(config: LimitsConfig) -> bool:
    """Whether any limit on clients is configured."""
    written = (
        *(config.connections, config.connections_per_run, config.connections_per_subject),
        *(config.runs, config.connects_per_second),
    )
    return any(limit is not None for limit in written)


def _reached(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit


def _decrease(counts: dict[str, int], name: str) -> None:
    left = counts[name] - 1
    if left > 0:
        counts[name] = left
    else:
        del counts[name]
