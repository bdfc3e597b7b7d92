"""The shared log in the memory of one process: for replicas that a test puts into one process.

`MemoryStore` takes the place of Redis, `MemoryLog` that of one replica's connection to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from proxy.log.base import (
    Announcements,
    Done,
    Life,
    LogAway,
    LogListener,
    Outcome,
    Record,
)

NONE: Final = (0, 0)


class MemoryStore:
    """The logs, the replicas and their announcements."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Record]] = {}
        self.clients: list[MemoryLog] = []
        self.claims: dict[str, str] = {}
        self.sealed: dict[str, float] = {}

    def write(self, name: str, record: Record) -> Outcome:
        """Append one record, as ``XADD name NOMKSTREAM id`` does."""
        log = self.logs.get(name)
        if log is None:
            return Outcome.MISSING
        last = id_of(log[-1]) if log else NONE
        if id_of(record) <= last:
            return Outcome.STORED if record in log else Outcome.FENCED
        log.append(record)
        return Outcome.STORED


class MemoryLog:
    """One replica's view of a `MemoryStore`."""

    def __init__(
        self, store: MemoryStore, replica: str, soon: Callable[[Callable[[], None]], object]
    ) -> None:
        """`soon` calls a function in the next turn of the loop."""
        self.replica = replica
        self.is_up = True
        self.state = Life.ALIVE
        self.announcements: Announcements | None = None
        self._store = store
        self._soon = soon
        self._listeners: dict[str, LogListener] = {}
        store.clients.append(self)

    # -- what tests do --

    def cut(self) -> None:
        """The store cannot be reached any more."""
        self.is_up = False
        for listener in list(self._listeners.values()):
            listener.disconnected()

    def mend(self) -> None:
        """It can be reached again."""
        self.is_up = True
        for listener in list(self._listeners.values()):
            listener.connected()

    def _check(self) -> None:
        if not self.is_up:
            raise LogAway("the memory log was cut")

    # -- the verbs --

    async def read(self, name: str, after: tuple[int, int] | None = None) -> list[Record]:
        self._check()
        return [record for record in self._store.logs.get(name, []) if id_of(record) > (after or (-1, 0))]

    async def tail(self, name: str) -> Record | None:
        self._check()
        log = self._store.logs.get(name)
        return log[-1] if log else None

    async def fence(self, name: str, record: Record, *, create: bool) -> bool:
        self._check()
        if create:
            self._store.logs.setdefault(name, [])
        stored = self._store.write(name, record) is Outcome.STORED
        if stored:
            self._store.sealed.pop(name, None)
            self.nudge(name, record)
        return stored

    def append(self, name: str, records: Sequence[Record], keep_from: tuple[int, int], done: Done) -> None:
        if not self.is_up:
            self._soon(lambda: done(Outcome.LOST))
            return
        outcomes = [self._store.write(name, record) for record in records]
        outcome = next((one for one in outcomes if one is not Outcome.STORED), Outcome.STORED)
        log = self._store.logs.get(name)
        if outcome is Outcome.STORED and log is not None:
            log[:] = [record for record in log if id_of(record) >= keep_from]

        def answer() -> None:
            if not self.is_up:
                done(Outcome.LOST)
                return
            done(outcome)
            if outcome is Outcome.STORED:
                self._notify(name, records)

        self._soon(answer)

    def _notify(self, name: str, records: Sequence[Record]) -> None:
        for client in self._store.clients:
            listener = client._listeners.get(name)
            if listener is not None and client is not self and client.is_up:
                self._soon(lambda listener=listener: listener.received(records))  # type: ignore[misc]

    async def follow(self, name: str, listener: LogListener) -> None:
        self._listeners[name] = listener

    def unfollow(self, name: str, listener: LogListener) -> None:
        if self._listeners.get(name) is listener:
            del self._listeners[name]

    def nudge(self, name: str, record: Record) -> None:
        self._notify(name, [record])

    async def followers(self, name: str) -> int:
        self._check()
        return sum(name in client._listeners for client in self._store.clients)

    async def life(self, replica: str) -> Life:
        self._check()
        for client in self._store.clients:
            if client.replica == replica:
                return client.state
        return Life.DEAD

    async def replicas(self) -> int:
        self._check()
        return sum(client.state is not Life.DEAD for client in self._store.clients)

    async def leave(self) -> None:
        self._check()
        self.state = Life.LEAVING

    async def claim(self, name: str, seconds: float) -> bool:
        self._check()
        return self._store.claims.setdefault(name, self.replica) == self.replica

    def announce(self, words: Sequence[str]) -> None:
        for client in self._store.clients:
            if client is not self and client.announcements is not None:
                client.announcements.announced(self.replica, words)

    def keep(self, name: str) -> None:
        self._store.sealed.pop(name, None)

    def seal(self, name: str, seconds: float) -> None:
        self._store.sealed[name] = seconds

    def drop(self, name: str) -> None:
        self._store.logs.pop(name, None)


def id_of(record: Record) -> tuple[int, int]:
    """The id of a record: its fence and its position."""
    return (record.fence, record.position)
