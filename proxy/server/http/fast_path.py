"""The fast path: a connection that answers requests for streams itself, without ASGI.

    bytes -> RequestParser -> find_stream -> StreamRequest.start(sink = the connection) -> Session -> socket

Nearly every request is a plain GET for a stream. For those the connection is the session's sink: frames go
straight to the transport, with no ASGI application, no task and no ``send`` per client and event. Any other
request (another method, a body, an upgrade, another path, more than a few kilobytes) is handed to uvicorn's
protocol with every byte that came, and uvicorn has the connection from then on.

A connection does one thing at a time: it waits for a request, answers one, or streams. Bytes that a client
sends meanwhile (no EventSource does) wait, up to the size of a request. Beyond that they are not read, and
the connection is closed afterwards.
"""

from __future__ import annotations

import asyncio
import os
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.server import ServerState

from proxy.access.authenticator import RequestHead
from proxy.core.tasks import start_eagerly
from proxy.core.timeouts import TimeoutQueue
from proxy.formats.chunked import LAST, chunk
from proxy.server.http.client_request import ClientRequest
from proxy.server.http.cors import refusal_headers
from proxy.server.http.request_limits import REQUEST_SECONDS, LimitedProtocol
from proxy.server.http.request_parser import COMPLETE, INCOMPLETE, MAX_BYTES, RequestParser
from proxy.server.http.responses import CHUNKED, CLOSE, Headers, HttpResponse, encode_head, problem
from proxy.server.http.routing import find_stream
from proxy.server.http.sockets import HIGH_WATER, limit_unacknowledged, unsent
from proxy.server.http.stream_request import StreamRequest
from proxy.streams.session import SinkListener
from proxy.teams.hub import Hub

if TYPE_CHECKING:
    from proxy.server.workers.mesh import Mesh

KEEP_ALIVE: Final = 75
"""Seconds that an idle connection stays open; longer than nginx's 60 s, so that nginx is the one to close."""
MAX_HEADS: Final = 64
"""Response heads that are cached within a second: a stream has one for each listed origin in use."""
NO_TRANSPORT: Final = asyncio.Transport()  # of a connection that is not made yet
BUFFERED: Final = -1  # in place of a socket's number: the transport may hold bytes that must go out first


