"""The hub: all teams of this process and all clients that are connected.

The hub applies configurations team by team, ends clients that take nothing any more, and sends every client
away when this replica stops. What a team owns is in ``team.py``; no run and no client belongs to two teams.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from config.model.files import Config, HatchetConfig, ServerConfig, TeamConfig
from proxy import __version__
from proxy.access.admission import max_connections, raise_file_limit
from proxy.access.errors import KeyProblem
from proxy.access.jwks import KeySets
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.health import Health, UpstreamHealth, UpstreamState
from proxy.observability.tracing import Tracer
from proxy.replicas.replication import Replication
from proxy.streams.session import Session, Sessions
from proxy.streams.subscriber import Ending
from proxy.teams.team import Team
from proxy.teams.team_state import TeamState
from proxy.teams.traced_upstream import TracedUpstream

SWEEP: Final = (
    0.5  # seconds between searches for stuck clients; also the period of the loop lag's measurement
)
SECRET_BYTES: Final = 32
DRAIN_PAUSE: Final = 0.5  # seconds before the first drained client reconnects: time for another replica

CLIENT_BYTES: Final = 7 * 1024  # memory of one client, see docs/performance.md
RUN_BYTES: Final = 32 * 1024  # memory of one run without its backlogs, see docs/performance.md

ALL_TEAMS: Final = "*"  # the team in a log line about the whole process
SINGLE: Final = "default"  # the team of the single-file form

Connect = Callable[[HatchetConfig], Upstream]
"""Makes a client for a team's Hatchet; it connects when it is first used."""


def _nothing() -> None:
    """Nobody listens."""


class Outcome(StrEnum):
    """What applying a configuration did to a team."""

    UNCHANGED = "unchanged"
    LIVE = "live"  # the new version is served
    FAILED = "failed"  # the new version is broken; the last good one is served, if there is one


class TeamResult(Struct, frozen=True):
    """The result of applying a configuration to one team."""

    team: str
    outcome: Outcome
    problems: tuple[str, ...] = ()
    seconds: float = 0.0  # since the loading of the configuration began


