"""Loads a configuration from a path: a `Config`, or a `ConfigError` with every problem.

A file is the single-file form. A folder is the directory form: ``proxy.yaml`` and ``teams/*.yaml``. A team
whose file is broken is listed in ``Config.broken``; the other teams are loaded all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from msgspec.structs import replace

from config.checks.access import mapping
from config.checks.checker import Checked, Form, check
from config.model.files import Config, ProxyFile, SingleFile, TeamConfig, TeamFile
from config.model.resolve import DEFAULT_TEAM, grant, team
from config.model.types import nearest
from config.problems import ERROR, WARNING, ConfigError, Place, Problem, errors
from config.source.files import read_regular
from config.source.nodes import Source
from config.source.reader import MOST_BYTES

PROXY: Final = "proxy.yaml"
TEAMS: Final = "teams"
ENDINGS: Final = (".yaml", ".yml")
OTHER_ENDINGS: Final = (".yml", ".YAML", ".YML", ".json")  # of a proxy.yaml that was named otherwise


def load(path: Path, env: Mapping[str, str]) -> Config:
    """The configuration at `path`; raises ConfigError."""
    return directory(path, env) if path.is_dir() else single(path, env)


def survey(path: Path, env: Mapping[str, str]) -> list[Checked]:
    """Checks every file at `path`; raises ConfigError only where a file cannot be read.

    A file in a folder ``teams/`` is checked as a team's file, and against the ``proxy.yaml`` above the
    folder, if there is one.
    """
    if path.is_dir():
        proxy = check(str(path / PROXY), content(path / PROXY), Form.PROXY, env)
        files = team_files(path)
        names = {file.stem for file in files}
        missing = [
            without_file(path, name, proxy)
            for name in mapping(proxy.source.data, "teams")
            if name not in names
        ]
        proxy = replace(proxy, problems=(*proxy.problems, *missing))
        return [proxy, *(check_team(file, env, proxy) for file in files)]
    if path.absolute().parent.name == TEAMS:
        held = content(path, pipes=True)
        return [check_team(path, env, beside(path.absolute().parent.parent / PROXY, env), held)]
    return [check(str(path), content(path, pipes=True), None, env)]


def beside(path: Path, env: Mapping[str, str]) -> Checked | None:
    """The checked proxy.yaml at `path`; None where it cannot be read or has no teams.

    Its own problems are not reported for a team's file.
    """
    try:
        proxy = check(str(path), content(path), Form.PROXY, env)
    except ConfigError:
        return None
    return proxy if mapping(proxy.source.data, "teams") else None


def content(path: Path, *, pipes: bool = False) -> bytes:
    """A file's bytes, at most one more than is allowed; raises ConfigError where it cannot be read.

    `pipes`: it may be a pipe, because it was named on the command line. A process that serves reads regular
    files alone: it would wait for a pipe for ever.
    """
    try:
        if pipes:
            with path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        return read_regular(path, MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise unreadable(path, f"cannot be read: {reason}", _hint_for_missing(path)) from None


def _hint_for_missing(path: Path) -> str:
    """What to do about a path that cannot be read; "": the usual hint."""
    if path.name != PROXY:
        return ""
    for ending in OTHER_ENDINGS:
        twin = path.with_suffix(ending)
        if twin.is_file():
            return f"{twin.name} lies there: rename it to {PROXY}"
    return f"a folder needs a {PROXY}; give the file itself for the single-file form"


def unreadable(path: Path, reason: str, hint: str = "") -> ConfigError:
    """The error for a path that cannot be read."""
    hint = hint or "is the path right, and may this user read it?"
    return ConfigError([Problem(str(path), 1, 1, ERROR, "unreadable", reason, hint)], unreadable=True)


def single(path: Path, env: Mapping[str, str]) -> Config:
    """The single-file form."""
    checked = check(str(path), content(path), Form.SINGLE, env)
    if checked.model is None:
        raise ConfigError(checked.problems)
    file = cast(SingleFile, checked.model)
    teams = {DEFAULT_TEAM: team(grant(DEFAULT_TEAM, file), file)}
    tests_at = {DEFAULT_TEAM: places_of_tests(checked.source, file)}
    return Config(file.server, teams, single=True, warnings=checked.problems, tests_at=tests_at)


def places_of_tests(source: Source, file: TeamFile) -> tuple[Place, ...]:
    """File, line and column of each test of a file, in order."""
    return tuple(
        (source.file, *source.place(source.at(("tests", number)))) for number in range(len(file.tests))
    )


def team_files(folder: Path) -> list[Path]:
    """The teams' files of a directory form, sorted by name; hidden files are left out."""
    inside = folder / TEAMS
    try:
        found = sorted(inside.iterdir()) if inside.is_dir() else []
    except OSError as error:
        raise unreadable(inside, f"cannot be read: {error.strerror}") from None
    return [path for path in found if path.suffix in ENDINGS and not path.name.startswith(".")]


