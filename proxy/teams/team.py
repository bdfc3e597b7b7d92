"""Team: what one team owns in this process: its streams, its door to Hatchet, its runs, its share of memory.

Nothing here is shared between teams but the loop. A reload replaces streams and credentials at once; runs
that are followed go on, through the new door where that changed (`MonitoredUpstream`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, Final

from config.expressions.api import compile_allow
from config.model.files import ServerConfig, StreamConfig, TeamConfig
from proxy.access.admission import TeamLimits
from proxy.access.authenticator import Authenticator
from proxy.access.jwks import KeySets
from proxy.access.origins import Origins, every_cors
from proxy.core.clock import LoopClock
from proxy.hatchet.upstream import Upstream
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.rules.ruleset import Rules
from proxy.runs.bridge_quota import Bridges
from proxy.runs.follower import Run, RunSettings
from proxy.runs.lookup import Finder, Found
from proxy.runs.tap import Tap
from proxy.streams.backlog import Backlog
from proxy.streams.retained import Kept
from proxy.streams.run_session import Life
from proxy.streams.stream import LiveStream
from proxy.teams.monitored_upstream import MonitoredUpstream
from proxy.teams.router import Router
from proxy.teams.run_counters import RunCounters

KEEP_EVENTS: Final = 1000  # events a life keeps where no stream says more
KEEP_BYTES: Final = 1 << 20
SHRINK_TO: Final = 0.9  # of the team's bytes, once they are used up: evicting one by one would never end


class Team:
    """A team that is served."""

    def __init__(
        self,
        config: TeamConfig,
        server: ServerConfig,
        door: Upstream,
        *,
        secret: bytes,
        counts: TeamCounters,
        event_log: EventLog,
        key_sets: KeySets,
    ) -> None:
        self.name = config.name
        self.upstream = MonitoredUpstream(door, event_log, config.name, counts)
        self.counts = counts
        self.lives: dict[str, Life] = {}
        self.closing: set[asyncio.Task[None]] = set()
        self._secret = secret
        self._event_log = event_log
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._clock = LoopClock()
        self._bridges = Bridges()
        self._watch = RunCounters(counts)
        self._crowded = False
        self._key_sets = key_sets
        self._finder = Finder(self.upstream, watch=self._watch)
        self._tap: Tap | None = None
        self.limits = TeamLimits(config.limits)
        self.configure(config, server)

    def configure(self, config: TeamConfig, server: ServerConfig) -> None:
        """Serve `config` from now on; streams that are open keep their rules until they end.

        Raises KeyProblem, and then nothing has changed.
        """
        allows = {name: stream.allow for name, stream in config.streams.items()}
        authenticator = Authenticator(config.auth, team=config.name, key_sets=self._key_sets, allows=allows)
        streams = {name: self._live(stream, authenticator) for name, stream in config.streams.items()}
        self.config = config
        self.server = server
        self.authenticator = authenticator
        self.streams = streams
        self.routes = Router({stream.config.path: stream for stream in streams.values()})
        self.origins = Origins(every_cors(config), cookies_count=authenticator.cookies_count)
        self.limits.configure(config.limits)
        self._tap_into(config)
        backlogs = [stream.backlog for stream in config.streams.values()]
        self._keep_events = max([KEEP_EVENTS, *(backlog.events for backlog in backlogs)])
        self._keep_bytes = max([KEEP_BYTES, *(backlog.bytes for backlog in backlogs)])
        self._keep_after_end = max([0.0, *(backlog.keep_after_end for backlog in backlogs)])

    def _live(self, stream: StreamConfig, authenticator: Authenticator) -> LiveStream:
        counts = self.counts.stream(stream.name)

        def failed(rule: str, event_type: str, reason: str) -> None:
            counts.rule_errors[rule] += 1
            self._event_log.rule_failed(self.name, stream.name, rule, event_type, reason)

        return LiveStream(
            stream,
            Rules(stream, failed),
            None if stream.allow is None else compile_allow(stream.allow),
            Origins(stream.cors, cookies_count=authenticator.cookies_count),
            stream.metadata_key,
        )

    def _tap_into(self, config: TeamConfig) -> None:
        """Open the team's tap, or another one; runs that are followed keep what they have."""
        wanted = config.hatchet.tap
        pair = None if wanted is None else (wanted.key, wanted.value)
        if self._tap is not None and self._tap.pair != pair:
            self._later(self._tap.close())
            self._tap = None
        if pair is not None and self._tap is None:
            budget = config.limits.backlog_bytes
            self._tap = Tap(*pair, self.upstream, budget=budget, grew=self._grew, watch=self._watch)
            self._tap.start()

    def _later(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self.closing.add(task)
        task.add_done_callback(self.closing.discard)

    # -- runs --

    async def find(self, key: str, value: str, patience: float) -> Found:
        """The newest run without a parent that carries the pair. Raises RunUnknown, HistoryAway."""
        return await self._finder.find(key, value, patience)

    async def lease(self, run_id: str, *, resumes: bool) -> Life:
        """The life of a run, begun where there is none; `release` it. `resumes`: the client knows it."""
        life = self.lives.get(run_id)
        if life is not None and life.over and not resumes:
            life.leases += 1
            try:
                if await life.replayed() and self.lives.get(run_id) is life:
                    self._drop(life)
            finally:  # whoever leaves meanwhile does not keep it
                self.release(life)
        return self._lease(run_id)

    def lease_at_once(self, run_id: str, *, resumes: bool) -> Life | None:
        """`lease` where nothing has to be asked for it; else None."""
        life = self.lives.get(run_id)
        if life is not None and life.over and not resumes and life.may_be_replayed:
            return None
        return self._lease(run_id)

    def _lease(self, run_id: str) -> Life:
        life = self.lives.get(run_id)
        if life is None:
            life = self._begin(run_id)
        life.leases += 1
        if life.farewell is not None:
            life.farewell.cancel()
            life.farewell = None
        self.lives[run_id] = self.lives.pop(run_id)  # the most recently used is last
        return life

    def release(self, life: Life) -> None:
        """A client is done with it."""
        life.leases -= 1
        if life.leases == 0 and not life.closed:
            self._say_farewell(life)

    def _begin(self, run_id: str) -> Life:
        self._make_place()
        life = Life(
            run_id,
            team=self.name,
            number=next(self._numbers),
            secret=self._secret,
            upstream=self.upstream,
            counts=self.counts,
            kept=Backlog[Kept](self._keep_events, self._keep_bytes, self._grew),
            grew=self._grew,
            ended=self._ended,
        )
        self.lives[run_id] = life
        self.counts.runs = len(self.lives)
        life.begin(self._follow(life))
        if self._tap is not None:
            self._tap.attach(life.run)
        return life

    def _make_place(self) -> None:
        """Within ``limits.runs`` runs without a reader give way, the least recently used first."""
        most = self.config.limits.runs
        if most is None or len(self.lives) < most:
            return
        followed = [life for life in self.lives.values() if not life.over]
        lingering = [life for life in followed if life.leases == 0]
        for life in lingering[: max(0, len(followed) - most + 1)]:
            self._drop(life)

    def _follow(self, life: Life) -> Run:
        return Run(
            life.run_id,
            self.upstream,
            publish=life.publish,
            settings=RunSettings(check_after=self.server.check_after),
            clock=self._clock,
            bridges=self._bridges,
            watch=self._watch,
            pair=None if self._tap is None else self._tap.pair,
        )

    def _ended(self, life: Life) -> None:
        if life.leases == 0:
            self._say_farewell(life)

    def _say_farewell(self, life: Life) -> None:
        if life.farewell is not None:
            life.farewell.cancel()
        unknown = life.run.state is None
        stay = 0.0 if unknown else self._keep_after_end if life.over else self.server.linger
        life.farewell = self._loop.call_later(stay, self._drop, life)

    def _drop(self, life: Life) -> None:
        if self.lives.get(life.run_id) is life:
            del self.lives[life.run_id]
            self.counts.runs = len(self.lives)
        if not life.closed:
            life.let_go()
            if self._tap is not None:
                self._tap.detach(life.run)
            self._later(life.run.close())

    # -- memory --

    def _grew(self, delta: int) -> None:
        self.counts.backlog_bytes += delta
        limit = self.config.limits.backlog_bytes
        if limit is not None and self.counts.backlog_bytes > limit and not self._crowded:
            self._crowded = True
            asyncio.get_running_loop().call_soon(self._make_room, limit)

    def _make_room(self, limit: int) -> None:
        """Runs that nobody reads go first, the least recently used before others; then all give a part."""
        self._crowded = False
        target = int(limit * SHRINK_TO)
        if self._tap is not None:
            self._tap.shrink(max(0, self._tap.bytes - (self.counts.backlog_bytes - target)))
        for life in [life for life in self.lives.values() if life.leases == 0]:
            if self.counts.backlog_bytes <= target:
                return
            self._drop(life)
        excess = self.counts.backlog_bytes - target
        for life in sorted(self.lives.values(), key=_bytes, reverse=True):
            if excess <= 0:
                return
            before = life.bytes
            life.shrink(max(0, before - excess))
            excess -= before - life.bytes

    async def close(self) -> None:
        """Let go of every run, then of Hatchet."""
        await self._finder.close()
        if self._tap is not None:
            await self._tap.close()
        for life in list(self.lives.values()):
            self._drop(life)
        if self.closing:
            await asyncio.gather(*self.closing, return_exceptions=True)
        await self.upstream.close()


def _bytes(life: Life) -> int:
    return life.bytes