class Hub:
    """Everything that is served. `draining` turns true once and stays true."""

    def __init__(
        self, connect: Connect, counters: Counters, event_log: EventLog, *, tracer: Tracer | None = None
    ) -> None:
        """`tracer` makes spans of requests and of calls to Hatchet; None: none are made."""
        self.counters = counters
        self.tracer: Final = tracer
        self.event_log = event_log
        self.server = ServerConfig()
        self.single = True  # the single-file form: paths have no team in front
        self.draining = False
        self.sessions = Sessions()
        self.waiting: set[asyncio.Task[Any]] = set()  # requests that are not answered yet
        self.max_connections: Final = max_connections(raise_file_limit())  # more are closed at once
        # Clients of all teams. The remaining connections are for `stream.wait` answers.
        self.max_clients: Final = self.max_connections - self.max_connections // 16
        self.started: Final = time.time()
        self.replication: Replication | None = None
        self._connect = connect
        self.rights_changed: Callable[[], None] = _nothing
        """Called after a reload, and when an issuer publishes other keys."""
        self._key_sets = KeySets(changed=self._keys_changed)
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._states: dict[str, TeamState] = {}
        self._teams: dict[str, Team] = {}  # an index of `_states`: looked up for every request
        self.teams: Final[Mapping[str, Team]] = MappingProxyType(self._teams)
        """The teams that are served, by name."""
        self._sweeper: asyncio.Task[None] | None = None

    # -- the log that replicas share --

    async def share(self, server: ServerConfig) -> None:
        """Open the log that `server` names, if it names one. Raises LogRefused where it cannot be used."""
        if server.log is None:
            return
        self.replication = Replication(server, self._open_run, self.counters.log, self.event_log)
        await self.replication.start()

    async def _open_run(self, team_name: str, run_id: str, seconds: float) -> None:
        """Have a run that no client of this replica reads; it stays at least for `seconds`."""
        team = self._teams.get(team_name)
        if team is None:
            return
        session = await team.runs.lease(run_id, resumes=True)
        try:
            await session.first_state(0)
        except HatchetError:
            team.runs.release(session)
            return
        asyncio.get_running_loop().call_later(seconds, team.runs.release, session)

    # -- teams --

    def is_broken(self, name: str) -> bool:
        """Whether `name` is a granted team that never had a valid file."""
        return name in self._states and name not in self._teams

    async def apply(self, config: Config, *, began: float) -> list[TeamResult]:
        """Serve `config`: new teams start, changed ones change, teams that are gone are closed.

        A team whose file is broken, or whose keys cannot work, stays on its last good version. `began` is
        the time (`time.monotonic`) at which loading `config` began. Returns a result for each granted team.
        """
        self.server = config.server
        self.single = config.single
        results = [
            self._failed(name, [str(problem) for problem in problems], began)
            for name, problems in config.broken.items()
        ]
        for name, team_config in config.teams.items():
            try:
                results.append(await self._apply_team(name, team_config, began))
            except Exception as error:  # one team's trouble must not keep the others on old versions
                self.event_log.unforeseen(name, error)
                results.append(self._failed(name, [f"could not be applied ({type(error).__name__})"], began))
        for name in self._states.keys() - config.teams.keys() - config.broken.keys():
            await self._remove(name)
        self.rights_changed()
        return results

    def _keys_changed(self) -> None:
        self.rights_changed()

    def reject(self, problems: Sequence[str], *, began: float) -> None:
        """Every team stays on its last good version: a file that concerns all of them is broken."""
        for name in tuple(self._states):
            self._failed(name, problems, began)

    async def _apply_team(self, name: str, config: TeamConfig, began: float) -> TeamResult:
        state = self._state(name)
        unchanged = state.is_current(config)
        try:
            if state.team is None:
                state.team = self._teams[name] = await self._new_team(name, config)
                state.team.start()
            elif not unchanged or state.team.server != self.server:
                await self._change(state.team, config)
        except KeyProblem as problem:
            return self._failed(name, [str(problem)], began)
        if unchanged:
            return TeamResult(name, Outcome.UNCHANGED)
        seconds = time.monotonic() - began
        state.went_live(seconds)
        return TeamResult(name, Outcome.LIVE, seconds=seconds)

    async def _new_team(self, name: str, config: TeamConfig) -> Team:
        upstream = self._upstream(name, config.hatchet)
        try:
            return Team(
                config,
                self.server,
                upstream,
                secret=self._secret,
                counters=self.counters.team(name),
                event_log=self.event_log,
                key_sets=self._key_sets,
                replication=self.replication,
            )
        except KeyProblem:
            await upstream.close()
            raise

    async def _change(self, team: Team, config: TeamConfig) -> None:
        hatchet = team.config.hatchet
        team.configure(config, self.server)
        if hatchet != config.hatchet:
            await team.upstream.replace(self._upstream(team.name, config.hatchet))

    def _upstream(self, team: str, config: HatchetConfig) -> Upstream:
        client = self._connect(config)
        return client if self.tracer is None else TracedUpstream(client, self.tracer, team)

    async def _remove(self, name: str) -> None:
        state = self._states.pop(name)
        self._teams.pop(name, None)
        if state.team is not None:
            await state.team.close()

    def _failed(self, name: str, problems: Sequence[str], began: float) -> TeamResult:
        seconds = time.monotonic() - began
        self._state(name).failed(problems, seconds)
        return TeamResult(name, Outcome.FAILED, tuple(problems), seconds)

    def _state(self, name: str) -> TeamState:
        return self._states.setdefault(name, TeamState(name))

    # -- clients --

    def wait_for(self, task: asyncio.Task[Any]) -> None:
        """Count the client whose request `task` answers; a drain cancels it."""
        self.waiting.add(task)
        task.add_done_callback(self.waiting.discard)

    def is_full(self, *, waits: bool) -> bool:
        """Whether there is no room for another client; `waits`: the caller is in `waiting` itself."""
        return len(self.sessions) + len(self.waiting) - waits >= self.max_clients

    def start(self) -> None:
        """Begin to look for stuck clients."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(SWEEP)
            now = loop.time()
            self.counters.loop_lag.observe(max(0.0, now - asked - SWEEP))
            try:
                self._look_around(now)
            except Exception as error:  # one that stops would leave every stuck client connected
                self.event_log.unforeseen(ALL_TEAMS, error)

    def _look_around(self, now: float) -> None:
        self.event_log.tick()
        self.counters.log_lines_dropped = self.event_log.dropped
        oldest = now - self.server.write_timeout
        for session in self.sessions.stuck(oldest):
            session.end(Ending.STUCK)

    def held(self) -> int:
        """About how many bytes are held for clients and runs, backlogs included."""
        teams = self.counters.teams.values()
        kept = sum(team.backlog_bytes + team.runs * RUN_BYTES for team in teams)
        return kept + len(self.sessions) * CLIENT_BYTES

    # -- health --

    def health(self) -> Health:
        """The process at this moment, for probes and metrics."""
        return Health(
            started=self.started,
            version=__version__,
            draining=self.draining,
            teams=tuple(self._states[name].health() for name in sorted(self._states)),
            log=UpstreamHealth(UpstreamState.OFF) if self.replication is None else self.replication.health,
        )

    # -- the end --

    def drain(self) -> None:
        """Tell every client that this replica stops, each with its own time to reconnect."""
        self.draining = True
        for task in tuple(self.waiting):
            task.cancel()
        for session in self.sessions:
            self.farewell(session)

    def farewell(self, session: Session) -> None:
        """Send one client away."""
        pause = DRAIN_PAUSE + random.uniform(0.0, self.server.drain.spread)
        session.end(Ending.DRAIN, session.wire.notice("drain", {}, retry_in=pause))

    async def close(self) -> None:
        """Close all teams."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for name in tuple(self._states):
            await self._remove(name)
        if self.replication is not None:
            await self.replication.close()
        await self._key_sets.close()
