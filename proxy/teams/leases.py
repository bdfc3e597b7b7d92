"""Leases: sessions that clients share, and that linger for a while without a client.

A client leases a session and releases it. A session without a lease stays until its time is over, so that a
client that reconnects finds its cursor still valid; it is also the first to give way where memory is short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from proxy.core.clock import TICK
from proxy.teams.memory_budget import shrink_largest


class LeasedSession(Protocol):
    """What can be leased."""

    @property
    def bytes(self) -> int:
        """Bytes that its backlogs hold."""

    def shrink(self, to_bytes: int) -> None:
        """Evict the oldest entries until about `to_bytes` are left."""

    def drop(self) -> None:
        """Close it."""


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=LeasedSession)


class _Entry(Struct, Generic[K, S]):
    """A session and the leases on it."""

    key: K
    session: S
    leases: int = 0
    until: float = 0.0  # how long it stays without a lease: the loop's time
    closing: asyncio.TimerHandle | None = None  # drops the session then; it goes on while there are leases


class Leases(Generic[K, S]):
    """One session for each key, the least recently leased first; and sessions apart, which lost their key."""

    def __init__(self, lingers: Callable[[S], float], dropped: Callable[[S], None]) -> None:
        """`lingers`: the seconds for which a session without a lease stays; `dropped`: it was closed."""
        self._lingers = lingers
        self._dropped = dropped
        self._entries: dict[K, _Entry[K, S]] = {}
        self._apart: list[_Entry[K, S]] = []

    # -- queries --

    def __len__(self) -> int:
        """How many sessions have a key."""
        return len(self._entries)

    def __iter__(self) -> Iterator[S]:
        return iter([entry.session for entry in self._all()])

    def _all(self) -> list[_Entry[K, S]]:
        return [*self._entries.values(), *self._apart]

    @property
    def is_empty(self) -> bool:
        """Whether there is no session."""
        return not self._entries and not self._apart

    def get(self, key: K) -> S | None:
        """The session with this key; it is not leased."""
        entry = self._entries.get(key)
        return None if entry is None else entry.session

    def count(self, key: K) -> int:
        """How many leases there are on the session with this key."""
        entry = self._entries.get(key)
        return 0 if entry is None else entry.leases

    def used(self) -> list[S]:
        """The sessions with a key and a lease."""
        return [entry.session for entry in self._entries.values() if entry.leases]

    def unused(self) -> list[S]:
        """The sessions with a key and no lease, the least recently leased first."""
        return [entry.session for entry in self._entries.values() if not entry.leases]

    def _entry_of(self, key: K, session: S) -> _Entry[K, S] | None:
        entry = self._entries.get(key)
        if entry is not None and entry.session is session:
            return entry
        return next((entry for entry in self._apart if entry.session is session), None)

    # -- leases --

    def add(self, key: K, session: S) -> None:
        """A session begins, without a lease."""
        self._entries[key] = _Entry(key, session)

    def lease(self, key: K) -> S | None:
        """The session with this key, leased; None: there is none. Each lease needs a `release`."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._entries[key] = entry  # the most recently leased is last
        return self._lease(entry)

    def lease_apart(self, serves: Callable[[S], bool]) -> S | None:
        """A session apart that `serves` a client, leased; None: there is none."""
        for entry in self._apart:
            if serves(entry.session):
                return self._lease(entry)
        return None

    @staticmethod
    def _lease(entry: _Entry[K, S]) -> S:
        entry.leases += 1
        return entry.session

    def release(self, key: K, session: S, *, at_once: bool = False) -> None:
        """A client needs `session` no longer; `at_once`: without a lease it does not linger."""
        entry = self._entry_of(key, session)
        if entry is None:
            return
        entry.leases -= 1
        if entry.leases == 0 and at_once:
            self._drop(entry)
        elif entry.leases == 0:
            self._linger(entry)

    def ended(self, key: K, session: S) -> None:
        """A session is over: without a lease it lingers from now on."""
        entry = self._entry_of(key, session)
        if entry is not None and entry.leases == 0:
            self._linger(entry)

    def _linger(self, entry: _Entry[K, S]) -> None:
        """Drop it later. A timer that is set for earlier stays and is set anew then, not with each client."""
        loop = asyncio.get_running_loop()
        entry.until = loop.time() + self._lingers(entry.session)
        if entry.closing is not None and entry.closing.when() > entry.until:
            entry.closing.cancel()
            entry.closing = None
        if entry.closing is None:
            entry.closing = loop.call_at(entry.until, self._lingered, entry)

    def _lingered(self, entry: _Entry[K, S]) -> None:
        entry.closing = None
        if entry.leases:
            return
        loop = asyncio.get_running_loop()
        if entry.until > loop.time() + TICK:
            entry.closing = loop.call_at(entry.until, self._lingered, entry)
        else:
            self._drop(entry)

    # -- sessions end --

    def drop(self, key: K, session: S) -> None:
        """Close a session, leased or not."""
        entry = self._entry_of(key, session)
        if entry is not None:
            self._drop(entry)

    def _drop(self, entry: _Entry[K, S]) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        elif entry in self._apart:
            self._apart.remove(entry)
        else:
            return
        if entry.closing is not None:
            entry.closing.cancel()
        entry.session.drop()
        self._dropped(entry.session)

    def set_apart(self, key: K, session: S) -> None:
        """A session loses its key, which another one may have; without a lease it is closed."""
        entry = self._entries.get(key)
        if entry is None or entry.session is not session:
            return
        if not entry.leases:
            self._drop(entry)
            return
        del self._entries[key]
        self._apart.append(entry)

    def clear(self) -> None:
        """Close every session."""
        for entry in self._all():
            self._drop(entry)

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
