"""The shared log on Redis or Valkey: the verbs of `proxy.log.base` as commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from config.model.shared_log import LogAddress
from proxy.log.base import (
    Announcements,
    Counts,
    Done,
    Life,
    LogAway,
    LogListener,
    Outcome,
    Record,
)
from proxy.log.cipher import Cipher
from proxy.log.redis.connection import Connection
from proxy.log.redis.discovery import Discovery
from proxy.log.redis.inspection import inspect
from proxy.log.redis.keys import CONTROL, PREFIX, claim_key, key_of, up_key
from proxy.log.redis.link import LOST, ask
from proxy.log.redis.resp import ErrorReply, Reply, command
from proxy.log.redis.sealed import SealedLogs
from proxy.log.redis.wire import Wire

FORGOTTEN_AFTER: Final = 15 * 60.0
"""Seconds after which a log without a leader is removed; a leader puts that off (`keep`)."""
PAGE: Final = 1000  # entries that are read at once
NOWHERE: Final = (0, 0)  # an id before every other
OUT_OF_MEMORY: Final = "OOM"  # the error of a Redis whose maxmemory is reached


class RedisLog:
    """The logs of all runs on one Redis, as this replica sees them."""

    def __init__(
        self,
        address: LogAddress,
        replica: str,
        *,
        counts: Counts,
        cipher: Cipher | None = None,
        changed: Callable[[], None] | None = None,
        unforeseen: Callable[[Exception], None] | None = None,
    ) -> None:
        """`changed` is called whenever Redis can be reached again, or cannot be any more."""
        self.replica = replica
        self._own = f".{replica} ".encode()  # in the head of this replica's messages
        self.address = address
        self.counts = counts
        self.announcements: Announcements | None = None
        self._changed = changed or _nothing
        self._unforeseen = unforeseen or _ignore
        self._wire = Wire(cipher)
        self._listeners: dict[str, LogListener] = {}
        self._sealed = SealedLogs()
        self._discovery = Discovery(address)
        self._connection = Connection(
            self._discovery,
            replica,
            opened=self._opened,
            closed=self._closed,
            received=self._received,
            flushed=self._flushed,
            lag=counts.lag.observe,
            channels=[CONTROL],
        )

    # -- the connection --

    @property
    def is_up(self) -> bool:
        return self._connection.is_open

    @property
    def trouble(self) -> str | None:
        """Why Redis cannot be reached; None where it can."""
        return self._connection.trouble

    async def inspect(self) -> list[str]:
        """Check whether the Redis can be used; returns warnings. Raises LogAway, LogRefused."""
        return await inspect(self._discovery)

    async def start(self) -> None:
        """Connect; returns when Redis can be reached, or after a moment."""
        self._connection.start()
        for _ in range(30):
            if self.is_up:
                return
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Disconnect for good."""
        await self._connection.close()

    async def leave(self) -> None:
        """Announce that this replica gives its leads away."""
        await self._connection.announce_life(Life.LEAVING)

    def _opened(self) -> None:
        self._changed()
        self._each(lambda listener: listener.connected())

    def _closed(self, trouble: str) -> None:
        self._changed()
        self._each(lambda listener: listener.disconnected())

    def _flushed(self) -> None:
        self._each(lambda listener: listener.connected())

    def _each(self, call: Callable[[LogListener], None]) -> None:
        for listener in list(self._listeners.values()):
            try:
                call(listener)
            except Exception as error:
                self._unforeseen(error)

    def _received(self, channel: bytes, payload: bytes) -> None:
        try:
            if channel == CONTROL:
                replica, *words = json.loads(payload)
                if self.announcements is not None and replica != self.replica:
                    self.announcements.announced(replica, words)
                return
            name = channel.decode()[len(PREFIX) :]
            listener = self._listeners.get(name)
            if listener is None:
                return
            if not payload.startswith(self._own, payload.find(b".")):  # a leader gets its own messages too
                listener.received(self._wire.read_published(name, payload))
        except Exception as error:
            self._unforeseen(error)

    async def _call(self, verb: bytes, key: bytes, *words: bytes) -> Reply:
        """The reply to a command about one key. Raises LogAway, also where it is an error."""
        reply = await self._ask(key, command(verb, key, *words))
        if isinstance(reply, ErrorReply):
            raise LogAway(f"Redis answers with an error ({reply.text[:80]})")
        return reply

    async def _ask(self, key: bytes, commands: bytes) -> Reply:
        """The reply of the server that has `key`. Raises LogAway."""
        reply = await ask(self._connection.sender(key), commands)
        if isinstance(reply, ErrorReply) and not is_smaller(reply):
            self._count_error(reply)
            self._connection.check(reply)
        return reply

    def _count_error(self, reply: ErrorReply) -> None:
        self.counts.errors[reply.code] += 1
        if reply.code == OUT_OF_MEMORY:
            for name in self._sealed.to_remove():
                self.drop(name)  # if it was begun again, its leader writes it again

    # -- reading --

    async def read(self, name: str, after: tuple[int, int] | None = None) -> list[Record]:
        records: list[Record] = []
        start = b"-" if after is None or after < (0, 0) else b"(%d-%d" % after
        while True:
            page = await self._page(b"XRANGE", name, start, b"+", PAGE)
            records += self._records(name, page)
            if len(page) < PAGE:
                return records
            start = b"(" + page[-1][0]

    async def tail(self, name: str) -> Record | None:
        records = self._records(name, await self._page(b"XREVRANGE", name, b"+", b"-", 1))
        return records[0] if records else None

    async def _page(self, verb: bytes, name: str, start: bytes, end: bytes, most: int) -> list[Any]:
        """The entries from `start` on, at most so many. Raises LogAway."""
        page = await self._call(verb, key_of(name), start, end, b"COUNT", b"%d" % most)
        if not isinstance(page, list):
            raise LogAway("Redis gives an unknown answer about a log")
        return page

    def _records(self, name: str, page: list[Any]) -> list[Record]:
        try:
            return [self._wire.record(name, entry) for entry in page]
        except (ValueError, IndexError, AttributeError) as error:
            raise LogAway(f"a log cannot be read: {error}") from None

    # -- writing --

    async def fence(self, name: str, record: Record, *, create: bool) -> bool:
        key = key_of(name)
        reply = await self._ask(key, self._wire.entry(key, name, record, create=create, keep_from=None))
        if isinstance(reply, ErrorReply) and not is_smaller(reply):
            raise LogAway(f"Redis answers with an error ({reply.code})")
        if reply is None or isinstance(reply, ErrorReply):
            return False
        self._sealed.discard(name)
        self._expire(name, FORGOTTEN_AFTER)
        self.nudge(name, record)
        return True

    def append(self, name: str, records: Sequence[Record], keep_from: tuple[int, int], done: Done) -> None:
        key = key_of(name)
        try:
            sender = self._connection.sender(key)
        except LogAway:
            asyncio.get_running_loop().call_soon(done, Outcome.LOST)
            return
        entry = self._wire.entry
        first, *others = records
        entries = entry(key, name, first, keep_from=None if keep_from == NOWHERE else keep_from)
        if others:
            entries += b"".join([entry(key, name, record, keep_from=None) for record in others])
        self.counts.bytes += len(entries)
        sender.send(entries, _Append(self, name, key, records, done).answered, len(records))

    def stored(self, name: str, key: bytes, records: Sequence[Record]) -> None:
        """Publish the records that were stored to followers."""
        self.counts.appended += len(records)
        self._notify(key, name, records)

    def _notify(self, key: bytes, name: str, records: Sequence[Record]) -> None:
        connection = self._connection
        if connection.is_open:
            connection.sender(key).send(self._wire.publish(key, name, records), connection.check)

    def check(self, reply: Reply) -> None:
        """Count an error of an append; close the connection if this Redis cannot be used any more."""
        if isinstance(reply, ErrorReply) and reply is not LOST:
            self._count_error(reply)
            self._connection.check(reply)

    def nudge(self, name: str, record: Record) -> None:
        self._notify(key_of(name), name, [record])

    def _send(self, verb: bytes, key: bytes, *words: bytes) -> None:
        """Send a command about one key or channel, and ignore its reply."""
        if self._connection.is_open:
            self._connection.sender(key).send(command(verb, key, *words), self._connection.check)

    def _expire(self, name: str, seconds: float) -> None:
        self._send(b"PEXPIRE", key_of(name), b"%d" % int(seconds * 1000))

    def keep(self, name: str) -> None:
        """Put off the removal of a log that is led."""
        self._expire(name, FORGOTTEN_AFTER)

    def seal(self, name: str, seconds: float) -> None:
        self._sealed.add(name, seconds)
        self._expire(name, seconds)

    def drop(self, name: str) -> None:
        self._sealed.discard(name)
        self._send(b"UNLINK", key_of(name))

    # -- following --

    async def follow(self, name: str, listener: LogListener) -> None:
        self._listeners[name] = listener
        await self._connection.subscribe(key_of(name))

    def unfollow(self, name: str, listener: LogListener) -> None:
        if self._listeners.get(name) is listener:
            del self._listeners[name]
            self._connection.unsubscribe(key_of(name))

    async def followers(self, name: str) -> int:
        return await self._subscribers(key_of(name))

    # -- replicas --

    async def life(self, replica: str) -> Life:
        reply = await self._call(b"GET", up_key(replica))
        return Life.LEAVING if reply == b"leaving" else Life.DEAD if reply is None else Life.ALIVE

    async def replicas(self) -> int:
        """How many replicas are connected, this one included. Raises LogAway."""
        return await self._subscribers(CONTROL)

    async def _subscribers(self, channel: bytes) -> int:
        """How many replicas subscribe to a channel, at the server that has the key of the same name."""
        reply = await self._ask(channel, command(b"PUBSUB", b"NUMSUB", channel))
        if isinstance(reply, ErrorReply):
            raise LogAway(f"Redis answers with an error ({reply.code})")
        return int(reply[1]) if isinstance(reply, list) and len(reply) == 2 else 0

    async def claim(self, name: str, seconds: float) -> bool:
        key = claim_key(name)
        mine = self.replica.encode()
        await self._call(b"SET", key, mine, b"NX", b"PX", b"%d" % int(seconds * 1000))
        return await self._call(b"GET", key) == mine

    def announce(self, words: Sequence[str]) -> None:
        self._send(b"PUBLISH", CONTROL, json.dumps([self.replica, *words]).encode())


