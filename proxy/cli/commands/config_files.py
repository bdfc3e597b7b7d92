"""The streams of teams from the YAML alone, for commands that need no connection, token or secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from config.checks.checker import Checked, Form, check
from config.load import PROXY, TEAMS, check_team, content, team_files, unreadable
from config.model.files import HatchetConfig, SingleFile, TeamConfig, TeamFile
from config.model.resolve import DEFAULT_TEAM, grant, team
from config.problems import ConfigError, Problem, errors
from config.source.variables import REFERENCE, Fault, resolved

PROBLEMS: Final = 1
USAGE: Final = 2
UNSET: Final = "unset"
_ABSENT: Final = frozenset({"unset-variable", "variable-file"})


def teams_at(path: Path, env: Mapping[str, str]) -> tuple[list[TeamConfig], list[Problem]]:
    """The teams at `path` (a file, a team's file, a folder), and the problems of teams that cannot be read.

    Raises ConfigError if nothing can be read, or if a single file has problems.
    """
    if path.is_dir():
        return _directory(path, env)
    if path.parent.name == TEAMS:
        checked = check_team(path, env, None)
        if checked.model is None:
            raise ConfigError(errors(checked.problems))
        return [_team(path.stem, checked)], []
    return [_single(path, env)], []


def folder_of(path: Path) -> Path:
    """Where the YAML with the tests lies: recordings are named from there."""
    return path / TEAMS if path.is_dir() else path.parent


def team_named(teams: list[TeamConfig], name: str | None) -> TeamConfig:
    """The team called `name`, or the only one; raises LookupError with a sentence for the user."""
    names = ", ".join(team.name for team in teams) or "none"
    if name is None:
        if len(teams) != 1:
            raise LookupError(f"name the team: --team NAME (there are: {names})")
        return teams[0]
    for found in teams:
        if found.name == name:
            return found
    raise LookupError(f"there is no team {name} (there are: {names})")


def _team(name: str, checked: Checked) -> TeamConfig:
    granted = TeamConfig(name=name, hatchet=HatchetConfig.model_validate({"token": UNSET}))
    return team(granted, cast(TeamFile, checked.model))


def _directory(folder: Path, env: Mapping[str, str]) -> tuple[list[TeamConfig], list[Problem]]:
    files = team_files(folder)
    if not files and not (folder / PROXY).is_file():
        raise unreadable(folder, f"has neither {PROXY} nor {TEAMS}/*.yaml")
    teams: list[TeamConfig] = []
    problems: list[Problem] = []
    for file in files:
        checked = check_team(file, env, None)
        if checked.model is None:
            problems += errors(checked.problems)
        else:
            teams.append(_team(file.stem, checked))
    return teams, problems


def _single(path: Path, env: Mapping[str, str]) -> TeamConfig:
    text = content(path, pipes=True)
    checked = check(str(path), text, Form.SINGLE, env, secrets=False)
    if checked.model is None and any(problem.code in _ABSENT for problem in checked.problems):
        again = check(str(path), _without_variables(text, env), Form.SINGLE, env, secrets=False)
        checked = checked if again.model is None else again
    if checked.model is None:
        raise ConfigError(errors(checked.problems))
    file = cast(SingleFile, checked.model)
    return team(grant(DEFAULT_TEAM, file), file)


def _without_variables(text: bytes, env: Mapping[str, str]) -> bytes:
    """`text` with a placeholder for every variable and file that does not exist."""

    def stand_in(match: re.Match[str]) -> str:
        return UNSET if isinstance(resolved(match, env), Fault) else match.group()

    return REFERENCE.sub(stand_in, text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
