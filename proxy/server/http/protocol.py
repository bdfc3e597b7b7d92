"""The connection: a uvicorn protocol whose streams are written to the transport by the publisher.

This is the way of what the doorway does not serve in place, and `SocketSink` is the sink of both: uvicorn
parses the request and runs the ASGI application. Then the stream takes the connection over: the
response's head goes out with its first bytes, all others straight to the transport (`SocketSink`), and the
ASGI task ends, because a task, its coroutines and a ``send`` per client and event cost more than the rest
together. Flow control stays: the transport's pause, resume and loss are told to the sink's owner.

The law: a connection that is taken over answers nothing else until the stream is over. What a client says
meanwhile (no EventSource does) is not read, and its connection is closed after the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final, Protocol

from proxy.formats.chunked import LAST, chunk
from proxy.server.http.request_limits import GuardedProtocol

Headers = list[tuple[bytes, bytes]]

CLOSE: Final = (b"connection", b"close")
EXTENSION: Final = "stream_proxy.connection"
HIGH_WATER: Final = 32 * 1024
"""Bytes in user space before a reader pauses, beside twice as many in the kernel: a fast client is never idle
with it, and one that stops reading holds little."""
SEND_BUFFER: Final = 64 * 1024  # SO_SNDBUF (the kernel doubles it): without it a stuck client hides megabytes


# Times the write timeout that TCP waits for a peer who acknowledges nothing: by itself it waits a quarter of
# an hour. A peer who acknowledges but reads nothing is ended by the write timeout before that.
PATIENCE: Final = 2


class Owner(Protocol):
    """Who is told what becomes of a sink."""

    def pause(self) -> None:
        """It should not be written to for now."""

    def resume(self) -> None:
        """It has room again."""

    def lost(self) -> None:
        """The connection is gone."""


class Nobody:
    """Nobody listens."""

    def pause(self) -> None:
        """Nothing is written."""

    def resume(self) -> None:
        """Nothing is written."""

    def lost(self) -> None:
        """Nobody misses it."""


NOBODY: Final[Owner] = Nobody()


class Connection(Protocol):
    """Whose transport a sink writes to."""

    transport: asyncio.Transport
    expects_signs_within: float | None  # what its listener was told of that; None: nothing

    def begin_stream(self, scope: object, headers: Headers) -> bytes | None:
        """Take the connection from whoever parses requests; the response's head."""

    def end_stream(self) -> None:
        """Close the response; the connection goes back, or is closed."""


class SocketSink:
    """The transport of one connection, as a reader's sink."""

    __slots__ = ("_begun", "_protocol", "gone", "owner", "paused")

    def __init__(self, protocol: Connection) -> None:
        self._protocol: Connection | None = protocol
        self._begun = b""  # what waits for the first frames, to go out with them
        self.paused = False
        self.gone = False
        self.owner = NOBODY

    def take_over(self, scope: object, headers: Headers, body: bytes) -> bool:
        """From now on the connection is the stream's; False where other requests already wait behind it.

        The response begins with `headers` and `body`; both wait for the first frames, or for `begun`.
        """
        head = None if self._protocol is None else self._protocol.begin_stream(scope, headers)
        if head is None:
            return False
        self._begun = head + chunk(body)
        return True

    def expect_signs_within(self, seconds: float) -> None:
        """A peer that is gone without a word is lost so soon after the next heartbeat, where TCP can."""
        protocol = self._protocol
        if protocol is not None and protocol.expects_signs_within != seconds:
            _expect_signs_within(protocol.transport.get_extra_info("socket"), seconds)

    def write(self, body: bytes) -> None:
        """One chunk of the response; `body` is never empty."""
        protocol = self._protocol
        if protocol is None:
            return
        if self._begun:
            begun, self._begun = self._begun, b""
            protocol.transport.write(begun + chunk(body))
        else:
            protocol.transport.write(chunk(body))

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        """`write`, of a chunk that was made once for many."""
        protocol = self._protocol
        if self._begun:
            self.write(body)
        elif protocol is not None:
            protocol.transport.write(chunk)

    def begun(self) -> None:
        """There are no frames yet: what waits for them goes out."""
        if self._begun and self._protocol is not None:
            begun, self._begun = self._begun, b""
            self._protocol.transport.write(begun)

    def finish(self) -> None:
        """The stream is over: write the last chunk and give the connection back."""
        self.begun()
        self.owner = NOBODY
        if self._protocol is not None:
            self._protocol.end_stream()

    def abort(self) -> None:
        """Close at once, whatever is still unsent."""
        self.owner = NOBODY
        if self._protocol is not None:
            self._protocol.transport.abort()

    # -- the connection tells --

    def pause(self) -> None:
        self.paused = True
        self.owner.pause()

    def resume(self) -> None:
        self.paused = False
        self.owner.resume()

    def lose(self) -> None:
        self.gone = True
        self._protocol = None
        owner, self.owner = self.owner, NOBODY
        owner.lost()


class StreamProtocol(GuardedProtocol):
    """HTTP/1.1 of uvicorn within our limits, with a sink in each request's scope."""

    expects_signs_within: float | None = None

    def __init__(self, *args: Any, visit: object = None, **kwargs: Any) -> None:
        """`visit`: what is under way already of the first request, for whoever serves it."""
        super().__init__(*args, **kwargs)
        self._sink = SocketSink(self)  # one per connection: requests on it are served one after the other
        self._visit = visit
        self._streaming = False
        self._reusable = False

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._sink.lose()

    def data_received(self, data: bytes) -> None:
        if self._streaming:
            self._reusable = False
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"sink": self._sink, "visit": self._visit}}
        self._visit = None

    # -- the stream --

    def begin_stream(self, scope: object, headers: Headers) -> bytes | None:
        """Take the connection from uvicorn, to which the response is complete; the response's head."""
        cycle = self.cycle
        if cycle is None or cycle.scope is not scope or cycle.disconnected or cycle.response_started:
            return None
        self._streaming = True
        keep_alive = cycle.keep_alive and CLOSE not in cycle.scope["headers"]
        self._reusable = keep_alive and self.is_whole
        self.end_request()  # a body that is still to come is nobody's any more
        cycle.response_started = cycle.response_complete = True
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]
        return head_of([*cycle.default_headers, *headers, *(() if keep_alive else (CLOSE,))])

    def end_stream(self) -> None:
        """Close the response; the connection goes back to uvicorn, or is closed."""
        self._streaming = False
        self.transport.write(LAST)
        if self._reusable:
            self.on_response_complete()
        else:
            self.transport.close()

    # -- flow control --

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sink.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._sink.resume()


def listen_for_signs(sock: socket.socket, seconds: float) -> None:
    """Connections that are accepted from now on begin with what `SocketSink.expect_signs_within` says."""
    _expect_signs_within(sock, seconds)


def _expect_signs_within(sock: socket.socket | None, seconds: float) -> None:
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # it is no TCP, or gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * PATIENCE * 1000))


def head_of(headers: Headers) -> bytes:
    """The head of a chunked response. Raises ValueError for a header that would make another one."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers):
        raise ValueError("a header of the response holds a line break")
    return b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % lines


def bound(host: str, port: int) -> socket.socket:
    """A socket of ours, not yet listening, whose connections inherit `SEND_BUFFER`. Raises OSError.

    It listens once the server answers signals too: who can connect can also be told to drain.
    """
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
