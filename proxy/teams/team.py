"""A team that is served: its configuration, its streams, and what they share.

    Team ── RunRegistry ── RunLauncher ── Tap, look-ups, followers
      │          └── MemoryBudget
      ├── MonitoredUpstream   the connection to Hatchet
      ├── Authenticator, TeamLimits, Origins
      └── Router ── streams

Nothing is shared between teams but the event loop and the published keys of issuers. A reload replaces
streams and credentials at once; runs that are followed go on, through the new connection where that changed.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from config.expressions.api import compile_allow
from config.model.files import ServerConfig, StreamConfig, TeamConfig
from proxy.access.admission import TeamLimits
from proxy.access.authenticator import Authenticator
from proxy.access.jwks import KeySets
from proxy.access.origins import Origins, every_cors
from proxy.hatchet.errors import RunUnknown
from proxy.hatchet.upstream import Upstream
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamHealth, UpstreamState
from proxy.replicas.replication import Replication
from proxy.rules.ruleset import Rules
from proxy.runs.lookup import Found
from proxy.runs.quota import SubscriptionQuota
from proxy.streams.merged.session import MergedSession
from proxy.streams.run_session import RunSession
from proxy.streams.session import Session
from proxy.streams.stream import LiveStream
from proxy.streams.subscriber import Ending
from proxy.teams.memory_budget import MemoryBudget, Shrinkable
from proxy.teams.merged.streams import MergedStreams
from proxy.teams.monitored_upstream import MonitoredUpstream
from proxy.teams.prober import Prober
from proxy.teams.router import Router
from proxy.teams.run_launcher import RunLauncher
from proxy.teams.run_registry import RetentionPolicy, RunRegistry
from proxy.teams.work_allowance import WorkAllowance

NO_TEXT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?|true|false|null")
"""A value in a path that the application may have given to Hatchet as a number, which finds no run."""


class Team:
    """One team of this process."""

    def __init__(
        self,
        config: TeamConfig,
        server: ServerConfig,
        upstream: Upstream,
        *,
        secret: bytes,
        counters: TeamCounters,
        event_log: EventLog,
        key_sets: KeySets,
        replication: Replication | None = None,
    ) -> None:
        """Raises KeyProblem where the keys of `config` cannot work.

        `secret` signs cursors; `key_sets` holds the published keys of issuers and outlives reloads.
        """
        self.name = config.name
        self.counters = counters
        self._event_log = event_log
        self._key_sets = key_sets
        self.upstream = MonitoredUpstream(upstream, event_log, config.name, counters)
        self._work = WorkAllowance(self._work_used_up)
        self.limits = TeamLimits(config.limits)
        self._budget = MemoryBudget(counters, config.limits.backlog_bytes, self._holders)
        self._launcher = RunLauncher(
            config,
            server,
            self.upstream,
            secret=secret,
            counters=counters,
            event_log=event_log,
            grew=self._budget.grew,
            replication=replication,
        )
        self.issuer = UpstreamHealth(UpstreamState.OFF)
        self._prober = Prober(self.probe, self._unforeseen)
        self.runs = RunRegistry(self._launcher, counters, _retention(config, server))
        self.merged = MergedStreams(
            config.name,
            secret=secret,
            upstream=self.upstream,
            counters=counters,
            grew=self._budget.grew,
            unforeseen=self._unforeseen,
            runs=self.runs,
            launcher=self._launcher,
        )
        self._launcher.sessions = self.runs
        self.configure(config, server)

    def configure(self, config: TeamConfig, server: ServerConfig) -> None:
        """Serve `config` from now on; open streams keep their rules until they end.

        Open streams whose definition is gone end at once (`Ending.DROPPED`).
        Raises KeyProblem, and then nothing has changed.
        """
        allows = {name: stream.allow for name, stream in config.streams.items()}
        authenticator = Authenticator(config.auth, team=config.name, key_sets=self._key_sets, allows=allows)
        streams = {name: self._live(stream, authenticator) for name, stream in config.streams.items()}
        self.config = config
        self.server = server
        self.authenticator = authenticator
        self.streams = streams
        self.router = Router({stream.config.path: stream for stream in streams.values()})
        self.origins = Origins(every_cors(config), accepts_cookies=authenticator.accepts_cookies)
        self.limits.configure(config.limits)
        self._budget.limit = config.limits.backlog_bytes
        self.runs.configure(_retention(config, server))
        self._launcher.configure(config, server)
        self.merged.sessions.linger = server.linger
        self.merged.sessions.close_streams_except(streams)
        for session in self.runs:
            session.close_streams_except(streams)

    def _live(self, stream: StreamConfig, authenticator: Authenticator) -> LiveStream:
        counters = self.counters.stream(stream.name)

        def failed(rule: str, event_type: str, reason: str) -> None:
            counters.rule_errors[rule] += 1
            self._event_log.rule_failed(self.name, stream.name, rule, event_type, reason)

        return LiveStream(
            stream,
            Rules(stream, failed, self._work),
            None if stream.allow is None else compile_allow(stream.allow),
            Origins(stream.cors, accepts_cookies=authenticator.accepts_cookies),
            stream.metadata_key,
        )

    def start(self) -> None:
        """Begin to ask about Hatchet, the history and the issuer, so that trouble shows without a client."""
        self._prober.start()

    async def probe(self) -> None:
        """Ask Hatchet, the history and the issuer of tokens, at once."""
        await asyncio.gather(self.upstream.probe(), self._probe_issuer())

    async def _probe_issuer(self) -> None:
        jwt = None if self.config.auth is None else self.config.auth.jwt
        if jwt is None or jwt.jwks_url is None:
            self.issuer = UpstreamHealth(UpstreamState.OFF)
            return
        keys = self._key_sets.at(str(jwt.jwks_url))
        await keys.check()
        old, trouble = self.issuer, keys.trouble
        self.issuer = old.became(
            UpstreamState.REACHABLE if trouble is None else UpstreamState.AWAY, trouble, time.time()
        )
        if trouble is not None:
            self._event_log.issuer_trouble(self.name, trouble)
        elif not old.is_fine and old.since is not None:
            self._event_log.issuer_recovered(self.name, seconds=time.time() - old.since)

    def _work_used_up(self) -> None:
        self.counters.work_refused += 1
        self._event_log.work_used_up(self.name)

    def _unforeseen(self, error: Exception) -> None:
        self.counters.unforeseen += 1
        self._event_log.unforeseen(self.name, error)

    async def find(
        self, key: str, value: str, patience: float, workflows: tuple[str, ...] | None = None
    ) -> Found:
        """The newest run without a parent whose metadata has `key`: `value`; waits up to `patience` seconds.

        With `workflows` (globs) it is a run of one of these.

        Raises RunUnknown, HistoryAway.
        """
        try:
            return await self._launcher.lookup.find(key, value, patience, workflows)
        except RunUnknown:
            if NO_TEXT.fullmatch(value):
                self._event_log.no_text_to_find(self.name, key)
            raise

    @property
    def quota(self) -> SubscriptionQuota:
        """How many runs may have subscriptions of their own, and how many have."""
        return self._launcher.quota

    def release(self, run: RunSession | MergedSession) -> None:
        """A client needs the run, or the stream of several runs, no longer."""
        if isinstance(run, MergedSession):
            self.merged.sessions.release(run)
        else:
            self.runs.release(run)

    def session_ended(self, session: Session, ending: Ending) -> None:
        """A client's stream ended: give back its run, write its line in the event log, end its span."""
        run, subscriber, span = session.run, session.subscriber, session.span
        if isinstance(run, MergedSession):
            run.guards.remove(session)
        self.release(run)
        self._event_log.stream_over(
            team=self.name,
            stream=session.stream,
            run=run.run_id,
            client=session.client,
            seconds=session.seconds,
            frames=subscriber.frames,
            ending=str(ending),
            traceparent=run.traceparent,
            gaps=subscriber.gaps,
            span=None if span is None else span.ids,
        )
        if span is not None:
            span.ended(
                str(ending),
                frames=subscriber.frames,
                notices=subscriber.notices,
                failed=ending is Ending.FAILED,
            )

    def _holders(self) -> list[Shrinkable]:
        """What the budget shrinks: the tap first, because no client reads what it keeps."""
        tap = self._launcher.tap
        merged = self.merged.sessions
        return [self.runs, merged] if tap is None else [tap, self.runs, merged]

    async def close(self) -> None:
        """Close every run, then the connection to Hatchet."""
        await self._prober.close()
        self.merged.sessions.close()
        await self._launcher.close_sources()
        await self.runs.close()
        await self.upstream.close()


def _retention(config: TeamConfig, server: ServerConfig) -> RetentionPolicy:
    keep_after_end = max([0.0, *(stream.backlog.keep_after_end for stream in config.streams.values())])
    return RetentionPolicy(server.linger, keep_after_end, config.limits.runs)
