"""Asks Hatchet about a configuration, for ``stream-proxy check --live``: token, history, workflows, steps.

Reports problems that the files alone cannot show, each at its place: a token that is refused, a Hatchet or a
history that does not answer, workflows and steps that do not exist, a Redis that ``server.log`` cannot use.
Nothing is changed at Hatchet or in Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from config.checks.checker import Checked, ordered
from config.checks.paths import streams_of
from config.expressions.globs import matches
from config.load import PROXY, TEAMS, load
from config.model.files import TeamConfig
from config.model.shared_log import LogAddress
from config.model.types import nearest
from config.problems import ERROR, WARNING, ConfigError, Problem, Severity, errors
from config.source.nodes import Path as Place
from config.source.nodes import Source
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.errors import HatchetError, RunUnknown, TokenRefused

NOBODY: Final = "00000000-0000-0000-0000-000000000000"
PATIENCE: Final = 30.0  # seconds for one team
AT_ONCE: Final = 8  # workflows that are asked for at once
MOST_NAMES: Final = 10  # in a hint
SEE_LOG: Final = "docs/shared-log.md says what server.log needs"

Workflows = Mapping[str, tuple[str, ...]]
"""The steps of each workflow of a tenant."""
Found = tuple[str, str, str]
"""What is wrong: code, message, hint."""


@dataclass(frozen=True, slots=True)
class _Team:
    """A team, the file with its connection and the one with its streams."""

    config: TeamConfig
    grants: Source
    hatchet: Place
    streams: Source


async def with_live(path: Path, checked: Sequence[Checked], env: Mapping[str, str]) -> list[Checked]:
    """`checked`, the files at `path`, with what Hatchet says; as they are where they have errors."""
    if errors([problem for each in checked for problem in each.problems]):
        return list(checked)
    try:
        log, teams = _teams(path, checked, env)
    except ConfigError as error:
        files = {each.source.file for each in checked}
        first = checked[0]
        others = [replace(each, file=first.source.file) for each in error.problems if each.file not in files]
        return [replace(first, problems=ordered([*first.problems, *others])), *checked[1:]]
    answers = await asyncio.gather(*(_ask(team, env) for team in teams), _ask_log(log, checked[0].source))
    problems = [problem for found in answers for problem in found]
    return [
        replace(
            each,
            problems=ordered([*each.problems, *(one for one in problems if one.file == each.source.file)]),
        )
        for each in checked
    ]


def _teams(
    path: Path, checked: Sequence[Checked], env: Mapping[str, str]
) -> tuple[LogAddress | None, list[_Team]]:
    """The shared log and the teams at `path`; of one team's file the team alone. Raises ConfigError."""
    own = path.absolute()
    if own.parent.name == TEAMS:
        config = load(own.parent.parent, env)
        team = config.teams.get(own.stem)
        source = checked[0].source
        return None, [] if team is None else [_Team(team, source, (), source)]
    config = load(path.parent if path.name == PROXY else path, env)
    grants, log = checked[0].source, config.server.log
    if config.single:
        return log, [_Team(team, grants, ("hatchet",), grants) for team in config.teams.values()]
    sources = {Path(each.source.file).stem: each.source for each in checked[1:]}
    return log, [
        _Team(team, grants, ("teams", name, "hatchet"), sources.get(name, grants))
        for name, team in config.teams.items()
    ]


async def _ask(team: _Team, env: Mapping[str, str]) -> list[Problem]:
    """What Hatchet says of one team."""
    client = HatchetClient(team.config.hatchet, env)
    try:
        async with asyncio.timeout(PATIENCE):
            refused = await _reached(team, client)
            if refused is not None:
                return [refused]
            return await _history_problems(team, client)
    except TimeoutError:
        message = f"Hatchet did not answer within {PATIENCE:g} s"
        return [_at_hatchet(team, ("unreachable", message, "try again"))]
    finally:
        await client.close()


async def _ask_log(address: LogAddress | None, source: Source) -> list[Problem]:
    """What the Redis of ``server.log`` says."""
    from proxy.log.base import LogAway, LogRefused  # noqa: PLC0415 - only where there is one
    from proxy.log.redis.discovery import Discovery  # noqa: PLC0415
    from proxy.log.redis.inspection import inspect  # noqa: PLC0415

    if address is None:
        return []
    found: list[tuple[Found, Severity]]
    try:
        warnings = await inspect(Discovery(address), mark=False)
        found = [(("shared-log", warning, SEE_LOG), WARNING) for warning in warnings]
    except LogAway as away:
        hint = "the proxy would start without it, and serve from memory until it answers"
        found = [(("unreachable", str(away), hint), ERROR)]
    except LogRefused as refused:
        found = [(("shared-log", str(refused), SEE_LOG), ERROR)]
    return [_problem(source, ("server", "log"), each, severity) for each, severity in found]


