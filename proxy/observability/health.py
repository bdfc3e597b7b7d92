"""The answers of ``/healthz`` and ``/readyz``, computed from a snapshot of the process; pure.

- ``/healthz`` is 200 as long as the event loop runs. A restart would not help against anything else.
- ``/readyz`` is about this pod: configuration loaded, not draining. Trouble of a team (Hatchet unreachable, a
  broken file) is reported in the body and leaves the pod ready: otherwise the outage of one team would take
  every team offline, and clients would find a refused connection instead of an open stream to wait on.
- With ``?strict`` it is 503 while any team has trouble. ``?team=NAME`` looks at one team and is strict (404
  for a team that does not exist).
- A log that replicas share and that is away is trouble in the same sense: runs are served from memory.
- Each team is probed every 20 seconds (`proxy.teams.prober`), so trouble shows without a client. A team that
  was not probed yet has no trouble.
- A limit that is reached is no trouble in the sense of ``?strict``: clients cause it, and a deployment must
  not wait for them.

Times are Unix seconds. The body is JSON for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

TAP_REMEDY: Final = "trigger runs with one constant metadata pair and name it in hatchet.tap"
OK: Final = 200
NOT_FOUND: Final = 404
UNAVAILABLE: Final = 503


class UpstreamState(StrEnum):
    """Whether Hatchet answers a team."""

    REACHABLE = "reachable"
    AWAY = "away"
    REFUSED = "token refused"
    UNKNOWN = "not asked yet"
    OFF = "off"  # of the history and of an issuer: there is none


class ConfigState(StrEnum):
    """Which version of a team's file is served."""

    CURRENT = "current"
    LAST_GOOD = "last good"  # the newest version is broken, the one before it is served
    BROKEN = "broken"  # no version was ever good: the team's streams answer stream.wait


class UpstreamHealth(Struct, frozen=True):
    """Whether Hatchet's gRPC, its history or an issuer answers, since when, and the error if not.

    `since` is in Unix seconds; None: since the start.
    """

    state: UpstreamState = UpstreamState.UNKNOWN
    since: float | None = None
    trouble: str | None = None  # the error's sentence: never a payload or a secret

    def became(self, state: UpstreamState, trouble: str | None, now: float) -> UpstreamHealth:
        """The health at `now` (Unix seconds); `since` changes only with the state."""
        if state is not self.state:
            return UpstreamHealth(state, now, trouble)
        return self if trouble == self.trouble else UpstreamHealth(state, self.since, trouble)

    @property
    def is_fine(self) -> bool:
        return self.state in (UpstreamState.REACHABLE, UpstreamState.UNKNOWN, UpstreamState.OFF)


class ConfigHealth(Struct, frozen=True):
    """Which version of a file is served, since when (Unix seconds, None: the start), and the reloads."""

    state: ConfigState = ConfigState.CURRENT
    since: float | None = None
    problem: str | None = None  # the first problem of a broken file: file, line and sentence
    reloads: Mapping[str, int] = field(default_factory=dict)  # by result: ok | failed
    reloaded_at: float = 0.0  # Unix seconds of the last good reload; 0: there was none
    reload_seconds: float = 0.0  # how long the last reload took, tests included, good or not

    @property
    def is_fine(self) -> bool:
        return self.state is ConfigState.CURRENT


class SubscriptionHealth(Struct, frozen=True):
    """How many runs have subscriptions of their own (`used` of `limit`: ``hatchet.subscriptions``).

    `state_only` runs found the limit reached: they are followed by their state alone, without chunks. That
    is no trouble in the sense of ``?strict``, because a deployment must not wait for it to end.
    """

    used: int = 0
    limit: int = 0
    state_only: int = 0


class LimitHealth(Struct, frozen=True):
    """One limit of a team: how much of it is used, and how many clients it has turned away.

    `limit` and `used` are None for a limit that is not configured for the team (the process's own). `last` is
    when a client was turned away the last time (Unix seconds), None for never.
    """

    limit: int | None = None
    used: int | None = None
    refused: int = 0
    last: float | None = None


class TeamHealth(Struct, frozen=True):
    """One team at one moment."""

    name: str
    upstream: UpstreamHealth = UpstreamHealth()
    config: ConfigHealth = ConfigHealth()
    subscriptions: SubscriptionHealth = SubscriptionHealth()
    history: UpstreamHealth = UpstreamHealth(UpstreamState.OFF)
    issuer: UpstreamHealth = UpstreamHealth(UpstreamState.OFF)  # of tokens: whether its keys can be had
    limits: Mapping[str, LimitHealth] = field(default_factory=dict)  # by the name in the configuration

    @property
    def is_fine(self) -> bool:
        return all(each.is_fine for each in (self.upstream, self.history, self.issuer, self.config))


class Health(Struct, frozen=True):
    """The process at one moment."""

    started: float
    version: str
    loaded: bool = True
    draining: bool = False
    teams: tuple[TeamHealth, ...] = ()
    workers: int = 1
    silent_workers: int = 0  # that did not answer in time: what they said last counts
    log: UpstreamHealth = UpstreamHealth(UpstreamState.OFF)  # that replicas share; OFF: there is none


class Answer(Struct, frozen=True):
    """A status and a JSON body."""

    status: int
    body: Mapping[str, Any]


def healthz(health: Health, now: float) -> Answer:
    """The event loop runs: it answered this request."""
    return Answer(OK, {"status": "alive", "version": health.version, "up": spell(now - health.started)})


