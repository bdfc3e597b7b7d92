"""Hub: all teams of this process, and every reader that is connected.

The hub applies configurations (team by team), looks for stuck readers, and says farewell to all of them when
this replica goes away. What a team owns is in ``team.py``; no run and no reader is known to two teams.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from config.model.files import Config, HatchetConfig, ServerConfig, TeamConfig
from proxy import __version__
from proxy.access.admission import ceiling, raise_file_limit
from proxy.access.errors import KeyProblem
from proxy.access.jwks import KeySets
from proxy.formats import sse
from proxy.hatchet.upstream import Upstream
from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.health import ConfigState, Health, TeamHealth
from proxy.streams.session import Stay
from proxy.streams.subscriber import Ending
from proxy.teams.team import Team

SWEEP: Final = 0.5  # seconds between looks for stuck readers and the measuring of the loop's lag
SECRET_BYTES: Final = 32
DRAIN_PAUSE: Final = 0.5  # seconds before the first client comes back: another replica is there, or soon

CLIENT_BYTES: Final = 7 * 1024  # docs/performance.md
RUN_BYTES: Final = 32 * 1024  # without what is kept of it

SINGLE: Final = "default"  # the team of the single-file form

OpenDoor = Callable[[HatchetConfig], Upstream]


class Hub:
    """Everything that is served. `draining` turns true once, for good."""

    def __init__(self, open_door: OpenDoor, counts: Counters, event_log: EventLog) -> None:
        self.teams: dict[str, Team] = {}
        self.broken: set[str] = set()  # granted teams whose file never was good
        self.counts = counts
        self.draining = False
        self.stays: set[Stay] = set()  # clients that read
        self.paused: set[Stay] = set()  # those among them that do not keep up
        self.waiting: set[asyncio.Task[object]] = set()  # clients whose headers are held back
        self.most = ceiling(raise_file_limit())  # connections; more are closed at once
        self.ceiling = self.most - self.most // 16  # clients of all teams: room to tell the rest to wait
        self._open_door = open_door
        self.event_log = event_log
        self.single = True
        self.key_sets = KeySets()
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._standings: dict[str, TeamHealth] = {}
        self.started = time.time()
        self._sweeper: asyncio.Task[None] | None = None
        self.server = ServerConfig()

    # -- configuration --

    async def apply(self, config: Config, unusable: Callable[[str, KeyProblem], None]) -> None:
        """Serve `config`: new teams begin, changed ones change, those that are gone are closed.

        `unusable` hears of teams whose keys cannot work; they stay as they were.
        """
        self.server = config.server
        self.single = config.single
        for name, team_config in config.teams.items():
            try:
                await self._apply_team(name, team_config)
            except KeyProblem as problem:
                unusable(name, problem)
        granted = {*config.teams, *config.broken}
        for name in set(self.teams) - granted:
            await self.teams.pop(name).close()
        self.broken = granted - set(self.teams)

    async def _apply_team(self, name: str, config: TeamConfig) -> None:
        team = self.teams.get(name)
        if team is None:
            self.teams[name] = Team(
                config,
                self.server,
                self._open_door(config.hatchet),
                secret=self._secret,
                counters=self.counts.team(name),
                event_log=self.event_log,
                key_sets=self.key_sets,
            )
            return
        hatchet = team.config.hatchet
        team.configure(config, self.server)
        if hatchet != config.hatchet:
            await team.upstream.replace(self._open_door(config.hatchet))

    # -- readers --

    def is_full(self, *, waits: bool) -> bool:
        """Whether there is room for no client more; `waits`: whoever asks is among those who wait."""
        return len(self.stays) + len(self.waiting) - waits >= self.ceiling

    def start(self) -> None:
        """Begin to look for stuck readers."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(SWEEP)
            now = loop.time()
            self.event_log.tick()
            self.counts.loop_lag.observe(max(0.0, now - asked - SWEEP))
            oldest = now - self.server.write_timeout
            for stay in tuple(self.paused):
                since = stay.reader.paused_since
                if since is not None and since <= oldest:
                    stay.abort()

    def held(self) -> int:
        """About how many bytes are held for clients and runs, backlogs included."""
        teams = self.counts.teams.values()
        kept = sum(team.backlog_bytes + team.runs * RUN_BYTES for team in teams)
        return kept + len(self.stays) * CLIENT_BYTES

    # -- health --

    def stands(self, team: str, standing: ConfigState, problem: str | None = None) -> None:
        """Which version of a team's file is served, from now on."""
        old = self._standings.get(team)
        if old is None or (old.standing, old.problem) != (standing, problem):
            self._standings[team] = TeamHealth(
                team, standing=standing, standing_since=time.time(), problem=problem
            )

    def health(self) -> Health:
        """The process at this moment, for the probes."""
        names = sorted({*self.teams, *self.broken})
        return Health(
            started=self.started,
            version=__version__,
            draining=self.draining,
            teams=tuple(self._team_health(name) for name in names),
        )

    def _team_health(self, name: str) -> TeamHealth:
        told = self._standings.get(name, TeamHealth(name))
        team = self.teams.get(name)
        if team is None:
            return replace(told, standing=ConfigState.BROKEN)
        up = team.upstream
        return replace(told, reach=up.reach, reach_since=up.since, trouble=up.trouble)

    # -- farewell --

    def drain(self) -> None:
        """Tell every reader that this replica goes away, each with a hint of its own when to come back."""
        self.draining = True
        for task in tuple(self.waiting):
            task.cancel()
        for stay in tuple(self.stays):
            self.farewell(stay)

    def farewell(self, stay: Stay) -> None:
        """Send one client away."""
        pause = DRAIN_PAUSE + random.uniform(0.0, self.server.drain.spread)
        stay.say_last(sse.control("drain", {}, retry_in=pause), Ending.DRAIN)

    async def close(self) -> None:
        """Let go of all teams."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for team in self.teams.values():
            await team.close()
        self.teams.clear()
        await self.key_sets.close()