async def _reached(team: _Team, client: HatchetClient) -> Problem | None:
    """Why Hatchet cannot be used with the team's token; None where it can."""
    try:
        await client.core(NOBODY)
    except RunUnknown:
        return None
    except TokenRefused as error:
        hint = "create an API token in the Hatchet dashboard"
        return _at_hatchet(team, ("token-refused", f"Hatchet refuses the token: {error}", hint), "token")
    except HatchetError as error:
        hint = "look at hatchet.host_port and hatchet.tls, and whether Hatchet is up"
        return _at_hatchet(team, ("unreachable", str(error), hint), "host_port")
    return None


async def _history_problems(team: _Team, client: HatchetClient) -> list[Problem]:
    """What the history says: is it there, and do the workflows and steps exist."""
    if not client.has_history:
        message = "workflows and steps cannot be checked: the history is off"
        found = "no-history", message, "set hatchet.api to Hatchet's address"
        return [_at_hatchet(team, found, "api", WARNING)]
    try:
        await client.check_history()
        workflows = await _workflows(client)
    except HatchetError as error:
        hint = "check hatchet.api; or write `api: off` to do without the history"
        return [_at_hatchet(team, ("no-history", str(error), hint), "api")]
    return [
        problem
        for _, path, block in streams_of(team.streams)
        for problem in _of_stream(team.streams, path, block, workflows)
    ]


async def _workflows(client: HatchetClient) -> Workflows:
    ids = await client.workflows()
    places = asyncio.Semaphore(AT_ONCE)

    async def steps(workflow_id: str) -> tuple[str, ...]:
        async with places:
            return await client.steps_of(workflow_id)

    found = await asyncio.gather(*map(steps, ids.values()))
    return dict(zip(ids, found, strict=True))


def _of_stream(source: Source, path: Place, block: Mapping[str, Any], workflows: Workflows) -> list[Problem]:
    """Workflows and steps of one stream that do not exist."""
    problems, of_stream = _of_workflows(source, (*path, "workflow"), workflows)
    rules = block.get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        if not isinstance(rule, Mapping):
            continue
        here = (*path, "rules", number)
        # With `include` the runs' children are read too, which other workflows may have.
        reach = workflows if "include" in block or not of_stream else of_stream
        missing, of_rule = _of_workflows(source, (*here, "workflows"), workflows)
        problems += missing
        names = {step for steps in (of_rule or reach).values() for step in steps}
        for place, pattern in source.names((*here, "steps")):
            if not any(matches((pattern,), name) for name in names):
                hint = nearest(pattern, sorted(names)) or f"the steps are {_listed(names)}"
                found = "unknown-step", f"no workflow has a step `{pattern}`", hint
                problems.append(_problem(source, place, found))
    return problems


def _of_workflows(source: Source, path: Place, workflows: Workflows) -> tuple[list[Problem], Workflows]:
    """Names at `path` that no workflow has, and the workflows that the others have."""
    problems: list[Problem] = []
    names = source.names(path)
    for place, pattern in names:
        if not any(matches((pattern,), name) for name in workflows):
            hint = nearest(pattern, list(workflows)) or f"the workflows are {_listed(workflows)}"
            found = "unknown-workflow", f"there is no workflow `{pattern}`", hint
            problems.append(_problem(source, place, found))
    patterns = [pattern for _, pattern in names]
    return problems, {name: steps for name, steps in workflows.items() if matches(patterns, name)}


def _listed(names: Mapping[str, Any] | set[str]) -> str:
    shown = ", ".join(sorted(names)[:MOST_NAMES])
    more = " …" if len(names) > MOST_NAMES else ""
    return shown + more if names else "none: has a worker registered them?"


def _at_hatchet(team: _Team, found: Found, key: str = "", severity: Severity = ERROR) -> Problem:
    """A problem at a key of the team's `hatchet` block; where it is not written, at the block."""
    path = (*team.hatchet, key) if team.hatchet and key else team.hatchet
    place = path if team.grants.node(path) is not None else team.hatchet
    return _problem(team.grants, place, found, severity)


def _problem(source: Source, place: Place, found: Found, severity: Severity = ERROR) -> Problem:
    code, message, hint = found
    return Problem(source.file, *source.place(source.at(place)), severity, code, message, hint)
