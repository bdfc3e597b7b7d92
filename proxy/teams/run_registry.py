"""The runs that a team follows in this process: leases, lingering and eviction.

All clients of a run share one `RunSession`. A client leases it and releases it. A session without a lease
lingers for a while and is closed then, so that a client that reconnects finds its cursor still valid:

- a run that is going on lingers for ``server.linger``;
- a run that is over lingers for the longest ``backlog.keep_after_end`` of the team's streams;
- a run whose state was never read (it may not exist) does not linger.

A session may go on apart from the log that replicas share: what it has served is not what the log has. Then
it serves those clients alone that have its cursors, and the run has another session for everyone else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from msgspec import Struct

from proxy.core.tasks import in_task, start_in
from proxy.hatchet.errors import HatchetAway
from proxy.observability.counters import TeamCounters
from proxy.streams.run_session import RunSession
from proxy.teams.leases import Leases


class Launcher(Protocol):
    """Creates, starts and stops the sessions of a registry."""

    def create(self, run_id: str, number: int, ended: Callable[[RunSession], None]) -> RunSession:
        """A session of the run, not started; `number` distinguishes sessions of the same run."""

    def start(self, session: RunSession) -> None:
        """Follow the run and publish into `session`."""

    def stop(self, session: RunSession) -> Coroutine[Any, Any, None]:
        """Follow the run no longer; what is returned is done when nothing is left of it."""


class RetentionPolicy(Struct, frozen=True):
    """How long sessions without a lease stay, in seconds, and how many runs there may be."""

    linger: float
    keep_after_end: float
    most_runs: int | None  # ``limits.runs``; None: no limit


class RunRegistry:
    """The run sessions of one team by run id."""

    def __init__(self, launcher: Launcher, counters: TeamCounters, policy: RetentionPolicy) -> None:
        self._launcher = launcher
        self._counters = counters
        self._policy = policy
        self._sessions: Leases[str, RunSession] = Leases(self._lingers, self._dropped)
        self._stopping: set[asyncio.Task[None]] = set()
        self._created = 0
        self._closed = False

    def configure(self, policy: RetentionPolicy) -> None:
        """Use `policy` for what is leased and released from now on."""
        self._policy = policy

    @property
    def most_runs(self) -> int | None:
        """``limits.runs``; None: no limit."""
        return self._policy.most_runs

    # -- queries --

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, run_id: str) -> bool:
        """Whether there is a session of a run; its id is a canonical one then."""
        return self._sessions.get(run_id) is not None

    def __iter__(self) -> Iterator[RunSession]:
        return iter(self._sessions)

    def get(self, run_id: str) -> RunSession | None:
        """The session of a run, if there is one; it is not leased."""
        return self._sessions.get(run_id)

    def leases(self, run_id: str) -> int:
        """How many clients use the session of a run."""
        return self._sessions.count(run_id)

    @property
    def idle(self) -> bool:
        """Whether there is no session and none is being stopped."""
        return self._sessions.is_empty and not self._stopping

    # -- leases --

    def lease_known(self, run_id: str, *, resumes: bool) -> RunSession | None:
        """The session of a run, leased as by `lease`; None where `lease` has to make one, or to ask first."""
        session = self._sessions.get(run_id)
        if session is None or (session.over and not resumes and session.may_be_replayed):
            return None
        return self._sessions.lease(run_id)

    async def lease(self, run_id: str, *, resumes: bool) -> RunSession:
        """The session of a run, created if there is none. Each `lease` needs a `release`.

        `resumes`: the client has a cursor of this very session. Without one, a session whose run is over is
        replaced if the run was replayed since. Raises HatchetAway where the team is closed.
        """
        session = self._sessions.get(run_id)
        if session is not None and session.over and not resumes and session.may_be_replayed:
            await in_task()
            self._sessions.lease(run_id)
            try:
                if await session.replayed() and self._sessions.get(run_id) is session:
                    self._sessions.drop(run_id, session)
            finally:  # also if the client leaves meanwhile
                self.release(session)
        return self._sessions.lease(run_id) or self._create(run_id)

    def lease_apart(self, run_id: str, serves: Callable[[RunSession], bool]) -> RunSession | None:
        """The session of the run that went apart from the shared log and `serves` a client; None: no such."""
        return self._sessions.lease_apart(lambda session: session.run_id == run_id and serves(session))

    def release(self, session: RunSession, *, at_once: bool = False) -> None:
        """A client needs `session` no longer; `at_once`: without a lease it does not linger."""
        self._sessions.release(session.run_id, session, at_once=at_once)

    def has_room_for(self, run_id: str) -> bool:
        """Whether ``limits.runs`` allows to follow this run beside those that are needed now."""
        most = self._policy.most_runs
        if most is None or self._sessions.count(run_id):
            return True
        return sum(1 for session in self._sessions.used() if not session.over) < most

    def _run_over(self, session: RunSession) -> None:
        """The run of `session` has come to its verified end."""
        self._sessions.ended(session.run_id, session)

    def _lingers(self, session: RunSession) -> float:
        """The seconds for which a session without a lease stays."""
        if session.run.state is None:
            return 0.0
        return self._policy.keep_after_end if session.over else self._policy.linger

    # -- sessions begin and end --

    def _create(self, run_id: str) -> RunSession:
        """A session of the run, leased."""
        if self._closed:
            raise HatchetAway("the team is not served any more")
        self._evict()
        self._created += 1
        session = self._launcher.create(run_id, self._created, self._run_over)
        self._sessions.add(run_id, session)
        self._counters.runs = len(self._sessions)
        self._launcher.start(session)
        self._sessions.lease(run_id)
        return session

    def _evict(self) -> None:
        """Keep within ``limits.runs``: runs without a lease give way, the least recently leased first."""
        most = self._policy.most_runs
        if most is None or len(self._sessions) < most:
            return
        unused = [session for session in self._sessions.unused() if not session.over]
        followed = len(unused) + sum(1 for session in self._sessions.used() if not session.over)
        for session in unused[: max(0, followed - most + 1)]:
            self.discard(session)

    def _dropped(self, session: RunSession) -> None:
        """A session was closed: stop following its run."""
        self._counters.runs = len(self._sessions)
        start_in(self._stopping, self._launcher.stop(session))

    def discard(self, session: RunSession) -> None:
        """A session cannot go on: its clients reconnect, and the run gets a new one."""
        self._sessions.drop(session.run_id, session)

    def set_apart(self, session: RunSession) -> None:
        """A session goes on apart from the shared log: for clients with its cursors, and for nobody else."""
        self._sessions.set_apart(session.run_id, session)
        self._counters.runs = len(self._sessions)

    # -- memory --

    @property
    def bytes(self) -> int:
        """Bytes of all backlogs of all sessions."""
        return self._sessions.bytes

    def shrink(self, to_bytes: int) -> None:
        """Give up what is kept until about `to_bytes` are left."""
        self._sessions.shrink(to_bytes)

    async def close(self) -> None:
        """Close every session; nothing can be leased after that."""
        self._closed = True
        self._sessions.clear()
        if self._stopping:
            await asyncio.gather(*self._stopping, return_exceptions=True)
