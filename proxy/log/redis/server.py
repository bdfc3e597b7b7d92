"""Two links to one server of Redis: one for commands, and one that subscribes. They are opened together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from proxy.log.base import LogAway
from proxy.log.redis.link import CONNECT_TIMEOUT, LATE, Link, Node
from proxy.log.redis.login import Login, answer, refusal
from proxy.log.redis.resp import ErrorReply, Reply, command

PONGS: Final[tuple[Reply, ...]] = ([b"pong", b""], b"PONG")
"""Answers to a ping: of a link with subscriptions, and of one without."""


class Server:
    """One server that takes writes.

    `received` gets each message on a channel; `subscribed` gets each channel from which messages cannot
    be missed any more, `closed` of the link that ends first, `failed` of an error on the subscribing
    one. `lag` gets the seconds from each ping on the subscribing link to its answer: Redis sends that after
    all messages that were published before, so they are late by as much.
    """

    def __init__(
        self,
        node: Node,
        *,
        received: Callable[[bytes, bytes], None],
        subscribed: Callable[[bytes], None],
        failed: Callable[[ErrorReply], None],
        closed: Callable[[Server], None],
        lag: Callable[[float], None],
    ) -> None:
        self.node = node
        self.commands: Link
        self.messages: Link
        self.channels: set[bytes] = set()
        """The channels that it was asked for."""
        self.is_open = False
        self._received = received
        self._subscribed = subscribed
        self._failed = failed
        self._closed = closed
        self._lag = lag
        self._pinged_at: deque[float] = deque()  # pings without an answer
        self._answers = True  # the subscribing link has answered the last ping
        self._ponged = asyncio.Event()
        self._links: list[Link] = []

    async def open(self, login: Login) -> None:
        """Open both links, and check that the server is a master. Raises LogAway, LogRefused."""
        try:
            self._links.append(await login.open(self.node, closed=self._link_closed))
            self._links.append(await login.open(self.node, closed=self._link_closed, received=self._message))
            self.commands, self.messages = self._links
            role = await answer(self.commands, command(b"ROLE"), "ROLE")
            if not isinstance(role, list) or role[0] != b"master":
                raise refusal(ErrorReply("READONLY"), "ROLE")
            self.messages.subscribes = True
            self.is_open = self.commands.open and self.messages.open
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close both links; commands without a reply get `LOST`."""
        self.is_open = False
        for link in self._links:
            link.close()

    def finish(self) -> None:
        """Close both links, once all waiting bytes are written."""
        self.is_open = False
        for link in self._links:
            link.finish()

    def _link_closed(self) -> None:
        self.is_open = False
        self._closed(self)

    # -- channels --

    def subscribe(self, channel: bytes) -> None:
        """Ask for the messages of a channel."""
        self.channels.add(channel)
        self.messages.write(command(b"SUBSCRIBE", channel))

    def unsubscribe(self, channel: bytes) -> None:
        """Unsubscribe from them."""
        if channel in self.channels:
            self.channels.discard(channel)
            self.messages.write(command(b"UNSUBSCRIBE", channel))

    async def subscribe_all(self, channels: Iterable[bytes]) -> None:
        """Subscribe, and wait: the answer to a ping comes after those to all of them. Raises LogAway."""
        for channel in channels:
            self.subscribe(channel)
        self._ponged.clear()
        self._ping()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._ponged.wait()
        except TimeoutError:
            raise LogAway(LATE) from None

    # -- pings --

    def look(self) -> None:
        """Send a ping on the subscribing link. Raises LogAway where the last one is still unanswered."""
        if not self._answers:
            raise LogAway(LATE)
        self._ping()

    def _ping(self) -> None:
        self._answers = False
        self._pinged_at.append(monotonic())
        self.messages.write(command(b"PING"))

    async def ask(self, commands: bytes, what: str) -> Reply:
        """The reply to a command. Raises LogAway, LogRefused where it is an error."""
        return await answer(self.commands, commands, what)

    def _message(self, reply: Reply) -> None:
        self._answers = True
        if isinstance(reply, ErrorReply):
            self._failed(reply)
        elif isinstance(reply, list) and reply[0] == b"message":
            self._received(reply[1], reply[2])
        elif isinstance(reply, list) and reply[0] == b"subscribe":
            self._subscribed(reply[1])
        elif reply in PONGS:
            self._ponged.set()
            if self._pinged_at:
                self._lag(monotonic() - self._pinged_at.popleft())
