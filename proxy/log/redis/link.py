"""A pipelined connection to Redis: commands of one turn of the loop are written at once.

It is lean: appending an event through redis-py costs three times as much with pipelines, and eleven times as
much with commands (`bench/bench_link.py`). It is strict: replies come in the order of the commands, so a
connection on which that is in doubt (a time-out, bytes that are no RESP2, a reply that nobody asked for) is
closed and never used again. Commands that wait for a reply are then answered with `LOST`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from proxy.log.base import LogAway
from proxy.log.redis.resp import ErrorReply, Parser, ProtocolError, Reply, command

CONNECT_TIMEOUT: Final = 3.0  # seconds for a connection, TLS and the first commands
MOST_UNSENT: Final = 64 * 1024 * 1024  # bytes that wait for Redis to read them
CLOSED: Final = "the connection to Redis was closed"
LATE: Final = "Redis did not answer in time"
LOST: Final = ErrorReply("LOST the connection was closed")
"""The reply to a command for which Redis has sent none."""

OnReply = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class Node:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Sender(Protocol):
    """Sends commands to the server that has the keys in them."""

    def send(self, commands: bytes, on_reply: OnReply, number: int = 1) -> None:
        """Send `number` commands; `on_reply` is called once for each, with `LOST` where there is no reply."""

    def close(self) -> None:
        """Close the connection, whose state is not known any more."""


class Link(asyncio.Protocol):
    """One connection. `received` gets every reply of a connection that subscribes; else None."""

    def __init__(self, closed: Callable[[], None], received: OnReply | None = None) -> None:
        self._closed = closed
        self._received = received
        self._parser = Parser()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[OnReply] = deque()
        self._unsent: list[bytes] = []
        self.unasked: Reply = None
        """An error that the server sent unasked, as it does where it takes no clients."""
        self.foreign = b""
        """The first bytes that were no RESP2."""
        self.error: Exception | None = None
        """The error with which the connection ended."""
        self.subscribes = False
        self.open = False
        self.sent = 0  # bytes

    @classmethod
    async def connect(
        cls,
        node: Node,
        *,
        tls: ssl.SSLContext | None,
        closed: Callable[[], None],
        received: OnReply | None = None,
    ) -> Link:
        """Open a connection. Raises OSError, also after `CONNECT_TIMEOUT`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, link = await loop.create_connection(
                lambda: cls(closed, received), node.host, node.port, ssl=tls
            )
        return link

    # -- asyncio's side --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.open = True

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._parser.feed(data)
        except ProtocolError:
            self.foreign = data[:64]
            self.close()
            return
        waiting = self._waiting
        for reply in replies:
            if self.subscribes and self._received is not None:
                self._received(reply)
            elif waiting:
                waiting.popleft()(reply)
            else:
                self.unasked = reply
                self.close()
            if not self.open:
                return

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self.close()

    # -- commands --

    def send(self, commands: bytes, on_reply: OnReply, number: int = 1) -> None:
        """Send `number` commands; `on_reply` is called once for each."""
        if not self.open:
            for _ in range(number):
                self._loop.call_soon(on_reply, LOST)
            return
        self._waiting.extend((on_reply,) * number)
        self.write(commands)

    def write(self, commands: bytes) -> None:
        """Write bytes at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(commands)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is None or not self.open or not unsent:
            return
        body = b"".join(unsent)
        self.sent += len(body)
        self._transport.write(body)
        if self._transport.get_write_buffer_size() > MOST_UNSENT:
            self.close()

    async def call(self, *words: bytes, timeout: float = CONNECT_TIMEOUT) -> Reply:
        """Send a command and wait for its reply. Raises LogAway where none comes in time."""
        return await ask(self, command(*words), timeout)

    def close(self) -> None:
        """Close it; commands without a reply get `LOST`."""
        if self._transport is not None and self.open:
            self._transport.abort()
        self._end()

    def finish(self) -> None:
        """Write the bytes that wait, and close it; commands without a reply get `LOST`."""
        self._flush()
        if self._transport is not None and self.open:
            self._transport.close()
        self._end()

    def _end(self) -> None:
        if not self.open:
            return
        self.open = False
        waiting, self._waiting = self._waiting, deque()
        for on_reply in waiting:
            on_reply(LOST)
        self._closed()


async def ask(sender: Sender, commands: bytes, timeout: float = CONNECT_TIMEOUT) -> Reply:
    """Send one command and wait for its reply. Raises LogAway where none comes in time."""
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answered(reply: Reply) -> None:
        if not future.done():
            future.set_result(reply)

    sender.send(commands, answered)
    try:
        async with asyncio.timeout(timeout):
            reply = await future
    except TimeoutError:
        sender.close()
        raise LogAway(LATE) from None
    if reply is LOST:
        raise LogAway(CLOSED)
    return reply
