"""Two links to one Redis, one for commands and one that subscribes; opened and closed together.

A link that was demoted or cut off may go on for a while without an error. So each beat writes: a Redis that
takes no writes any more, or does not answer, is left at once, and asked for anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from proxy.log.base import GONE_AFTER, Life, LogAway
from proxy.log.redis.discovery import MARK, MARKER, PREFIX, Discovery
from proxy.log.redis.link import CONNECT_TIMEOUT, Link
from proxy.log.redis.resp import ErrorReply, Reply, command

BEAT: Final = 2.0  # seconds between two beats
RETRY: Final = (0.1, 2.0)  # seconds between two attempts to connect: the first pause, the longest one
LEFT: Final = frozenset({"READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "MOVED", "NOAUTH", "NOPERM"})
"""Errors of a Redis that must be left: it is no master, or not ready."""


class Connection:
    """The links of one replica; it connects again until it is closed.

    `opened` is called when both links are open, `closed` when they are not any more, `received` with each
    message on a channel, `flushed` when Redis has lost this replica's key since the last beat.
    """

    def __init__(
        self,
        discovery: Discovery,
        replica: str,
        *,
        opened: Callable[[], None],
        closed: Callable[[str], None],
        received: Callable[[bytes, bytes], None],
        flushed: Callable[[], None],
        channels: Iterable[bytes] = (),
        rng: Random | None = None,
    ) -> None:
        self.life = Life.ALIVE
        self.trouble: str | None = "not connected yet"
        self._discovery = discovery
        self._up_key = f"{PREFIX}up:{replica}".encode()
        self._opened = opened
        self._closed = closed
        self._received = received
        self._flushed = flushed
        self._rng = rng or Random()
        self._task: asyncio.Task[None] | None = None
        self._commands: Link | None = None
        self._messages: Link | None = None
        self._ended = asyncio.Event()
        self._ponged = asyncio.Event()
        self._channels: set[bytes] = set(channels)
        self._subscribing: dict[bytes, list[asyncio.Future[None]]] = {}
        self._beaten = False  # a beat of this connection was answered
        self._heard = True  # the link for messages has answered the last ping

    @property
    def is_open(self) -> bool:
        """Whether both links are open."""
        return self._commands is not None

    @property
    def link(self) -> Link:
        """The link for commands. Raises LogAway."""
        if self._commands is None:
            raise LogAway(self.trouble or "Redis cannot be reached")
        return self._commands

    def start(self) -> None:
        """Connect, and stay connected."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._stay())

    async def close(self) -> None:
        """Close both links for good, after telling others that this replica is gone."""
        if self._commands is not None:
            with contextlib.suppress(LogAway):
                await self._commands.call(b"DEL", self._up_key, timeout=1.0)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop("closed")

    # -- channels --

    def subscribe(self, channel: bytes) -> asyncio.Future[None]:
        """Receive the messages of a channel; what is returned is done when none can be missed any more.

        It is done at once where Redis cannot be reached: the next connection subscribes to everything.
        """
        self._channels.add(channel)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._messages is None:
            done.set_result(None)
        else:
            self._subscribing.setdefault(channel, []).append(done)
            self._messages.write(command(b"SUBSCRIBE", channel))
        return done

    def unsubscribe(self, channel: bytes) -> None:
        """Receive them no more."""
        if channel in self._channels:
            self._channels.discard(channel)
            if self._messages is not None:
                self._messages.write(command(b"UNSUBSCRIBE", channel))

    # -- connecting --

    async def _stay(self) -> None:
        pause = RETRY[0]
        while True:
            self._ended.clear()
            try:
                await self._connect()
                pause = RETRY[0]
                await self._beat_until_it_ends()
            except (LogAway, OSError, TimeoutError) as error:
                self._drop(str(error) if isinstance(error, LogAway) else f"Redis cannot be reached ({error})")
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(RETRY[1], pause * 2)

    async def _connect(self) -> None:
        node = await self._discovery.find()
        tls = self._discovery.tls
        links: list[Link] = []
        try:
            for received in (None, self._message):
                link = await Link.connect(
                    node.host, node.port, tls=tls, closed=self._link_closed, received=received
                )
                links.append(link)
                await self._enter(link)
            commands, messages = links
            role = await commands.call(b"ROLE")
            if not isinstance(role, list) or role[0] != b"master":
                raise LogAway("the Redis takes no writes: it is a replica")
            found = await commands.call(b"SET", MARKER.encode(), MARK, b"NX")
            if isinstance(found, ErrorReply):
                raise LogAway(f"Redis refuses to write ({found.code})")
            messages.subscribes = True
            await self._subscribe_all(messages)
            self._beaten = False
            await self._beat(commands)
        except BaseException:
            for link in links:
                link.close()
            raise
        self._commands, self._messages = commands, messages
        self.trouble = None
        self._opened()

    async def _subscribe_all(self, messages: Link) -> None:
        """Subscribe to every channel; the answer to a ping comes after those to all of them."""
        for channel in self._channels:
            messages.write(command(b"SUBSCRIBE", channel))
        self._heard = False
        self._ponged.clear()
        messages.write(command(b"PING"))
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await self._ponged.wait()

    async def _enter(self, link: Link) -> None:
        address = self._discovery.address
        if address.password is not None:
            words = [b"AUTH", *([address.user.encode()] if address.user else []), address.password.encode()]
            if isinstance(reply := await link.call(*words), ErrorReply):
                raise LogAway(f"Redis refuses the user or the password ({reply.code})")
        if address.database and isinstance(
            reply := await link.call(b"SELECT", str(address.database).encode()), ErrorReply
        ):
            raise LogAway(f"Redis has no database {address.database} ({reply.code})")

    # -- beats --

    async def _beat_until_it_ends(self) -> None:
        while True:
            try:
                async with asyncio.timeout(BEAT):
                    await self._ended.wait()
                return
            except TimeoutError:
                pass
            commands, messages = self._commands, self._messages
            if commands is None or messages is None:
                return
            if not self._heard:
                raise LogAway("Redis did not answer in time")
            self._heard = False
            messages.write(command(b"PING"))
            await self._beat(commands)

    async def _beat(self, commands: Link) -> None:
        words = (self.life.value.encode(), b"PX", b"%d" % int(GONE_AFTER * 1000), b"GET")
        before = await commands.call(b"SET", self._up_key, *words)
        if isinstance(before, ErrorReply):
            raise LogAway(f"Redis refuses to write ({before.code})")
        if before is None and self._beaten:
            self._flushed()
        self._beaten = True

    async def say(self, life: Life) -> None:
        """Say from now on that this replica is in `life`. Raises LogAway."""
        self.life = life
        await self._beat(self.link)

    def check(self, reply: Reply) -> None:
        """Leave a Redis whose reply says that it must be left."""
        if isinstance(reply, ErrorReply) and reply.code in LEFT:
            self._drop(f"Redis must be left ({reply.code})")

    # -- the end of a link --

    def _message(self, reply: Reply) -> None:
        self._heard = True
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            self._received(reply[1], reply[2])
        elif isinstance(reply, list) and len(reply) == 3 and reply[0] == b"subscribe":
            self._subscribed(reply[1])
        elif isinstance(reply, list) and reply[:1] == [b"pong"]:
            self._ponged.set()
        elif isinstance(reply, ErrorReply):
            self._drop(f"Redis refuses a subscription ({reply.code})")

    def _subscribed(self, channel: bytes) -> None:
        for done in self._subscribing.pop(channel, ()):
            if not done.done():
                done.set_result(None)

    def _link_closed(self) -> None:
        if self._commands is not None:
            self._drop("the connection to Redis was closed")

    def _drop(self, trouble: str) -> None:
        links: list[Any] = [self._commands, self._messages]
        was_open = self._commands is not None
        self._commands = self._messages = None
        self.trouble = trouble
        for link in links:
            if link is not None:
                link.close()
        self._ended.set()
        for channel in list(self._subscribing):
            self._subscribed(channel)
        if was_open:
            self._closed(trouble)
