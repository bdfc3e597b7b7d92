"""The same gRPC API on asyncio alone, for benchmarks that need 20,000 chunks a second from one core.

grpc.aio takes some 60 µs to send one message; here it is a fraction of that, because what is sent in one turn
of the loop is written at once. Just enough HTTP/2 for one kind of client: no TLS, no requests that stream
(so no SubscribeToWorkflowRuns), no priorities. Flow control is kept. (RFC 9113, RFC 7541, PROTOCOL-HTTP2.md)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from hpack import Decoder

from proxy.core.accepting import stop_accepting
from proxy.hatchet.grpc.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    unpadded,
    window_update,
)
from proxy.hatchet.protobuf import SUBSCRIBE
from proxy.simulator.api.grpc import GrpcApi
from proxy.simulator.api.stream import Abort, Stream

UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, wire: GrpcApi, all_: set[Connection]) -> None:
        self._wire, self._all = wire, all_
        self._in, self._out = bytearray(), list[bytes]()
        self._decoder = Decoder()
        self._headers: tuple[int, int, bytes] | None = None  # of a stream whose headers are not whole yet
        self.first_window = self.window = FIRST_WINDOW
        self.streams: dict[int, Stream] = {}
        self._kinds: dict[int, Callable[[int, int, bytes], None]] = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            CONTINUATION: self._on_continuation,
            SETTINGS: self._on_settings,
            WINDOW_UPDATE: self._on_window_update,
            RST_STREAM: self._on_reset,
            PING: lambda flags, number, body: None if flags & ACK else self.send(frame(PING, ACK, 0, body)),
        }

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport
        self._preface = len(PREFACE)
        self._all.add(self)
        self.send(frame(SETTINGS, 0, 0, b""))

    def connection_lost(self, error: Exception | None) -> None:
        self._all.discard(self)
        for stream in tuple(self.streams.values()):
            self._forget(stream)

    def send(self, wire: bytes) -> None:
        """Write it with whatever else this turn of the loop brings."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._write)
        self._out.append(wire)

    def _write(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        self._in += data
        if self._preface:
            if len(self._in) < self._preface:
                return
            del self._in[: self._preface]
            self._preface = 0
        at = 0
        while len(self._in) - at >= FRAME.size:
            high, low, kind, flags, number = FRAME.unpack_from(self._in, at)
            end = at + FRAME.size + (high << 8 | low)
            if len(self._in) < end:
                break
            handle = self._kinds.get(kind)
            if handle is not None:
                handle(flags, number, bytes(self._in[at + FRAME.size : end]))
            at = end
        del self._in[:at]

    def _on_settings(self, flags: int, number: int, body: bytes) -> None:
        if flags & ACK:
            return
        for what, value in SETTING.iter_unpack(body):
            if what == INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self.first_window
                self.first_window = value
        self.send(frame(SETTINGS, ACK, 0, b""))

    def _on_window_update(self, flags: int, number: int, body: bytes) -> None:
        by = NUMBER.unpack(body)[0]
        if number == 0:
            self.window += by
            for stream in tuple(self.streams.values()):
                if stream.waiting:
                    stream.flush()
        elif number in self.streams:
            self.streams[number].window += by
            self.streams[number].flush()

    def _on_headers(self, flags: int, number: int, body: bytes) -> None:
        body = unpadded(flags & PADDED, body)[5 if flags & PRIORITY else 0 :]
        self._headers = (flags, number, body)
        self._headers_if_whole(flags)

    def _on_continuation(self, flags: int, number: int, body: bytes) -> None:
        if self._headers is not None:
            began, first, before = self._headers
            self._headers = (began, first, before + body)
            self._headers_if_whole(flags)

    def _headers_if_whole(self, flags: int) -> None:
        if self._headers is None or not flags & END_HEADERS:
            return
        _, number, block = self._headers
        self._headers = None
        headers = {_text(name): _text(value) for name, value in self._decoder.decode(block)}
        self.streams[number] = Stream(self, number, headers)

    def _on_data(self, flags: int, number: int, body: bytes) -> None:
        if body:
            self.send(window_update(0, len(body)))
        stream = self.streams.get(number)
        if stream is None:
            return
        stream.body += unpadded(flags & PADDED, body)
        if flags & END_STREAM:
            stream.task = asyncio.get_running_loop().create_task(self._call(stream))

    def _on_reset(self, flags: int, number: int, body: bytes) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self._forget(stream)

    def ended(self, number: int) -> None:
        self.streams.pop(number, None)

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        stream.waiting.clear()
        if stream.task is not None:
            stream.task.cancel()
        if stream.subscription is not None:
            self._wire.close(stream.subscription)

    async def _call(self, stream: Stream) -> None:
        context: Any = stream
        path = stream.headers.get(":path", "")
        try:
            request = stream.request()
            if path == SUBSCRIBE:
                stream.subscription = await self._wire.open(request, context, stream)
            elif path in self._wire.calls:
                stream.send(await self._wire.calls[path](request, context))
                stream.end("OK")
            else:
                raise Abort(UNIMPLEMENTED, f"the lean engine has no {path}")
        except Abort as abort:
            stream.end(abort.code.name, abort.details)


class LeanServer:
    """The listener, with the few verbs of a grpc.aio server that `Engine` uses."""

    def __init__(self, wire: GrpcApi) -> None:
        self._wire = wire
        self._connections: set[Connection] = set()

    async def listen(self, host: str, port: int) -> int:
        """Listen; the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._wire, self._connections), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace: float | None) -> None:
        """Stop listening; close every connection after `grace`."""
        await stop_accepting(self._server.sockets)
        self._server.close()
        await asyncio.sleep(grace or 0)
        for connection in tuple(self._connections):
            connection.transport.close()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
