"""Reloader: a configuration that is served: loaded, tried, applied, and applied again when it changes.

A version goes live team by team: parsed, checked, its tests run, then swapped in one step. What is wrong with
a team's file keeps that team on its last good version and touches nobody else; what is wrong with the
platform's file keeps everybody where they are. Both are said in the log and in the probes, and so is the
mending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from config.load import load
from config.model.files import Config, TeamConfig
from config.problems import ConfigError
from proxy.access.errors import KeyProblem
from proxy.hatchet.errors import HatchetError
from proxy.observability.event_log import EventLog
from proxy.observability.health import ConfigState
from proxy.rules.test_runner import failures
from proxy.teams.hub import Hub

Load = Callable[[Path, Mapping[str, str]], Config]


def tried(config: Config) -> Config:
    """`config`, with the teams whose own tests fail among the broken ones."""
    failing = {
        name: found
        for name, team in config.teams.items()
        if (found := failures(team, config.tests_at.get(name, ())))
    }
    return replace(
        config,
        teams={name: team for name, team in config.teams.items() if name not in failing},
        broken={**config.broken, **failing},
        grants={**config.grants, **{name: config.teams[name] for name in failing}},
    )


def silent_teams(config: Config) -> list[str]:
    """Teams that let everybody in without its being written: nothing for listening beyond loopback."""
    everyone = [*config.teams.values(), *config.grants.values()]
    return [team.name for team in everyone if team.auth is None and not team.auth_written]


class Reloader:
    """What ``serve`` runs, apart from the listener."""

    def __init__(
        self,
        path: Path,
        env: Mapping[str, str],
        hub: Hub,
        event_log: EventLog,
        *,
        on_loopback: bool = True,
    ) -> None:
        self.path = path
        self.hub = hub
        self._env = env
        self._event_log = event_log
        self._on_loopback = on_loopback
        self._lock = asyncio.Lock()
        self._began = 0.0  # when the load that is under way began: reading, checking and tests count
        self._served: dict[str, TeamConfig] = {}
        self._asks: set[asyncio.Task[None]] = set()

    async def start(self, config: Config) -> None:
        """Serve what was loaded; says which teams cannot be served yet, and who does not answer."""
        self._began = time.monotonic()
        await self._apply(tried(config), first=True)
        for team in self.hub.teams.values():
            task = asyncio.get_running_loop().create_task(self._ask(team.upstream.check()))
            self._asks.add(task)
            task.add_done_callback(self._asks.discard)

    async def _ask(self, check: object) -> None:
        try:
            await check  # type: ignore[misc]
        except HatchetError:
            return  # the team's switch has logged it

    async def reload(self) -> None:
        """Read the files again, off the loop, and serve what is good of them."""
        async with self._lock:
            self._began = time.monotonic()
            try:
                config = await asyncio.to_thread(lambda: tried(load(self.path, self._env)))
            except ConfigError as error:
                self._nobody_changes([str(problem) for problem in error.problems])
                return
            silent = silent_teams(config)
            if silent and not self._on_loopback:
                self._nobody_changes([f"no `auth` is written for {', '.join(silent)}, beyond loopback"])
                return
            await self._apply(config, first=False)

    async def _apply(self, config: Config, *, first: bool) -> None:
        self._event_log.remarks([str(problem) for problem in (*config.ignored, *config.warnings)])
        for name, problems in config.broken.items():
            self._broken(name, [str(problem) for problem in problems])
        changed = [name for name, team in config.teams.items() if self._served.get(name) != team]
        await self.hub.apply(config, self._unusable)
        for name in changed:
            if name in self.hub.teams and self.hub.teams[name].config == config.teams[name]:
                self._good(name, config.teams[name], first)
        for name in config.teams:
            if name in self.hub.teams and self.hub.teams[name].config == config.teams[name]:
                self.hub.stands(name, ConfigState.CURRENT)

    def _unusable(self, team: str, error: KeyProblem) -> None:
        """A key or an algorithm of the team's cannot work, whatever the file looks like."""
        self._broken(team, [str(error)])

    def _good(self, name: str, team: TeamConfig, first: bool) -> None:
        self._served[name] = team
        self._count(name, "ok")
        counts = self.hub.counts.team(name)
        counts.reloaded_at = time.time()
        if not first:
            self._event_log.reloaded(name, seconds=counts.reload_took)

    def _count(self, name: str, result: str) -> None:
        counts = self.hub.counts.team(name)
        counts.reloads[result] += 1
        counts.reload_took = time.monotonic() - self._began

    def _broken(self, name: str, problems: Sequence[str]) -> None:
        self._count(name, "failed")
        self._event_log.reload_failed(name, problems)
        kept = name in self.hub.teams
        self.hub.stands(
            name, ConfigState.LAST_GOOD if kept else ConfigState.BROKEN, problems[0] if problems else None
        )
        self._served.pop(name, None)

    def _nobody_changes(self, problems: Sequence[str]) -> None:
        for name in (*self.hub.teams, *self.hub.broken):
            self._count(name, "failed")
            standing = ConfigState.LAST_GOOD if name in self.hub.teams else ConfigState.BROKEN
            self.hub.stands(name, standing, problems[0] if problems else None)
        self._event_log.reload_failed("*", problems)
        self._served.clear()
