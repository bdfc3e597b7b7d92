"""Replication: the log that this process shares with other replicas, and the runs in it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from config.model.access import ServerConfig
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.log.base import LogAway
from proxy.log.cipher import Cipher
from proxy.observability.counters import LogCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamHealth, UpstreamState
from proxy.replicas.context import Environment
from proxy.replicas.keeper import Keeper
from proxy.replicas.roll_call import MOST_LED, Report, Roll, RollCall
from proxy.replicas.shared_run import SharedRun
from proxy.runs.followed_run import FollowedRun
from proxy.streams.run_session import RunSession

LOG: Final = ":log:"
ALL_TEAMS: Final = "*"  # the team in a log line about the whole process

OpenRun = Callable[[str, str, float], Awaitable[None]]
"""Opens a team's run that no client reads; it stays at least for so many seconds."""


def log_of(name: str) -> tuple[str, str] | None:
    """The team and the run of a log's name; None where it is none."""
    team, found, run_id = name.partition(LOG)
    return (team, run_id) if found else None


class Replication:
    """The shared log of one process."""

    def __init__(
        self, server: ServerConfig, open_run: OpenRun, counters: LogCounters, event_log: EventLog
    ) -> None:
        from proxy.log.redis.store import RedisLog  # noqa: PLC0415 - only where the log is on Redis

        assert server.log is not None
        self.replica: Final = secrets.token_hex(4)
        self._server = server
        self._open_run = open_run
        self.health = UpstreamHealth(UpstreamState.AWAY, time.time(), "not connected yet")
        """Whether the log can be reached, since when, and why not."""
        self._started = time.time()
        counters.used = 1
        self._counters = counters
        self._was_up = False
        self._closed = False
        self._event_log = event_log
        encrypt = server.log_encrypt
        self._log = RedisLog(
            server.log,
            self.replica,
            counts=counters,
            cipher=None if encrypt is None else Cipher(encrypt.get_secret_value()),
            changed=self._changed,
            unforeseen=self._unforeseen,
        )
        self._keeper = Keeper(self._log, self, counters, self._unforeseen, standby=server.standby)
        self._roll_call = RollCall(self._log, self._report)
        self._log.announcements = self

    async def start(self) -> None:
        """Connect, or go on without where that is not possible. Raises LogRefused."""
        try:
            for warning in await self._log.inspect():
                self._event_log.log_warning(warning)
        except LogAway as error:
            self.health = UpstreamHealth(UpstreamState.AWAY, time.time(), str(error))
            self._event_log.log_away(str(error))
        await self._log.start()
        self._keeper.start()

    async def leave(self, seconds: float) -> None:
        """Give the runs that this replica leads to others, within `seconds`."""
        await self._keeper.leave(seconds)

    async def close(self) -> None:
        """Disconnect."""
        self._closed = True
        await self._keeper.close()
        await self._log.close()

    # -- runs --

    def share(
        self, session: RunSession, upstream: Upstream, team: str, environment: Environment
    ) -> SharedRun:
        """The run of `session`, whose log is shared."""
        run = SharedRun(
            session,
            upstream,
            self._log,
            f"{team}{LOG}{session.run_id}",
            environment,
            log_keep=self._server.log_keep,
            counters=self._counters,
        )
        self._keeper.add(run)
        return run

    def forget(self, run: FollowedRun) -> None:
        """A run is closed."""
        if isinstance(run, SharedRun):
            self._keeper.remove(run)

    async def open(self, name: str, seconds: float) -> SharedRun | None:
        """See `proxy.replicas.keeper.Opener`."""
        named = log_of(name)
        if named is None:
            return None
        team, run_id = named
        try:
            await self._open_run(team, run_id, seconds)
        except HatchetError:
            return None
        return self._keeper.get(name)

    # -- announcements --

    def announced(self, replica: str, words: Sequence[str]) -> None:
        """Another replica announced `words`."""
        if not self._roll_call.announced(replica, words):
            self._keeper.announced(replica, words)

    async def roll(self) -> Roll:
        """The reports of all replicas that share the log."""
        return await self._roll_call.ask()

    def _report(self) -> Report:
        counters, keeper = self._counters, self._keeper
        led = keeper.led()
        return Report(
            replica=self.replica,
            host=socket.gethostname(),
            started=self._started,
            leading=len(led),
            following=len(keeper.followed()),
            local=keeper.local(),
            leads=tuple(run.name for run in led[:MOST_LED]),
            take_overs=counters.take_overs,
            last_take_over=keeper.last_take_over,
            stored_within=counters.latency.quantile(0.99),
            behind=counters.lag.quantile(0.99),
        )

    # -- trouble --

    def _changed(self) -> None:
        if self._closed:
            return  # this replica ends
        trouble, before = self._log.trouble, self.health
        state = UpstreamState.REACHABLE if trouble is None else UpstreamState.AWAY
        self.health = before.became(state, trouble, time.time())
        if trouble is not None:
            self._event_log.log_away(trouble)
        elif self._was_up and not before.is_fine and before.since is not None:
            self._event_log.log_recovered(seconds=time.time() - before.since)
        self._was_up = self._was_up or trouble is None

    def _unforeseen(self, error: Exception) -> None:
        self._event_log.unforeseen(ALL_TEAMS, error)
