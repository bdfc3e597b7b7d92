"""Starts and stops following runs, with what the runs of a team share: the tap, the quota, the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol

from config.model.files import ServerConfig, TeamConfig
from proxy.core.clock import LoopClock
from proxy.core.events import Item
from proxy.core.tasks import start_in
from proxy.hatchet.upstream import Upstream
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.replicas.replication import Replication
from proxy.rules.rule import milliseconds_of
from proxy.runs.feeds import SHARED
from proxy.runs.follower import RunFollower, RunSettings
from proxy.runs.lag import LagMeter
from proxy.runs.lookup import Finder
from proxy.runs.quota import SubscriptionQuota
from proxy.runs.reconcile.states import HistoryLag
from proxy.runs.tap.tap import Tap
from proxy.streams.backlog import Backlog
from proxy.streams.retained import RetainedItem
from proxy.streams.run_session import RunSession
from proxy.teams.merged.newcomers import Newcomers
from proxy.teams.run_counters import RunCounters

KEEP_EVENTS: Final = 1000  # events that a run session keeps where no stream's backlog is larger
KEEP_BYTES: Final = 1 << 20  # and bytes of them
SHARED_BUDGET: Final = (
    8 << 20
)  # bytes that a subscription for several runs buffers of runs without a follower


class Sessions(Protocol):
    """The run sessions of the team."""

    def leases(self, run_id: str) -> int:
        """How many clients use the session of a run."""

    def discard(self, session: RunSession) -> None:
        """A session cannot go on: its clients reconnect, and the run gets a new one."""

    def set_apart(self, session: RunSession) -> None:
        """A session goes on apart from the shared log, for clients with its cursors."""


class RunLauncher:
    """Creates, starts and stops the run sessions of one team; owns the team's tap."""

    def __init__(
        self,
        config: TeamConfig,
        server: ServerConfig,
        upstream: Upstream,
        *,
        secret: bytes,
        counters: TeamCounters,
        event_log: EventLog,
        grew: Callable[[int], None],
        replication: Replication | None = None,
    ) -> None:
        """`secret` signs cursors; `grew` is called with each change of the bytes that are held.

        `replication`: the log that replicas share; None: each replica follows its runs for itself.
        """
        self.sessions: Sessions | None = None
        self._replication = replication
        self.tap: Tap | None = None
        self._config = config
        self._merge_times = _merge_times(config)
        self._server = server
        self._upstream = upstream
        self._secret = secret
        self._counters = counters
        self._grew = grew
        self._clock = LoopClock()
        self._rng = Random()  # one for all runs: its state takes 3 KB
        self.quota = SubscriptionQuota(config.hatchet.subscriptions)
        self._lag = LagMeter()
        self._history_lag = HistoryLag()
        self._observer = RunCounters(counters, event_log, config.name, self.quota)
        self.lookup = Finder(upstream, observer=self._observer)
        self.newcomers = Newcomers(upstream)
        self._closing: set[asyncio.Task[None]] = set()  # taps that were replaced

    def configure(self, config: TeamConfig, server: ServerConfig) -> None:
        """Open, replace or close the tap; runs that are followed keep what they have."""
        self._config = config
        self._server = server
        self._merge_times = _merge_times(config)
        self.quota.most = config.hatchet.subscriptions
        wanted = config.hatchet.tap
        pair = None if wanted is None else (wanted.key, wanted.value)
        keepalive = config.hatchet.tap_keepalive
        if self.tap is not None and (self.tap.pair != pair or self.tap.keepalive != keepalive):
            start_in(self._closing, self.tap.close())
            self.tap = None
        if pair is not None and self.tap is None:
            budget = config.limits.backlog_bytes
            self.tap = Tap(
                *pair,
                self._upstream,
                budget=budget,
                grew=self._grew,
                observer=self._observer,
                lag=self._lag,
                keepalive=keepalive,
                begun=self.newcomers.seen,
            )
            self.tap.start()

    def is_tapped(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the tap brings the events of a run with this metadata."""
        return self.tap is not None and metadata.get(self.tap.pair[0]) == self.tap.pair[1]

    def share(self, key: str, value: str) -> Tap | None:
        """A subscription by a pair for several runs, with a place in the quota; None where there is no place.

        It must be given to `unshare`.
        """
        if not self.quota.take(self._clock.now()):
            return None
        shared = Tap(
            key,
            value,
            self._upstream,
            budget=SHARED_BUDGET,
            grew=self._grew,
            observer=self._observer,
            lag=self._lag,
            keepalive=self._config.hatchet.tap_keepalive,
            name=SHARED,
            begun=self.newcomers.seen,
        )
        shared.start()
        return shared

    def unshare(self, shared: Tap) -> None:
        """The subscription is not needed any more."""
        self.quota.give()
        start_in(self._closing, shared.close())

    def create(self, run_id: str, number: int, ended: Callable[[RunSession], None]) -> RunSession:
        """A session of a run, not started; `ended` is called at the run's verified end.

        `number` distinguishes sessions of the same run: cursors of another one are not valid.
        """
        config = self._config
        backlogs = [stream.backlog for stream in config.streams.values()]
        retained: Backlog[RetainedItem] = Backlog(
            max([KEEP_EVENTS, *(backlog.events for backlog in backlogs)]),
            max([KEEP_BYTES, *(backlog.bytes for backlog in backlogs)]),
            self._grew,
        )
        return RunSession(
            run_id,
            team=config.name,
            number=number,
            secret=self._secret,
            upstream=self._upstream,
            counts=self._counters,
            retained=retained,
            grew=self._grew,
            ended=ended,
            unforeseen=self._observer.unforeseen,
        )

    def start(self, session: RunSession) -> None:
        """Follow the run of `session`."""
        if self._replication is not None:
            run = self._replication.share(session, self._upstream, self._config.name, self)
            session.begin(run)
            return
        follower = self._new_follower(session.run_id, session.publish)
        session.begin(follower)
        if self.tap is not None:
            self.tap.attach(follower)

    def _new_follower(self, run_id: str, publish: Callable[[Sequence[Item]], None]) -> RunFollower:
        return RunFollower(
            run_id,
            self._upstream,
            publish=publish,
            settings=RunSettings(check_after=self._server.check_after),
            clock=self._clock,
            quota=self.quota,
            lag=self._lag,
            history_lag=self._history_lag,
            rng=self._rng,
            observer=self._observer,
            pair=None if self.tap is None else self.tap.pair,
            recovered=self._hatchet_is_back,
        )

    # -- what a shared run needs --

    @property
    def merge_times(self) -> Collection[int]:
        """Each `merge` of the team's rules, in milliseconds."""
        return self._merge_times

    def follower(self, run_id: str, publish: Callable[[Sequence[Item]], None]) -> RunFollower:
        """A follower of the run at Hatchet that has started."""
        follower = self._new_follower(run_id, publish)
        follower.start()
        if self.tap is not None:
            self.tap.attach(follower)
        return follower

    def detach(self, follower: RunFollower) -> None:
        """The follower gets nothing from the tap any more."""
        if self.tap is not None:
            self.tap.detach(follower)

    def is_wanted(self, run_id: str) -> bool:
        """Whether a client of this replica reads the run."""
        return self.sessions is not None and self.sessions.leases(run_id) > 0

    def discard(self, session: RunSession) -> None:
        """The session cannot go on."""
        if self.sessions is not None:
            self.sessions.discard(session)

    def set_apart(self, session: RunSession) -> None:
        """The session goes on apart from the shared log."""
        if self.sessions is not None:
            self.sessions.set_apart(session)

    def unforeseen(self, error: Exception) -> None:
        """An exception that should not be possible was caught."""
        self._observer.unforeseen(error)

    def _hatchet_is_back(self) -> None:
        """A run's core state was read after an outage; the tap need not wait longer either."""
        if self.tap is not None:
            self.tap.hatchet_is_back()

    def stop(self, session: RunSession) -> Coroutine[Any, Any, None]:
        """Follow the run of `session` no longer; what is returned ends when nothing is left of it."""
        run = session.run
        if isinstance(run, RunFollower):
            self.detach(run)
        elif self._replication is not None:
            self._replication.forget(run)
        return run.close()

    async def close_sources(self) -> None:
        """End the look-ups and the tap: no run is found or announced after that."""
        await self.lookup.close()
        await self.newcomers.close()
        if self.tap is not None:
            await self.tap.close()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)


def _merge_times(config: TeamConfig) -> frozenset[int]:
    rules = [rule for stream in config.streams.values() for rule in stream.rules]
    return frozenset(milliseconds_of(rule.merge) for rule in rules if rule.merge is not None)
