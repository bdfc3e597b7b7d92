"""A team's configuration: what is served, beside what its files say now. Secrets are redacted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from config.model.files import TeamConfig
from config.problems import Problem
from config.render.effective import as_yaml, effective_team
from proxy.teams.team import Team

Newest = TeamConfig | Sequence[Problem]
"""What a team's files say now: a configuration, or the problems that keep it from being served."""


def config_as_json(name: str, team: Team | None, newest: Newest | None) -> dict[str, Any]:
    """The served configuration, the newest version's problems, and where the two differ.

    `team` is None where no version of its files was ever good. `live` and `differs` have JSON values with the
    keys and units of the files; `written` has the YAML of each key of `live`.
    """
    live = effective_team(team.config, {}) if team is not None else None
    written = {key: as_yaml({key: value}) for key, value in (live or {}).items()}
    found: dict[str, Any] = {
        "team": name,
        "live": live,
        "written": written,
        "problems": [],
        "differs": [],
    }
    if newest is None:
        found["gone"] = True  # the files do not grant this team any more
    elif isinstance(newest, TeamConfig):
        pairs = differences(live, effective_team(newest, {})) if live is not None else ()
        found["differs"] = [{"key": key, "live": old, "newest": new} for key, old, new in pairs]
    else:
        found["problems"] = [problem.as_json() for problem in newest]
    return found


def differences(live: Any, newest: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The key, the served and the newest value of each setting that differs; null where it is missing."""
    if isinstance(live, Mapping) and isinstance(newest, Mapping):
        for key in dict.fromkeys([*live, *newest]):
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(live.get(key), newest.get(key), inner)
    elif isinstance(live, list) and isinstance(newest, list) and len(live) == len(newest):
        for number, (old, new) in enumerate(zip(live, newest, strict=True)):
            yield from differences(old, new, f"{path}[{number}]")
    elif live != newest:
        yield path, live, newest
