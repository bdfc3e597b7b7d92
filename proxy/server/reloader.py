"""Loads the configuration, runs its tests, applies it, and does so again when the files change.

A version goes live team by team: it is parsed, checked, its tests run, then it is swapped in one step. A
mistake in a team's file keeps that team on its last good version and touches no other team. A mistake in the
platform's file keeps every team on its last good version. The event log, the probes and the metrics report
both, and the next good version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from config.load import load, survey
from config.model.files import Config, ServerConfig, TeamConfig
from config.model.resolve import shared
from config.problems import ERROR, ConfigError, Place, Problem
from config.render.report import masked_text
from proxy.core.tasks import start_in
from proxy.observability.event_log import EventLog
from proxy.rules.test_runner import failures
from proxy.teams.hub import ALL_TEAMS, Hub, Outcome, TeamResult
from proxy.teams.recordings import RecordingFiles

PATIENCE: Final = 60.0
"""Seconds for one load: a hundred large files take some, a network file system that hangs takes for ever."""


def tried(config: Config) -> Config:
    """`config` with its tests run: teams with a failing test are among the broken ones."""
    failing = {
        name: found
        for name, team in config.teams.items()
        if (found := _failures(team, config.tests_at.get(name, ())))
    }
    return replace(
        config,
        teams={name: team for name, team in config.teams.items() if name not in failing},
        broken={**config.broken, **failing},
        grants={**config.grants, **{name: config.teams[name] for name in failing}},
    )


def _failures(team: TeamConfig, places: tuple[Place, ...]) -> tuple[Problem, ...]:
    """The failing tests of one team; an exception that should not be possible fails that team alone."""
    try:
        folder = Path(places[0][0]).parent if places else Path()
        return failures(team, places, RecordingFiles(folder))
    except Exception as error:
        message = (
            f"the tests of team {team.name} could not be run ({type(error).__name__}): please report this"
        )
        return (Problem(team.name, 1, 1, ERROR, "internal", message),)


def teams_without_auth(config: Config) -> list[str]:
    """The teams without `auth:` in their YAML, which let everybody in: not allowed beyond loopback."""
    everyone = [*config.teams.values(), *config.grants.values()]
    return [team.name for team in everyone if team.auth is None and not team.auth_written]


LISTENING: Final = ("host", "port", "admin_port")
"""The settings of `server` that a reload cannot change: the sockets are open."""


class Reloader:
    """Keeps `hub` on the newest good version of the files at `path`."""

    def __init__(
        self,
        path: Path,
        env: Mapping[str, str],
        hub: Hub,
        event_log: EventLog,
        *,
        on_loopback: bool = True,
        patience: float = PATIENCE,
        workers: int = 1,
    ) -> None:
        """`env` is where the YAML's variables are looked up; `on_loopback`: where the proxy listens.

        `patience`: seconds that reading and checking the files may take. `workers`: so many processes serve
        the address, and each has its share of the teams' limits.
        """
        self.path = path
        self._env = env
        self._hub = hub
        self._event_log = event_log
        self._on_loopback = on_loopback
        self._patience = patience
        self._workers = workers
        self._newest: Config | tuple[Problem, ...] | None = None  # of the last load that came to an end
        self._began_with: ServerConfig | None = None
        self._lock = asyncio.Lock()
        self._loading: asyncio.Future[Config] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def newest(self, team: str) -> TeamConfig | tuple[Problem, ...] | None:
        """The result for a team when the files were last read: its configuration or its problems.

        None: they grant no such team.
        """
        if isinstance(self._newest, Config):
            return self._newest.teams.get(team) or self._newest.broken.get(team)
        return self._newest

    def text(self, team: str) -> str | None:
        """What a team's file holds now, secrets masked; None where it cannot be read. It may block."""
        try:
            files = survey(self.path, self._env)
        except ConfigError:
            return None
        of_team = [each for each in files if not self.path.is_dir() or Path(each.source.file).stem == team]
        return masked_text(of_team[0]) if of_team else None

    async def start(self, config: Config) -> None:
        """Serve `config`; log which teams cannot be served."""
        began = time.monotonic()
        self._newest = tried(config)
        self._began_with = config.server
        await self._apply(self._newest, began, first=True)

    async def reload(self) -> None:
        """Read the files again, in a thread, and serve what is good of them."""
        async with self._lock:
            began = time.monotonic()
            try:
                await self._reload(began)
            except Exception as error:  # else no file would be read again
                self._event_log.unforeseen(ALL_TEAMS, error)
                self._reject([f"the files could not be loaded ({type(error).__name__})"], began)

    async def _reload(self, began: float) -> None:
        try:
            config = await self._load()
        except ConfigError as error:
            self._newest = error.problems
            self._reject([str(problem) for problem in error.problems], began)
            return
        except TimeoutError:
            self._reject([f"reading and checking the files takes longer than {self._patience:g} s"], began)
            self._again_after(self._loading)
            return
        self._newest = config
        open_teams = teams_without_auth(config)
        if open_teams and not self._on_loopback:
            names = ", ".join(open_teams)
            self._reject([f"`auth` is missing for {names}, and the proxy listens beyond loopback"], began)
            return
        await self._apply(config, began, first=False)

    async def _load(self) -> Config:
        """The files, read, checked and tried in a thread. Raises ConfigError, and TimeoutError.

        A thread that hangs in a file system cannot be ended: no second one is begun before it has ended.
        """
        if self._loading is not None and not self._loading.done():
            async with asyncio.timeout(self._patience):
                await asyncio.wait([self._loading])
        loading = asyncio.ensure_future(asyncio.to_thread(lambda: tried(load(self.path, self._env))))
        loading.add_done_callback(_retrieve)
        self._loading = loading
        async with asyncio.timeout(self._patience):
            return await asyncio.shield(loading)

    def _again_after(self, loading: asyncio.Future[Config] | None) -> None:
        """Reload once more when a load that took too long is over: no change of a file may announce it."""
        if loading is not None:
            loading.add_done_callback(lambda _: start_in(self._tasks, self.reload()))

    async def _apply(self, config: Config, began: float, *, first: bool) -> None:
        remarks = [str(problem) for problem in (*config.ignored, *config.warnings)]
        self._event_log.remarks([*remarks, *self._only_at_the_start(config.server)])
        for result in await self._hub.apply(shared(config, self._workers), began=began):
            self._log(result, first=first)

    def _only_at_the_start(self, server: ServerConfig) -> list[str]:
        """What a reload does not change, where the files ask for it."""
        before = self._began_with or server
        changed = [name for name in LISTENING if getattr(server, name) != getattr(before, name)]
        return [f"`server.{name}` is only read at the start: restart the proxy to use it" for name in changed]

    def _log(self, result: TeamResult, *, first: bool) -> None:
        if result.outcome is Outcome.FAILED:
            self._event_log.reload_failed(result.team, result.problems)
        elif result.outcome is Outcome.LIVE and not first:
            self._event_log.reloaded(result.team, seconds=result.seconds)

    def _reject(self, problems: list[str], began: float) -> None:
        """Keep every team on its last good version."""
        self._hub.reject(problems, began=began)
        self._event_log.reload_failed(ALL_TEAMS, problems)


def _retrieve(loading: asyncio.Future[Config]) -> None:
    """Retrieve the outcome of a load that nobody awaits any more, so that asyncio logs no warning."""
    if not loading.cancelled():
        loading.exception()
