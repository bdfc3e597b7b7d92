"""MergedStreams: a team's streams of several runs, made for the clients that ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.core.observations import CoreState
from proxy.hatchet.upstream import Upstream
from proxy.log.cursor import Cursor
from proxy.observability.counters import TeamCounters
from proxy.runs.tap.tap import Tap
from proxy.streams.merged.membership import Membership
from proxy.streams.merged.session import MergedSession
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream
from proxy.teams.merged.conversation import Conversation
from proxy.teams.merged.family import Family
from proxy.teams.merged.registry import Ended, MergedRegistry
from proxy.teams.run_launcher import RunLauncher
from proxy.teams.run_registry import RunRegistry

TRACE: Final = "traceparent"
"""The engine gives each run a trace context of its own, and children inherit it from their parent."""
CONVERSATIONS: Final = uuid.UUID("b1c5b0de-6a0f-4f0e-9a64-3f7a1c0d9e52")
"""The namespace of the ids of conversations, which cursors have in the place of a run id."""


class MergedStreams:
    """Makes merged sessions, and gives them what their runs need."""

    def __init__(
        self,
        team: str,
        *,
        secret: bytes,
        upstream: Upstream,
        counters: TeamCounters,
        grew: Callable[[int], None],
        unforeseen: Callable[[Exception], None],
        runs: RunRegistry,
        launcher: RunLauncher,
    ) -> None:
        self.sessions = MergedRegistry()
        self._team = team
        self._secret = secret
        self._upstream = upstream
        self._counters = counters
        self._grew = grew
        self._unforeseen = unforeseen
        self._runs = runs
        self._launcher = launcher

    def resumes(self, stream: LiveStream, run_id: str, cursor: Cursor) -> bool:
        """Whether `cursor` was issued by the session that is there for `stream` of this run."""
        return cursor.run_id == run_id and self.sessions.holds(stream, run_id, cursor)

    def family(self, stream: LiveStream, run: RunSession, value: str, *, resumes: bool) -> MergedSession:
        """The run and its children; `run` is leased and its state known. Each call needs a `release`.

        `resumes`: the client has a cursor of the session that is there. Without one, a session whose root was
        replayed is replaced.
        """
        name = run.run_id
        if not resumes and self.sessions.is_outdated(stream, name, run):
            self.sessions.forget(stream, name)
        metadata = {} if run.state is None else run.state.metadata

        def create(number: int, ended: Ended) -> MergedSession:
            trace = metadata.get(TRACE)
            pair = (TRACE, trace) if isinstance(trace, str) and trace else None
            feed = self._feed(pair, metadata)
            live = feed is not None or self._launcher.is_tapped(metadata)
            newcomers = self._launcher.newcomers
            family = Family(name, stream, upstream=self._upstream, newcomers=newcomers, live=live)
            return self._create(name, value, stream, family, number=number, ended=ended, feed=feed)

        return self.sessions.lease(stream, name, create)

    def conversation(self, stream: LiveStream, key: str, value: str, newest: CoreState) -> MergedSession:
        """Every run that carries the pair; `newest` is the state of one. Each call needs a `release`."""
        name = self.conversation_id(stream, key, value)

        def create(number: int, ended: Ended) -> MergedSession:
            feed = self._feed((key, value), newest.metadata)
            conversation = Conversation(
                key,
                value,
                stream.config.workflow,
                upstream=self._upstream,
                newcomers=self._launcher.newcomers,
                most=self._runs.most_runs,
                live=feed is not None or self._launcher.is_tapped(newest.metadata),
            )
            return self._create(name, value, stream, conversation, number=number, ended=ended, feed=feed)

        return self.sessions.lease(stream, name, create)

    def conversation_id(self, stream: LiveStream, key: str, value: str) -> str:
        """What cursors have in the place of a run id."""
        parts = [self._team, stream.config.name, key, value]
        return str(uuid.uuid5(CONVERSATIONS, "\0".join(parts)))

    def _feed(self, pair: tuple[str, str] | None, metadata: Mapping[str, Any]) -> Tap | None:
        """A subscription for all runs of the stream, where the team's tap does not bring them."""
        if pair is None or self._launcher.is_tapped(metadata):
            return None
        return self._launcher.share(*pair)

    def _create(
        self,
        name: str,
        value: str,
        stream: LiveStream,
        membership: Membership,
        *,
        number: int,
        ended: Ended,
        feed: Tap | None,
    ) -> MergedSession:
        return MergedSession(
            name,
            value,
            stream=stream,
            number=number,
            secret=self._secret,
            team=self._team,
            counts=self._counters,
            grew=self._grew,
            unforeseen=self._unforeseen,
            runs=self._runs,
            membership=membership,
            ended=ended,
            feed=feed,
            closed=None if feed is None else lambda: self._launcher.unshare(feed),
        )
