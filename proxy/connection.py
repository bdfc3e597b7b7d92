"""The connection: a uvicorn protocol whose streams are written to the transport by the publisher.

uvicorn parses the request, runs the ASGI application and writes the response's head; from then on a stream's
bytes go straight to the transport (`SocketSink`), because an ASGI ``send`` per client and event costs more
than the rest together. Flow control stays: the transport's pause and resume reach the reader, its loss ends
him.

The law: between the head and the last chunk only the sink writes; the head and the last chunk are uvicorn's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from proxy.guard import GuardedProtocol

EXTENSION: Final = "stream_proxy.connection"
HIGH_WATER: Final = (
    64 * 1024
)  # bytes in user space before a reader pauses: a fast client is never idle with it
SEND_BUFFER: Final = 64 * 1024  # SO_SNDBUF (the kernel doubles it): without it a stuck client hides megabytes


class SocketSink:
    """The transport of one connection, as a reader's sink."""

    __slots__ = ("_protocol", "lost", "on_lost", "on_pause", "on_resume", "paused")

    def __init__(self, protocol: StreamProtocol) -> None:
        self._protocol: StreamProtocol | None = protocol
        self.paused = False
        self.lost = False
        self.on_lost: Callable[[], object] = _ignore
        self.on_pause: Callable[[], object] = _ignore
        self.on_resume: Callable[[], object] = _ignore

    def write(self, body: bytes) -> None:
        """One chunk of the chunked response (RFC 9112, 7.1); `body` is never empty: that were the last."""
        protocol = self._protocol
        if protocol is not None:
            protocol.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    def abort(self) -> None:
        """Close at once, whatever is still unsent."""
        if self._protocol is not None:
            self._protocol.transport.abort()

    def pause(self) -> None:
        self.paused = True
        self.on_pause()

    def resume(self) -> None:
        self.paused = False
        self.on_resume()

    def rest(self) -> None:
        """The stream is over, the connection may go on: nobody listens until the next one."""
        self.on_lost = self.on_pause = self.on_resume = _ignore

    def lose(self) -> None:
        """The connection is gone; lets go of it."""
        self.lost = True
        self._protocol = None
        on_lost = self.on_lost
        self.rest()
        on_lost()


class StreamProtocol(GuardedProtocol):
    """HTTP/1.1 of uvicorn within our limits, with a sink in each request's scope."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink = SocketSink(self)  # one per connection: requests on it are served one after the other

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._sink.lose()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"sink": self._sink}}

    # -- flow control --

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sink.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._sink.resume()


def listen(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """A listening socket whose connections inherit `SEND_BUFFER`. Raises OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _ignore() -> None:
    """Nobody listens."""
