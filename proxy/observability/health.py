"""Probes: what ``/healthz`` and ``/readyz`` answer, from a snapshot of the process; pure.

The laws:

- ``healthz`` says that the loop turns; a restart would cure nothing else, so nothing else fails it.
- ``readyz`` is about this pod: configuration loaded, not draining. A team's trouble (Hatchet away, a broken
  file) is told in the body and leaves the pod ready, or one team's outage would take every team offline,
  and clients wait better on an open stream than at a closed door.
- Who wants to be told by the status asks: ``?strict`` is 503 while any team is in trouble, ``?team=NAME``
  looks at that team alone and is strict (404 for a team that is not there).
- A team that has not asked Hatchet for anything yet is not in trouble.

Times are Unix seconds. The body is JSON that a person can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

OK: Final = 200
NOT_FOUND: Final = 404
UNAVAILABLE: Final = 503


class UpstreamState(StrEnum):
    """Whether Hatchet answers a team."""

    REACHABLE = "reachable"
    AWAY = "away"
    REFUSED = "token refused"
    UNKNOWN = "not asked yet"


class ConfigState(StrEnum):
    """Which version of a team's file is served."""

    CURRENT = "current"
    LAST_GOOD = "last good"  # its newest version is broken, the one before it is served
    BROKEN = "broken"  # it never was good: its streams answer stream.wait


@dataclass(frozen=True, slots=True)
class TeamHealth:
    """How one team stands, and since when (Unix seconds; None: since the start)."""

    name: str
    reach: UpstreamState = UpstreamState.UNKNOWN
    reach_since: float | None = None
    trouble: str | None = None  # the upstream error's sentence: never a payload or a secret
    standing: ConfigState = ConfigState.CURRENT
    standing_since: float | None = None
    problem: str | None = None  # the first problem of a file that is broken: file, line and sentence

    @property
    def upstream_is_fine(self) -> bool:
        return self.reach in (UpstreamState.REACHABLE, UpstreamState.UNKNOWN)

    @property
    def config_is_current(self) -> bool:
        return self.standing is ConfigState.CURRENT

    @property
    def is_fine(self) -> bool:
        return self.upstream_is_fine and self.config_is_current


@dataclass(frozen=True, slots=True)
class Health:
    """The process at one moment."""

    started: float
    version: str
    loaded: bool = True
    draining: bool = False
    teams: tuple[TeamHealth, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body."""

    status: int
    body: Mapping[str, Any]


def healthz(health: Health, now: float) -> Answer:
    """The loop turns: who reads this has been answered by it."""
    return Answer(OK, {"status": "alive", "version": health.version, "up": spell(now - health.started)})


def readyz(health: Health, now: float, *, strict: bool = False, team: str | None = None) -> Answer:
    """Whether this pod takes new clients; with `strict` or `team`, whether its teams are served too."""
    teams = health.teams if team is None else tuple(one for one in health.teams if one.name == team)
    if team is not None and not teams:
        return Answer(
            NOT_FOUND, {"status": "unknown team", "teams": sorted(one.name for one in health.teams)}
        )
    status = _status(health, all(one.is_fine for one in teams))
    refused = status in ("starting", "draining") or (status == "degraded" and (strict or team is not None))
    body = {
        "status": status,
        "version": health.version,
        "up": spell(now - health.started),
        "config": "loaded" if health.loaded else "not loaded",
        "draining": health.draining,
        "teams": {one.name: _team(one, health.started, now) for one in teams},
    }
    return Answer(UNAVAILABLE if refused else OK, body)


def _status(health: Health, fine: bool) -> str:
    if not health.loaded:
        return "starting"
    if health.draining:
        return "draining"
    return "ready" if fine else "degraded"


def _team(team: TeamHealth, started: float, now: float) -> dict[str, Any]:
    upstream = _state(team.reach.value, team.reach_since or started, now, "trouble", team.trouble)
    config = _state(team.standing.value, team.standing_since or started, now, "problem", team.problem)
    return {"upstream": upstream, "config": config}


def _state(state: str, since: float, now: float, key: str, why: str | None) -> dict[str, Any]:
    told = {"state": state, "since": _moment(since), "for": spell(now - since)}
    return told if why is None else {**told, key: why}


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spell(seconds: float) -> str:
    """A span as people say it, in its two largest units: ``3 h 12 min``."""
    whole = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, whole = divmod(whole, size)
        if number or parts or unit == "s":
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
