"""Which stream of which team a path means."""

from __future__ import annotations

from typing import Final

from proxy.streams.stream import LiveStream
from proxy.teams.hub import SINGLE, Hub
from proxy.teams.router import Match
from proxy.teams.team import Team

PROBES: Final = ("/healthz", "/readyz", "/metrics")
"""Paths of the process itself; no team has one of these names, and no stream one of these paths."""


def find_stream(hub: Hub, path: str) -> tuple[Team, Match[LiveStream]] | None:
    """The team and the stream of a path, which is still quoted; None where there is none.

    With one team a path is the stream's own; with several it begins with the team's name.
    """
    if hub.single:
        name, within = SINGLE, path
    else:
        name, slash, rest = path[1:].partition("/")
        within = slash + rest
    team = hub.teams.get(name)
    match = None if team is None else team.router.match(within)
    return None if team is None or match is None else (team, match)


def team_of(hub: Hub, path: str) -> Team | None:
    """The team to which a path belongs, whether there is a stream or not."""
    return hub.teams.get(_team_name(hub, path))


def is_broken_team(hub: Hub, path: str) -> bool:
    """Whether the path belongs to a team no version of which was ever good, so that its streams are unknown.

    In the single-file form that is every path but the probes'.
    """
    return path not in PROBES and hub.is_broken(_team_name(hub, path))


def _team_name(hub: Hub, path: str) -> str:
    return SINGLE if hub.single else path[1:].partition("/")[0]
