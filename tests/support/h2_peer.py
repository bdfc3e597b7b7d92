"""A gRPC server on python-hyper's h2: an HTTP/2 implementation that shares no code with the proxy's client.

h2 validates what it receives: frame order, stream states, flow control windows, header blocks. A client that
violates RFC 9113 makes `h2` raise. `H2Peer` is without sockets; `h2_server` serves it on loopback.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings

from proxy.hatchet.grpc.http2 import Http2

E = TypeVar("E", bound=Event)

GRPC_HEADERS: Final = [(":status", "200"), ("content-type", "application/grpc")]
FRAME_BYTES: Final = 16_384


def framed(message: bytes) -> bytes:
    """A gRPC message with its prefix: not compressed, length (PROTOCOL-HTTP2.md of gRPC)."""
    return struct.pack(">?I", False, len(message)) + message


def unframed(data: bytes) -> list[bytes]:
    """The messages in a sequence of length-prefixed messages."""
    found = []
    while data:
        compressed, length = struct.unpack_from(">?I", data)
        assert not compressed
        found.append(data[5 : 5 + length])
        assert len(found[-1]) == length
        data = data[5 + length :]
    return found


class Starved(AssertionError):
    """The client gives no window back: the server can never send the rest."""


class H2Peer:
    """The server's side of one connection, and what it received."""

    def __init__(self, settings: Mapping[SettingCodes, int] | None = None) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        if settings:  # in the first SETTINGS frame already
            self.h2.local_settings = Settings(client=False, initial_values={**settings})
        self.h2.initiate_connection()
        self.events: list[Event] = []
        self.requests: dict[int, dict[str, str]] = {}  # stream -> headers
        self.bodies: dict[int, bytes] = {}  # stream -> bytes received
        self.ended: list[int] = []  # streams whose request is complete
        self._unsent: list[tuple[int, memoryview, bool, int | None]] = []

    def receive(self, data: bytes) -> list[Event]:
        """Process bytes of the client. Raises h2's ProtocolError if the client violates HTTP/2."""
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, RequestReceived):
                assert event.headers is not None and event.stream_id is not None
                self.requests[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                self.bodies[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                assert event.data is not None and event.stream_id is not None
                assert event.flow_controlled_length is not None
                self.bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                assert event.stream_id is not None
                self.ended.append(event.stream_id)
        self.events += events
        return events

    def of(self, kind: type[E]) -> list[E]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def send(
        self, stream: int, data: bytes, *, frame: int = FRAME_BYTES, end: bool = False, pad: int | None = None
    ) -> None:
        """Queue a response's bytes in DATA frames of at most `frame` bytes, each padded by `pad` bytes."""
        pieces = [memoryview(data)[at : at + frame] for at in range(0, len(data), frame)] or [memoryview(b"")]
        for piece in pieces:
            self._unsent.append((stream, piece, end and piece is pieces[-1], pad))

    def flush(self) -> bytes:
        """The bytes to send now: queued DATA as far as the client's flow control windows allow."""
        waiting = []
        blocked: set[int] = set()
        for stream, piece, end, pad in self._unsent:
            size = len(piece) + (0 if pad is None else pad + 1)
            if stream in blocked or size > self.h2.local_flow_control_window(stream):
                blocked.add(stream)
                waiting.append((stream, piece, end, pad))
            else:
                self.h2.send_data(stream, bytes(piece), end_stream=end, pad_length=pad)
        self._unsent = waiting
        return self.h2.data_to_send()

    @property
    def blocked(self) -> bool:
        """Whether queued DATA waits for the client's window."""
        return bool(self._unsent)

    def trailers(self, stream: int, status: int = 0, text: str = "") -> None:
        """End a response."""
        headers = [("grpc-status", str(status)), *([("grpc-message", text)] if text else [])]
        self.h2.send_headers(stream, headers, end_stream=True)


def exchange(client: Http2, peer: H2Peer) -> None:
    """Pass bytes both ways until neither side has more to send. Raises Starved."""
    while True:
        sent = client.take()
        if sent:
            peer.receive(sent)
        answered = peer.flush()
        if answered:
            client.receive(answered)
        if not sent and not answered:
            if peer.blocked:
                raise Starved("queued DATA waits for a WINDOW_UPDATE that the client does not send")
            return


Handler = Callable[[H2Peer, int], None]
"""Called with each complete request and its stream; sends the response through the peer."""


class _Served(asyncio.Protocol):
    def __init__(self, server: H2Server) -> None:
        self._server = server
        self._peer = H2Peer(server.settings)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections.append(self)
        transport.write(self._peer.flush())

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        try:
            events = self._peer.receive(data)
            for event in events:
                if isinstance(event, StreamEnded):
                    assert event.stream_id is not None
                    self._server.handler(self._peer, event.stream_id)
        except Exception as error:  # the test asserts that there was none
            self._server.errors.append(error)
            self.transport.abort()
            return
        self.transport.write(self._peer.flush())

    @property
    def peer(self) -> H2Peer:
        return self._peer


class H2Server:
    """A listening gRPC server; `errors` has what h2 raised about its clients."""

    def __init__(self, handler: Handler, settings: Mapping[SettingCodes, int] | None) -> None:
        self.handler, self.settings = handler, settings
        self.connections: list[_Served] = []
        self.errors: list[Exception] = []
        self.host_port = ""


@asynccontextmanager
async def h2_server(
    handler: Handler, settings: Mapping[SettingCodes, int] | None = None
) -> AsyncIterator[H2Server]:
    """Serve on a free port of loopback; asserts at the end that h2 accepted everything the clients sent."""
    made = H2Server(handler, settings)
    server = await asyncio.get_running_loop().create_server(lambda: _Served(made), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    made.host_port = f"{host}:{port}"
    try:
        yield made
    finally:
        server.close()
        for connection in made.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await server.wait_closed()
    assert made.errors == []
