"""The merged sessions of one team: leases and lingering, as `proxy.teams.run_registry` has for runs.

A session without a lease lingers, so that a client that reconnects goes on with its cursor. Its runs are
released with it, and need not linger a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from proxy.log.cursor import Cursor
from proxy.streams.merged.session import MergedSession
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream
from proxy.teams.memory_budget import shrink_largest

Ended = Callable[[MergedSession], None]
Create = Callable[[int, Ended], MergedSession]
"""Makes a session that is not started: with its number, and what it calls at its end."""

_Key = tuple[str, str]  # the stream's key, and what the whole is called in cursors


@dataclass(slots=True)
class _Entry:
    session: MergedSession
    leases: int = 0
    closing: asyncio.TimerHandle | None = None


class MergedRegistry:
    """The merged sessions of one team."""

    def __init__(self) -> None:
        self.linger = 0.0  # seconds for which a session without a lease stays; the team configures it
        self._entries: dict[_Key, _Entry] = {}
        self._created = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[MergedSession]:
        return iter([entry.session for entry in self._entries.values()])

    def holds(self, stream: LiveStream, name: str, cursor: Cursor) -> bool:
        """Whether the session `name` of `stream` issued `cursor`."""
        entry = self._entries.get((stream.key, name))
        return entry is not None and entry.session.holds(cursor)

    def is_outdated(self, stream: LiveStream, name: str, root: RunSession) -> bool:
        """Whether the session `name` of `stream` is over, and was made of another session of its root."""
        entry = self._entries.get((stream.key, name))
        if entry is None or not entry.session.over:
            return False
        member = entry.session.members.get(root.run_id)
        return member is not None and member.session is not root

    def lease(self, stream: LiveStream, name: str, create: Create) -> MergedSession:
        """The session `name` of `stream`, created if there is none. Each `lease` needs a `release`."""
        key = (stream.key, name)
        entry = self._entries.get(key)
        if entry is None:
            self._created += 1
            session = create(self._created, self._ended)
            entry = self._entries[key] = _Entry(session)
            session.start()
        entry.leases += 1
        if entry.closing is not None:
            entry.closing.cancel()
            entry.closing = None
        return entry.session

    def release(self, session: MergedSession) -> None:
        """A client needs `session` no longer."""
        for key, entry in self._entries.items():
            if entry.session is session:
                entry.leases -= 1
                if entry.leases == 0:
                    self._linger(key, entry)
                return

    def forget(self, stream: LiveStream, name: str) -> None:
        """The session is not valid any more: its run was replayed. Clients that are still there reconnect."""
        self._drop((stream.key, name))

    def _linger(self, key: _Key, entry: _Entry) -> None:
        config = entry.session.stream.config
        seconds = config.backlog.keep_after_end if entry.session.over else self.linger
        entry.closing = asyncio.get_running_loop().call_later(seconds, self._drop, key)

    def _ended(self, session: MergedSession) -> None:
        for key, entry in list(self._entries.items()):
            if entry.session is not session:
                continue
            if session.closed:
                # in the next turn: it may be in the middle of the call that closed it
                asyncio.get_running_loop().call_soon(self._drop_if, key, entry)
            elif entry.leases == 0:
                self._linger(key, entry)

    def _drop_if(self, key: _Key, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            if entry.closing is not None:
                entry.closing.cancel()
            entry.session.drop()

    def close_streams_except(self, names: Collection[str]) -> None:
        """End the sessions of every stream that is not among `names`."""
        for key, entry in list(self._entries.items()):
            if entry.session.stream.config.name not in names:
                self._drop(key)

    # -- memory --

    @property
    def bytes(self) -> int:
        """Bytes of all backlogs."""
        return sum(entry.session.bytes for entry in self._entries.values())

    def shrink(self, to_bytes: int) -> None:
        """Close sessions without a lease, then evict the oldest frames of the largest, as far as needed."""
        excess = self.bytes - to_bytes
        for key, entry in list(self._entries.items()):
            if excess > 0 and entry.leases == 0:
                excess -= entry.session.bytes
                self._drop(key)
        shrink_largest(self, excess)

    def close(self) -> None:
        """Close every session."""
        for key in list(self._entries):
            self._drop(key)