class _Append:
    """Records on their way to Redis, until the last one is answered."""

    __slots__ = ("_done", "_key", "_left", "_log", "_name", "_outcome", "_records", "_since")

    def __init__(self, log: RedisLog, name: str, key: bytes, records: Sequence[Record], done: Done) -> None:
        self._log = log
        self._name = name
        self._key = key
        self._records = records
        self._done = done
        self._left = len(records)
        self._outcome = Outcome.STORED
        self._since = monotonic()

    def answered(self, reply: Reply) -> None:
        """One of them was answered."""
        if reply.__class__ is not bytes and self._outcome is Outcome.STORED:
            self._outcome = self._failed(reply)
        self._left -= 1
        if self._left:
            return
        log = self._log
        log.counts.latency.observe(monotonic() - self._since)
        if self._outcome is Outcome.STORED:
            log.stored(self._name, self._key, self._records)
        self._done(self._outcome)

    def _failed(self, reply: Reply) -> Outcome:
        if reply is None:
            return Outcome.MISSING
        if reply is LOST:
            return Outcome.LOST
        if isinstance(reply, ErrorReply) and is_smaller(reply):
            self._log.counts.refused += 1
            return Outcome.FENCED
        self._log.counts.unusable += 1
        self._log.check(reply)
        return Outcome.LOST


def is_smaller(reply: ErrorReply) -> bool:
    """Whether Redis refuses an entry because its log has a later one: another replica leads."""
    return reply.code == "ERR" and "equal or smaller" in reply.text


def _nothing() -> None:
    """Do nothing."""


def _ignore(error: Exception) -> None:
    """Do nothing."""