def directory(folder: Path, env: Mapping[str, str]) -> Config:
    """The directory form."""
    proxy = check(str(folder / PROXY), content(folder / PROXY), Form.PROXY, env)
    if proxy.model is None:
        raise ConfigError(proxy.problems)
    file = cast(ProxyFile, proxy.model)
    grants = {name: grant(name, block) for name, block in file.teams.items()}
    teams: dict[str, TeamConfig] = {}
    broken: dict[str, tuple[Problem, ...]] = {}
    tests_at: dict[str, tuple[Place, ...]] = {}
    warnings, ignored = list(proxy.problems), list[Problem]()
    for path in team_files(folder):
        result = _check_contained(path, env, proxy)
        name = path.stem
        if name not in grants:
            ignored += errors(result.problems)
        elif result.model is None or name in teams:
            broken[name] = (*broken.get(name, ()), *errors(result.problems))
        else:
            own = cast(TeamFile, result.model)
            teams[name] = team(grants[name], own)
            tests_at[name] = places_of_tests(result.source, own)
            warnings += result.problems
    for name in grants.keys() - teams.keys() - broken.keys():
        teams[name] = grants[name]
        warnings.append(without_file(folder, name, proxy))
    return Config(
        file.server,
        {name: teams[name] for name in grants if name in teams and name not in broken},
        broken=broken,
        grants={name: grants[name] for name in broken},
        single=False,
        ignored=tuple(ignored),
        warnings=tuple(warnings),
        tests_at=tests_at,
    )


def _check_contained(path: Path, env: Mapping[str, str], proxy: Checked) -> Checked:
    """`check_team`; an exception that should not be possible makes that team's file broken, and no other."""
    try:
        return check_team(path, env, proxy)
    except Exception as error:
        message = f"the file could not be checked ({type(error).__name__}): please report this"
        return Checked(Source(str(path), ""), (Problem(str(path), 1, 1, ERROR, "internal", message),), None)


def check_team(
    path: Path, env: Mapping[str, str], proxy: Checked | None, held: bytes | None = None
) -> Checked:
    """Checks a team's file, also against what `proxy` grants; a file that cannot be read is broken.

    `held` is the file's content where it was read already.
    """
    try:
        held = content(path) if held is None else held
    except ConfigError as error:
        return Checked(Source(str(path), ""), error.problems, None)
    teams = mapping(proxy.source.data, "teams") if proxy is not None else {}
    result = check(str(path), held, Form.TEAM, env, teams.get(path.stem))
    found = list(result.problems)
    if proxy is not None and path.stem not in teams:
        hint = (
            nearest(path.stem, list(teams))
            or f"the platform team adds it to {PROXY}, under `teams:`, as `{path.stem}:`"
        )
        message = f"{PROXY} grants no team `{path.stem}`, so these streams cannot be reached"
        found.insert(0, Problem(str(path), 1, 1, ERROR, "team-not-granted", message, hint))
    twin = path.with_suffix(".yml" if path.suffix == ".yaml" else ".yaml")
    if twin.exists():
        message = f"the team `{path.stem}` has two files, and files are never merged"
        found.insert(
            0, Problem(str(path), 1, 1, ERROR, "two-files", message, f"remove {path.name} or {twin.name}")
        )
    return replace(result, problems=tuple(found), model=None if errors(found) else result.model)


def without_file(folder: Path, name: str, proxy: Checked) -> Problem:
    """The warning for a granted team that has no file."""
    line, column = proxy.source.place(proxy.source.key_at(("teams", name)))
    message = f"the team `{name}` has no file, so it has no streams"
    hint = f"write {folder.name}/{TEAMS}/{name}.yaml, or remove the team"
    return Problem(proxy.source.file, line, column, WARNING, "team-without-file", message, hint)
