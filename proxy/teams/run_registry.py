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
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.core.tasks import in_task, start_in
from proxy.hatchet.errors import HatchetAway
from proxy.observability.counters import TeamCounters
from proxy.streams.run_session import RunSession
from proxy.teams.memory_budget import shrink_largest


class Launcher(Protocol):
    """Creates, starts and stops the sessions of a registry."""

    def create(self, run_id: str, number: int, ended: Callable[[RunSession], None]) -> RunSession:
        """A session of the run, not started; `number` distinguishes sessions of the same run."""

    def start(self, session: RunSession) -> None:
        """Follow the run and publish into `session`."""

    def stop(self, session: RunSession) -> Coroutine[Any, Any, None]:
        """Follow the run no longer; what is returned is done when nothing is left of it."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long sessions without a lease stay, in seconds, and how many runs there may be."""

    linger: float
    keep_after_end: float
    most_runs: int | None  # ``limits.runs``; None: no limit


@dataclass(slots=True)
class _Entry:
    """One run session and the leases on it."""

    session: RunSession
    leases: int = 0
    closing: asyncio.TimerHandle | None = None  # closes the session when it has lingered long enough


class RunRegistry:
    """The run sessions of one team by run id, the least recently leased first."""

    def __init__(self, launcher: Launcher, counters: TeamCounters, policy: RetentionPolicy) -> None:
        self._launcher = launcher
        self._counters = counters
        self._policy = policy
        self._entries: dict[str, _Entry] = {}
        self._apart: list[_Entry] = []  # sessions of runs that have another one, or may have it
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
        return len(self._entries)

    def __iter__(self) -> Iterator[RunSession]:
        return iter([entry.session for entry in self._all()])

    def _all(self) -> list[_Entry]:
        return [*self._entries.values(), *self._apart]

    def get(self, run_id: str) -> RunSession | None:
        """The session of a run, if there is one; it is not leased."""
        entry = self._entries.get(run_id)
        return None if entry is None else entry.session

    def leases(self, run_id: str) -> int:
        """How many clients use the session of a run."""
        entry = self._entries.get(run_id)
        return 0 if entry is None else entry.leases

    @property
    def idle(self) -> bool:
        """Whether there is no session and none is being stopped."""
        return not self._entries and not self._apart and not self._stopping

    # -- leases --

    async def lease(self, run_id: str, *, resumes: bool) -> RunSession:
        """The session of a run, created if there is none. Each `lease` needs a `release`.

        `resumes`: the client has a cursor of this very session. Without one, a session whose run is over is
        replaced if the run was replayed since. Raises HatchetAway where the team is closed.
        """
        entry = self._entries.get(run_id)
        if entry is not None and entry.session.over and not resumes and entry.session.may_be_replayed:
            await in_task()
            entry.leases += 1
            try:
                if await entry.session.replayed() and self._entries.get(run_id) is entry:
                    self._drop(entry)
            finally:  # also if the client leaves meanwhile
                self.release(entry.session)
        return self._lease(run_id)

    def _lease(self, run_id: str) -> RunSession:
        entry = self._entries.pop(run_id, None)
        if entry is None:
            entry = self._create(run_id)
        self._use(entry)
        self._entries[run_id] = entry  # the most recently leased is last
        return entry.session

    @staticmethod
    def _use(entry: _Entry) -> None:
        entry.leases += 1
        if entry.closing is not None:
            entry.closing.cancel()
            entry.closing = None

    def lease_apart(self, run_id: str, serves: Callable[[RunSession], bool]) -> RunSession | None:
        """The session of the run that went apart from the shared log and `serves` a client; None: no such."""
        for entry in self._apart:
            if entry.session.run_id == run_id and serves(entry.session):
                self._use(entry)
                return entry.session
        return None

    def release(self, session: RunSession, *, at_once: bool = False) -> None:
        """A client needs `session` no longer; `at_once`: without a lease it does not linger."""
        entry = self._entry_of(session)
        if entry is not None:
            entry.leases -= 1
            if entry.leases == 0 and at_once:
                self._drop(entry)
            elif entry.leases == 0:
                self._linger(entry)

    def has_room_for(self, run_id: str) -> bool:
        """Whether ``limits.runs`` allows to follow this run beside those that are needed now."""
        most, entry = self._policy.most_runs, self._entries.get(run_id)
        if most is None or (entry is not None and entry.leases):
            return True
        return sum(1 for one in self._entries.values() if one.leases and not one.session.over) < most

    def _run_over(self, session: RunSession) -> None:
        """The run of `session` has come to its verified end."""
        entry = self._entry_of(session)
        if entry is not None and entry.leases == 0:
            self._linger(entry)

    def _entry_of(self, session: RunSession) -> _Entry | None:
        entry = self._entries.get(session.run_id)
        if entry is not None and entry.session is session:
            return entry
        return next((entry for entry in self._apart if entry.session is session), None)

    def _linger(self, entry: _Entry) -> None:
        """Close a session without a lease when its time is over."""
        if entry.closing is not None:
            entry.closing.cancel()
        policy, session = self._policy, entry.session
        never_read = session.run.state is None
        seconds = 0.0 if never_read else policy.keep_after_end if session.over else policy.linger
        entry.closing = asyncio.get_running_loop().call_later(seconds, self._drop, entry)

    # -- sessions begin and end --

    def _create(self, run_id: str) -> _Entry:
        if self._closed:
            raise HatchetAway("the team is not served any more")
        self._evict()
        self._created += 1
        entry = self._entries[run_id] = _Entry(self._launcher.create(run_id, self._created, self._run_over))
        self._counters.runs = len(self._entries)
        self._launcher.start(entry.session)
        return entry

    def _evict(self) -> None:
        """Keep within ``limits.runs``: runs without a lease give way, the least recently leased first."""
        most = self._policy.most_runs
        if most is None or len(self._entries) < most:
            return
        followed = [entry for entry in self._entries.values() if not entry.session.over]
        unused = [entry for entry in followed if entry.leases == 0]
        for entry in unused[: max(0, len(followed) - most + 1)]:
            self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        """Forget a session and stop following its run."""
        session = entry.session
        if self._entries.get(session.run_id) is entry:
            del self._entries[session.run_id]
            self._counters.runs = len(self._entries)
        elif entry in self._apart:
            self._apart.remove(entry)
        else:
            return
        if entry.closing is not None:
            entry.closing.cancel()
        session.drop()
        start_in(self._stopping, self._launcher.stop(session))

    def discard(self, session: RunSession) -> None:
        """A session cannot go on: its clients reconnect, and the run gets a new one."""
        entry = self._entry_of(session)
        if entry is not None:
            self._drop(entry)

    def set_apart(self, session: RunSession) -> None:
        """A session goes on apart from the shared log: for clients with its cursors, and for nobody else."""
        entry = self._entries.get(session.run_id)
        if entry is None or entry.session is not session:
            return
        if not entry.leases:
            self._drop(entry)
            return
        del self._entries[session.run_id]
        self._counters.runs = len(self._entries)
        self._apart.append(entry)

    # -- memory --

    @property
    def bytes(self) -> int:
        """Bytes of all backlogs of all sessions."""
        return sum(entry.session.bytes for entry in self._all())

    def shrink(self, to_bytes: int) -> None:
        """Give up what is kept until about `to_bytes` are left.

        Sessions without a lease are closed first, the least recently leased before the others. If that is
        not enough, the largest backlogs lose their oldest frames.
        """
        excess = self.bytes - to_bytes
        for entry in [entry for entry in self._all() if entry.leases == 0]:
            if excess <= 0:
                return
            excess -= entry.session.bytes
            self._drop(entry)
        shrink_largest(self, excess)

    async def close(self) -> None:
        """Close every session; nothing can be leased after that."""
        self._closed = True
        for entry in self._all():
            self._drop(entry)
        if self._stopping:
            await asyncio.gather(*self._stopping, return_exceptions=True)
