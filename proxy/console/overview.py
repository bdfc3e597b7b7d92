"""The process as the console shows it: teams, streams, runs, limits, losses of the last hour."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

from proxy.console.recent import LastHour
from proxy.observability import health
from proxy.replicas.shared_run import SharedRun
from proxy.streams.run_session import RunSession
from proxy.teams.hub import Hub
from proxy.teams.team import Team

MOST_RUNS: Final = 300
"""Runs in one answer, the most recently opened first."""


def overview_as_json(hub: Hub, last_hour: LastHour) -> dict[str, Any]:
    """Everything but runs. The states of the teams are those of ``/readyz``."""
    now = hub.health()
    body = health.readyz(now, time.time()).body
    return {
        "status": body["status"],
        "version": now.version,
        "up": body["up"],
        "draining": now.draining,
        "single": hub.single,
        "clients": len(hub.sessions),
        "most_clients": hub.max_clients,
        "slow_clients": len(hub.sessions.paused),
        "loop_lag": _quantiles(hub),
        "payloads": hub.server.console is not None and hub.server.console.payloads == "shown",
        "shared_log": shared_log(hub),
        "teams": [
            {"name": name, **state, **_team(hub.teams.get(name))} for name, state in body["teams"].items()
        ],
        "last_hour": last_hour.rows(),
    }


def shared_log(hub: Hub) -> dict[str, Any] | None:
    """This replica's part in the log that replicas share; None where the log is in memory."""
    if hub.replication is None:
        return None
    log, state = hub.counters.log, hub.replication.health
    return {
        "replica": hub.replication.replica,
        "state": state.state.value,
        "trouble": state.trouble,
        "leading": log.leading,
        "following": log.following,
        "local": log.local,
        "appended": log.appended,
        "received": log.received,
        "take_overs": log.take_overs,
        "refused": log.refused,
    }


def _quantiles(hub: Hub) -> dict[str, float | None]:
    """The bounds (seconds) below which half and 99 of 100 measurements of the loop's lag are."""
    lag = hub.counters.loop_lag
    return {"p50": lag.quantile(0.5), "p99": lag.quantile(0.99)}


def _team(team: Team | None) -> dict[str, Any]:
    if team is None:
        return {"streams": [], "runs": 0, "clients": 0, "backlog_bytes": 0}
    counters = team.counters
    return {
        "runs": len(team.runs),
        "clients": sum(stream.clients for stream in counters.streams.values()),
        "backlog_bytes": counters.backlog_bytes,
        "tap": team.config.hatchet.tap is not None,
        "streams": [
            {
                "name": name,
                "path": stream.config.path,
                "format": stream.config.format,
                "rules": [rule.name for rule in stream.config.rules],
                "clients": counters.stream(name).clients,
                "opened": counters.stream(name).opened,
                "frames": counters.stream(name).frames,
                "bytes": counters.stream(name).bytes,
                "gaps": dict(counters.stream(name).gaps),
                "rule_errors": dict(counters.stream(name).rule_errors),
                "ends": dict(counters.stream(name).ends),
            }
            for name, stream in team.streams.items()
        ],
    }


def runs_as_json(hub: Hub, team_name: str | None) -> dict[str, Any]:
    """The runs that are followed or kept, the most recently opened first."""
    clients = Counter(id(session.run) for session in hub.sessions)
    runs = [
        (team, session)
        for name, team in hub.teams.items()
        if team_name in (None, name)
        for session in team.runs
    ]
    newest = runs[-MOST_RUNS:][::-1]
    return {
        "more": len(runs) > MOST_RUNS,
        "runs": [_run(team, session, clients[id(session)]) for team, session in newest],
    }


def _run(team: Team, session: RunSession, clients: int) -> dict[str, Any]:
    state = session.state
    return {
        "team": team.name,
        "run": session.run_id,
        "status": session.status or ("unknown" if state is None else state.status.name.lower()),
        "over": session.over,
        "clients": clients,
        "items": session.published,
        "sources": session.run.sources,
        "state_only": session.run.state_only,
        "trouble": session.run.trouble is not None,
        "role": role_of(session),
    }


def role_of(session: RunSession) -> str | None:
    """What this replica is for the run in the shared log; None where the log is in memory."""
    run = session.run
    if not isinstance(run, SharedRun):
        return None
    return "without the log" if run.local else run.role.name.lower()