class ConnectionFactory:
    """Makes the connections of one listener and one loop, and holds what they share."""

    def __init__(
        self,
        hub: Hub,
        *,
        ceiling: int | None = None,
        keep_alive: float = KEEP_ALIVE,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """`ceiling`: connections that are held at once, None for no limit; more are closed at once.

        `keep_alive` and `request_seconds`: seconds that a connection may be silent between requests, and
        from being accepted until its first request is here. Call it on the running loop.
        """
        loop = asyncio.get_running_loop()
        self.loop: Final = loop
        self.hub: Final = hub
        self.ceiling: Final = ceiling
        self.request_seconds: Final = request_seconds
        self.arriving: Final = TimeoutQueue(request_seconds, loop)  # a first or a begun request is awaited
        self.idle: Final = TimeoutQueue(keep_alive, loop)  # between two requests
        self.mesh: Mesh | None = None  # the other workers on this address, where there are some
        self.write_timeout: float | None = None  # what accepted sockets inherit (`limit_unacknowledged`)
        self._heads: dict[tuple[Any, ...], bytes] = {}
        self._heads_for: Headers | None = None

    def accepted(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> FastPath:
        """A new connection; uvicorn calls it as it calls its protocol classes."""
        self.serve_as(config, server_state, app_state)
        return FastPath(self)

    def serve_as(self, config: uvicorn.Config, state: ServerState, app_state: dict[str, Any]) -> None:
        """Use what uvicorn passes with each connection that it accepts."""
        self.config, self.state, self.app_state = config, state, app_state

    def passed_on(self, received: bytes) -> FastPath:
        """A connection that another worker accepted and passed on with `received`, after `serve_as`."""
        return FastPath(self, received)

    def passes_on(self, transport: asyncio.Transport, received: bytes) -> bool:
        """Whether the connection was given to the worker to which its request belongs; only with a mesh."""
        assert self.mesh is not None
        return not self.hub.draining and self.mesh.pass_on(transport, received)

    def uvicorn_protocol(self) -> LimitedProtocol:
        """The protocol for what the fast path does not answer.

        It has no ceiling: the connection was counted when it was accepted.
        """
        return LimitedProtocol(
            self.config,
            self.state,
            self.app_state,
            seconds=self.request_seconds,
            cors=partial(refusal_headers, self.hub),
        )

    def stream_head(self, headers: Headers, *, keep_alive: bool) -> bytes:
        """The head of a stream's response; uvicorn replaces its default headers (the date) each second."""
        if self._heads_for is not self.state.default_headers or len(self._heads) >= MAX_HEADS:
            self._heads_for = self.state.default_headers
            self._heads.clear()
        key = (*headers, keep_alive)
        head = self._heads.get(key)
        if head is None:
            head = encode_head(200, [*self._heads_for, *headers, *(() if keep_alive else (CLOSE,)), CHUNKED])
            self._heads[key] = head
        return head


class FastPath(asyncio.Protocol):
    """One connection, and the sink of the stream on it; until it is handed to uvicorn."""

    __slots__ = (
        "_busy", "_factory", "_fd", "_first", "_keep_alive", "_parser", "_received", "_starting", "_timeout",
        "_unsent", "_write_timeout", "listener", "paused", "transport",
    )  # fmt: skip

    def __init__(self, factory: ConnectionFactory, first: bytes = b"") -> None:
        """`first`: what was received before the connection came to this process."""
        self._first = first
        self.transport: asyncio.Transport = NO_TRANSPORT
        self.listener: SinkListener | None = None
        self.paused = False
        self._factory = factory
        self._busy = False  # a request is being answered, or a stream is under way
        self._keep_alive = True
        self._parser: RequestParser | None = None  # of a request that is here in part
        self._received = b""  # the bytes of that request
        self._starting: asyncio.Task[None] | None = None
        self._timeout: TimeoutQueue | None = None  # the queue that it waits in
        self._unsent = b""  # the beginning of a response, which goes out with the first frames
        self._fd = BUFFERED  # the socket's number while nothing waits in the transport
        self._write_timeout = factory.write_timeout

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        factory, connections = self._factory, self._factory.state.connections
        self.transport = transport  # type: ignore[assignment] # an accepted socket reads and writes
        connections.add(self)  # type: ignore[arg-type]
        if factory.ceiling is not None and len(connections) > factory.ceiling:
            self.transport.abort()
        else:
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
            self._wait_in(factory.arriving)
            if self._first:
                first, self._first = self._first, b""
                self.data_received(first)

    def connection_lost(self, exc: Exception | None) -> None:
        self._factory.state.connections.discard(self)
        if self._timeout is not None:
            self._stop_waiting()
        self._parser = None
        if self._starting is not None:
            self._starting.cancel()
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.lost()

    def shutdown(self) -> None:
        """The process drains: close it, or let it be closed after the answer that is under way."""
        if self._busy:
            self._keep_alive = False
        else:
            self.transport.close()

    def timed_out(self) -> None:
        """No request came in time. A silent connection (a browser's spare one) is closed unanswered."""
        self._timeout = None
        if self._received:
            self._hand_over(self._received, due=self._factory.loop.time())  # uvicorn's side answers 408
        else:
            self.transport.close()

    def _wait_in(self, queue: TimeoutQueue) -> None:
        self._timeout = queue
        queue.add(self)

    def _stop_waiting(self) -> float | None:
        """Leave the timeout queue. Returns the time at which a request was due, None if none was awaited."""
        queue, self._timeout = self._timeout, None
        due = None if queue is None else queue.remove(self)
        return due if queue is self._factory.arriving else None

    # -- a request --

    def data_received(self, data: bytes) -> None:
        if self._busy:
            self._received += data
            if len(self._received) > MAX_BYTES:
                self._keep_alive, self._received = False, b""
            return
        parser, received = self._parser, self._received + data
        if parser is None:
            parser, data = RequestParser(), received  # with what came during the last response
        progress = parser.feed(data)
        if progress is INCOMPLETE:
            self._parser, self._received = parser, received
            if self._timeout is not self._factory.arriving:
                self._stop_waiting()
                self._wait_in(self._factory.arriving)
            return
        self._parser, self._received = None, b""
        if self._factory.mesh is not None and self._factory.passes_on(self.transport, received):
            return
        request = self._stream_request(parser) if progress is COMPLETE else None
        if request is None:
            self._hand_over(received, due=self._stop_waiting())
            return
        self._stop_waiting()
        self._busy, self._keep_alive = True, parser.keep_alive
        context = copy_context() if request.traced else None
        task = start_eagerly(self._answer(request), context)
        if task is not None:
            self._starting = task
            self._factory.hub.wait_for(task)

    def _stream_request(self, parser: RequestParser) -> StreamRequest | None:
        """The request for a stream, where the path is a stream's."""
        hub = self._factory.hub
        found = find_stream(hub, parser.path)
        if found is None:
            return None
        team, match = found
        head = RequestHead(parser.headers, None, None, parser.cookies, parser.query)
        peer = self.transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        # The listener speaks no TLS, so the scheme is http, as uvicorn reports it, whatever is in front.
        return StreamRequest(hub, team, match.target, ClientRequest(match.value, head, "http", address))

    async def _answer(self, request: StreamRequest) -> None:
        try:
            response = await request.start(self)
        except Exception as error:
            context = {"message": "a request for a stream failed unexpectedly", "exception": error}
            self._factory.loop.call_exception_handler(context)
            response = problem(500, "the request could not be answered", headers=request.cors)
        finally:
            self._starting = None
        if response is not None:
            self._respond(response)

    def _respond(self, response: HttpResponse) -> None:
        headers = self._factory.state.default_headers
        self._send(response.encode(headers, keep_alive=self._keep_alive))
        self._free()

    def _free(self) -> None:
        """Wait for the next request, or close the connection."""
        self._busy = False
        if not self._keep_alive:
            self.transport.close()
        elif not self.transport.is_closing():
            self._wait_in(self._factory.idle)
            if self._received:
                self._factory.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read what the client sent during the last response, unless it was read with what came after it."""
        unread = self._received and self._parser is None and not self._busy
        if unread and not self.transport.is_closing():
            self.data_received(b"")

    def _hand_over(self, received: bytes, due: float | None) -> None:
        """Give the connection and the bytes of its request to uvicorn; the request must be here by `due`."""
        factory = self._factory
        factory.state.connections.discard(self)
        protocol = factory.uvicorn_protocol()
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if due is not None:
            protocol.expect_by(due)
        if self.paused:
            protocol.pause_writing()  # the transport does not repeat it: an earlier stream's bytes are unsent
        protocol.data_received(received)

    # -- the sink --

    def begin(self, headers: Headers, body: bytes) -> None:
        factory = self._factory
        self._fd = BUFFERED
        self._unsent = factory.stream_head(headers, keep_alive=self._keep_alive) + (
            chunk(body) if body else b""
        )
        write_timeout = factory.hub.server.write_timeout
        if self._write_timeout != write_timeout:  # it was reloaded
            self._write_timeout = write_timeout
            limit_unacknowledged(self.transport.get_extra_info("socket"), write_timeout)

    def flush(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._send(unsent)

    def write(self, body: bytes) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._send(unsent + chunk(body))
        else:
            self._send(chunk(body))

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        """Take bytes that are written to many subscribers: past the transport, if nothing waits there.

        The transport's own checks and buffer take 0.3 µs of uvloop's 3 to 5 µs for a write. What the socket
        does not take is left to the transport, and so is every error.
        """
        if self._fd == BUFFERED:
            self._fd = self._free_socket()
            if self._fd == BUFFERED:
                self.write(body) if self._unsent else self._send(chunk)
                return
        if self.transport.is_closing():
            return
        try:
            sent = os.write(self._fd, chunk)
        except OSError:
            sent = 0
        if sent != len(chunk):
            self._send(chunk[sent:])

    def _free_socket(self) -> int:
        """The socket's number if nothing must be sent before what is written to it now, else BUFFERED."""
        sock = self.transport.get_extra_info("socket")
        waits = self._unsent or sock is None or self.transport.get_write_buffer_size()
        return BUFFERED if waits or self.transport.is_closing() else sock.fileno()

    def _send(self, body: bytes) -> None:
        self._fd = BUFFERED
        self.transport.write(body)

    def finish(self) -> None:
        self._send(self._unsent + LAST)
        self._unsent = b""
        self._free()

    def unsent(self) -> int:
        return unsent(self.transport)

    def abort(self) -> None:
        self.transport.abort()

    def pause_writing(self) -> None:
        self.paused = True
        if self.listener is not None:
            self.listener.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self.listener is not None:
            self.listener.resume()
