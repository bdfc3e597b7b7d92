"""The metrics that are read from `Health`: what is up, which configuration is served, how full limits are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from proxy.observability.health import Health, LimitHealth, TeamHealth, UpstreamState
from proxy.observability.metrics import TEAM, Family, Row


def _of_team(read: Callable[[TeamHealth], float]) -> Callable[[Health], Iterator[Row]]:
    return lambda health: (((team.name,), read(team)) for team in health.teams)


def _of_limit(read: Callable[[LimitHealth], int | None]) -> Callable[[Health], Iterator[Row]]:
    """A number of each limit that has one."""
    return lambda health: (
        ((team.name, limit), float(number))
        for team in health.teams
        for limit, state in team.limits.items()
        if (number := read(state)) is not None
    )


def _reloads(health: Health) -> Iterator[Row]:
    for team in health.teams:
        yield from (((team.name, result), number) for result, number in team.config.reloads.items())


def _log_up(health: Health) -> list[Row]:
    return [] if health.log.state is UpstreamState.OFF else [((), float(health.log.is_fine))]


LIMIT: Final = (*TEAM, "limit")

HEALTH_FAMILIES: Final[tuple[Family[Health], ...]] = (
    Family("shared_log_up", "gauge", "0 while the shared log cannot be reached.", (), _log_up),
    Family(
        "draining",
        "gauge",
        "1 while this replica is draining.",
        (),
        lambda health: [((), float(health.draining))],
    ),
    Family(
        "upstream_up",
        "gauge",
        "0 while Hatchet does not answer this team.",
        TEAM,
        _of_team(lambda team: float(team.upstream.is_fine)),
    ),
    Family(
        "history_up",
        "gauge",
        "0 while the REST history gives no usable answer.",
        TEAM,
        _of_team(lambda team: float(team.history.is_fine)),
    ),
    Family(
        "issuer_up",
        "gauge",
        "0 while the keys of this team's issuer cannot be fetched.",
        TEAM,
        _of_team(lambda team: float(team.issuer.is_fine)),
    ),
    Family(
        "config_current",
        "gauge",
        "0 while a team's file is broken.",
        TEAM,
        _of_team(lambda team: float(team.config.is_fine)),
    ),
    Family(
        "subscriptions",
        "gauge",
        "Runs that have subscriptions of their own now.",
        TEAM,
        _of_team(lambda team: team.subscriptions.used),
    ),
    Family(
        "subscriptions_limit",
        "gauge",
        "Its limit: hatchet.subscriptions.",
        TEAM,
        _of_team(lambda team: team.subscriptions.limit),
    ),
    Family(
        "state_only_runs",
        "gauge",
        "Runs followed without chunks, because the limit is reached.",
        TEAM,
        _of_team(lambda team: team.subscriptions.state_only),
    ),
    Family(
        "last_reload_timestamp_seconds",
        "gauge",
        "Unix time of the last good reload.",
        TEAM,
        _of_team(lambda team: team.config.reloaded_at),
    ),
    Family(
        "last_reload_duration_seconds",
        "gauge",
        "How long the last reload took, tests included.",
        TEAM,
        _of_team(lambda team: team.config.reload_seconds),
    ),
    Family("reloads", "counter", "Reloads of a team's file.", (*TEAM, "result"), _reloads),
    Family("limit", "gauge", "A team's configured limits.", LIMIT, _of_limit(lambda limit: limit.limit)),
    Family(
        "limit_used",
        "gauge",
        "How much of a limit is used now; of one for each run or subject, by the fullest.",
        LIMIT,
        _of_limit(lambda limit: limit.used),
    ),
    Family(
        "limit_refusals",
        "counter",
        "Clients turned away because a limit was reached.",
        LIMIT,
        _of_limit(lambda limit: limit.refused),
    ),
)
