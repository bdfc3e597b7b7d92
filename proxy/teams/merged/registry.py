"""The merged sessions of one team by stream and name.

A session without a lease lingers, so that a client that reconnects goes on with its cursor. Its runs are
released with it, and need not linger a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator

from proxy.log.cursor import Cursor
from proxy.streams.merged.session import MergedSession
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream
from proxy.teams.leases import Leases

Ended = Callable[[MergedSession], None]
Create = Callable[[int, Ended], MergedSession]
"""Makes a session that is not started: with its number, and what it calls at its end."""

_Key = tuple[str, str]  # the stream's key, and what the whole is called in cursors


class MergedRegistry:
    """The merged sessions of one team."""

    def __init__(self) -> None:
        self.linger = 0.0  # seconds for which a session without a lease stays; the team configures it
        self._sessions: Leases[_Key, MergedSession] = Leases(self._lingers, _nothing)
        self._created = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[MergedSession]:
        return iter(self._sessions)

    def holds(self, stream: LiveStream, name: str, cursor: Cursor) -> bool:
        """Whether the session `name` of `stream` issued `cursor`."""
        session = self._sessions.get((stream.key, name))
        return session is not None and session.holds(cursor)

    def is_outdated(self, stream: LiveStream, name: str, root: RunSession) -> bool:
        """Whether the session `name` of `stream` is over, and was made of another session of its root."""
        session = self._sessions.get((stream.key, name))
        if session is None or not session.over:
            return False
        member = session.members.get(root.run_id)
        return member is not None and member.session is not root

    def lease(self, stream: LiveStream, name: str, create: Create) -> MergedSession:
        """The session `name` of `stream`, created if there is none. Each `lease` needs a `release`."""
        key = (stream.key, name)
        session = self._sessions.lease(key)
        if session is None:
            self._created += 1
            session = create(self._created, self._ended)
            self._sessions.add(key, session)
            session.start()
            self._sessions.lease(key)
        return session

    def release(self, session: MergedSession) -> None:
        """A client needs `session` no longer."""
        self._sessions.release(_key_of(session), session)

    def forget(self, stream: LiveStream, name: str) -> None:
        """The session is not valid any more: its run was replayed. Clients that are still there reconnect."""
        session = self._sessions.get((stream.key, name))
        if session is not None:
            self._drop(session)

    def _lingers(self, session: MergedSession) -> float:
        return session.stream.config.backlog.keep_after_end if session.over else self.linger

    def _ended(self, session: MergedSession) -> None:
        if session.closed:
            # in the next turn: it may be in the middle of the call that closed it
            asyncio.get_running_loop().call_soon(self._drop, session)
        else:
            self._sessions.ended(_key_of(session), session)

    def _drop(self, session: MergedSession) -> None:
        self._sessions.drop(_key_of(session), session)

    def close_streams_except(self, names: Collection[str]) -> None:
        """End the sessions of every stream that is not among `names`."""
        for session in self._sessions:
            if session.stream.config.name not in names:
                self._drop(session)

    # -- memory --

    @property
    def bytes(self) -> int:
        """Bytes of all backlogs."""
        return self._sessions.bytes

    def shrink(self, to_bytes: int) -> None:
        """Close sessions without a lease, then evict the oldest frames of the largest, as far as needed."""
        self._sessions.shrink(to_bytes)

    def close(self) -> None:
        """Close every session."""
        self._sessions.clear()


def _key_of(session: MergedSession) -> _Key:
    return (session.stream.key, session.run_id)


def _nothing(session: MergedSession) -> None:
    """A merged session releases its runs when it is dropped."""