def readyz(health: Health, now: float, *, strict: bool = False, team: str | None = None) -> Answer:
    """Whether this pod takes new clients; with `strict` or `team` also whether its teams have no trouble."""
    teams = health.teams if team is None else tuple(one for one in health.teams if one.name == team)
    if team is not None and not teams:
        return Answer(
            NOT_FOUND, {"status": "unknown team", "teams": sorted(one.name for one in health.teams)}
        )
    status = _status(health, health.log.is_fine and all(one.is_fine for one in teams))
    refused = status in ("starting", "draining") or (status == "degraded" and (strict or team is not None))
    body = {
        "status": status,
        "version": health.version,
        "up": spell(now - health.started),
        "config": "loaded" if health.loaded else "not loaded",
        "draining": health.draining,
        **_workers(health),
        "teams": {one.name: _team(one, health.started, now) for one in teams},
    }
    if health.log.state is not UpstreamState.OFF:
        body["log"] = _upstream(health.log, health.started, now)
    return Answer(UNAVAILABLE if refused else OK, body)


def _workers(health: Health) -> dict[str, Any]:
    """How many processes answer; nothing where there is one."""
    if health.workers == 1:
        return {}
    return {"workers": {"count": health.workers, "answering": health.workers - health.silent_workers}}


def together(parts: Sequence[Health]) -> Health:
    """The health of several workers as one: of each part of a team the worst, of limits the sum."""
    names = dict.fromkeys(team.name for part in parts for team in part.teams)
    teams = [[team for part in parts for team in part.teams if team.name == name] for name in names]
    return replace(
        parts[0],
        started=min(part.started for part in parts),
        loaded=all(part.loaded for part in parts),
        draining=any(part.draining for part in parts),
        teams=tuple(_team_together(each) for each in teams),
        log=_worst([part.log for part in parts]),
    )


def _team_together(parts: Sequence[TeamHealth]) -> TeamHealth:
    return TeamHealth(
        parts[0].name,
        _worst([part.upstream for part in parts]),
        next((part.config for part in parts if not part.config.is_fine), parts[0].config),
        SubscriptionHealth(
            used=sum(part.subscriptions.used for part in parts),
            limit=sum(part.subscriptions.limit for part in parts),
            state_only=sum(part.subscriptions.state_only for part in parts),
        ),
        _worst([part.history for part in parts]),
        _worst([part.issuer for part in parts]),
        _limits_together([part.limits for part in parts]),
    )


def _worst(parts: Sequence[UpstreamHealth]) -> UpstreamHealth:
    return next((part for part in parts if not part.is_fine), parts[0])


def _limits_together(parts: Sequence[Mapping[str, LimitHealth]]) -> dict[str, LimitHealth]:
    """Each worker has its share of a team's limit; one for a run or a subject is the same in each."""
    found: dict[str, LimitHealth] = {}
    for part in parts:
        for name, more in part.items():
            one = found.get(name)
            if one is None:
                found[name] = more
                continue
            of_each = name in ("connections_per_run", "connections_per_subject")
            join = max if of_each else sum
            found[name] = LimitHealth(
                limit=_joined(join, one.limit, more.limit),
                used=_joined(join, one.used, more.used),
                refused=one.refused + more.refused,
                last=_joined(max, one.last, more.last),
            )
    return found


def _joined(join: Callable[[tuple[Any, ...]], Any], *values: Any) -> Any:
    known = tuple(value for value in values if value is not None)
    return join(known) if known else None


def _status(health: Health, fine: bool) -> str:
    if not health.loaded:
        return "starting"
    if health.draining:
        return "draining"
    return "ready" if fine else "degraded"


def _team(team: TeamHealth, started: float, now: float) -> dict[str, Any]:
    up, config = team.upstream, team.config
    body: dict[str, Any] = {
        "upstream": _upstream(up, started, now),
        "history": _upstream(team.history, started, now),
        "issuer": _upstream(team.issuer, started, now),
        "config": _state(config.state.value, config.since or started, now, "problem", config.problem),
        "subscriptions": _subscriptions(team.subscriptions),
    }
    if team.limits:
        body["limits"] = [_limit(name, limit) for name, limit in team.limits.items()]
    return body


def _limit(name: str, health: LimitHealth) -> dict[str, Any]:
    body: dict[str, Any] = {"limit": name}
    if health.limit is not None:
        body |= {"used": health.used, "of": health.limit}
    if health.last is not None:
        body |= {"refused": health.refused, "last_refused": _moment(health.last)}
    return body


def _subscriptions(health: SubscriptionHealth) -> dict[str, Any]:
    body = {"used": health.used, "limit": health.limit, "state_only_runs": health.state_only}
    return {**body, "remedy": TAP_REMEDY} if health.state_only else body


def _upstream(health: UpstreamHealth, started: float, now: float) -> dict[str, Any]:
    if health.state is UpstreamState.OFF:
        return {"state": health.state.value}
    return _state(health.state.value, health.since or started, now, "trouble", health.trouble)


def _state(state: str, since: float, now: float, key: str, why: str | None) -> dict[str, Any]:
    body = {"state": state, "since": _moment(since), "for": spell(now - since)}
    return body if why is None else {**body, key: why}


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spell(seconds: float) -> str:
    """A duration in its two largest units: ``3 h 12 min``."""
    whole = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, whole = divmod(whole, size)
        if number or parts or unit == "s":
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
