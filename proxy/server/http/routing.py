"""Which stream of which team a path means."""

from __future__ import annotations

from proxy.streams.stream import LiveStream
from proxy.teams.hub import SINGLE, Hub
from proxy.teams.router import Match
from proxy.teams.team import Team


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


def is_broken_team(hub: Hub, path: str) -> bool:
    """Whether the path belongs to a team whose file was never valid, so that its streams are unknown."""
    name = path.split("/")[1:2]
    return bool(name) and hub.is_broken(name[0])
