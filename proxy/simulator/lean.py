"""Lean: the same gRPC face on asyncio alone, for benchmarks that want 20,000 chunks a second from one core.

grpc.aio takes some 60 µs to send one message; here it is a fraction of that, because what is sent in one turn
of the loop is written at once. Just enough HTTP/2 for one kind of client: no TLS, no requests that stream (so
nobody waits for results here), no priorities. Flow control is kept. (RFC 9113, RFC 7541, PROTOCOL-HTTP2.md)
"""

from __future__ import annotations

import asyncio
import gzip
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote

import grpc
from hpack import Decoder

from proxy.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME,
    FRAME_BYTES,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MESSAGE,
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
from proxy.simulator.wire import Feed, Wire
from proxy.stubs import SUBSCRIBE

OPENING = b"\x88\x0f\x10\x10application/grpc"  # :status 200 and content-type, as literals of the static table
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


class _Abort(Exception):
    """A call that ends with a status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class Stream:
    """One call: what `Wire` knows as its context, and a feed's listener."""

    def __init__(self, connection: Connection, number: int, headers: dict[str, str]) -> None:
        self.connection, self.number, self.headers = connection, number, headers
        self.window = connection.first_window
        self.body = bytearray()
        self.waiting: deque[bytes] = deque()  # DATA frames' bodies for which there was no room
        self.feed: Feed | None = None
        self.task: asyncio.Task[None] | None = None
        self._opened = False
        self._trailers = b""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return list(self.headers.items())

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        raise _Abort(code, details)

    def give(self, wire: bytes) -> None:
        """One message; sent as far as the windows allow."""
        self._open()
        body = MESSAGE.pack(0, len(wire)) + wire
        if self.waiting or len(body) > min(self.window, self.connection.window, FRAME_BYTES):
            self.waiting.extend(body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES))
            self.flush()
        else:
            self._data(body)

    def end(self, status: str, details: str = "") -> None:
        """The status, after all that is waiting."""
        self._open()
        code = grpc.StatusCode[status].value[0]
        told = _literal(b"grpc-status", str(code).encode())
        self._trailers = told + (_literal(b"grpc-message", quote(details).encode()) if details else b"")
        self.flush()

    def flush(self) -> None:
        """Send what there is room for now, and then the end."""
        connection = self.connection
        while self.waiting and len(self.waiting[0]) <= min(self.window, connection.window):
            self._data(self.waiting.popleft())
        if self._trailers and not self.waiting:
            connection.send(frame(HEADERS, END_HEADERS | END_STREAM, self.number, self._trailers))
            connection.streams.pop(self.number, None)

    def _data(self, body: bytes) -> None:
        self.window -= len(body)
        self.connection.window -= len(body)
        self.connection.send(frame(DATA, 0, self.number, body))

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self.connection.send(frame(HEADERS, END_HEADERS, self.number, OPENING))


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, wire: Wire, all_: set[Connection]) -> None:
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

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        stream.waiting.clear()
        if stream.task is not None:
            stream.task.cancel()
        if stream.feed is not None:
            self._wire.close(stream.feed)

    async def _call(self, stream: Stream) -> None:
        context: Any = stream
        path = stream.headers.get(":path", "")
        try:
            request = _message(stream.body)
            if path == SUBSCRIBE:
                stream.feed = await self._wire.open(request, context, stream)
            elif path in self._wire.calls:
                stream.give(await self._wire.calls[path](request, context))
                stream.end("OK")
            else:
                raise _Abort(UNIMPLEMENTED, f"the lean engine has no {path}")
        except _Abort as abort:
            stream.end(abort.code.name, abort.details)


class LeanServer:
    """The listener, with the few verbs of a grpc.aio server that `Engine` uses."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._connections: set[Connection] = set()

    async def listen(self, host: str, port: int) -> int:
        """Listen; the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._wire, self._connections), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace: float | None) -> None:
        """Stop listening; close every connection after `grace`."""
        self._server.close()
        await asyncio.sleep(grace or 0)
        for connection in tuple(self._connections):
            connection.transport.close()


def _message(body: bytearray) -> bytes:
    compressed, length = MESSAGE.unpack_from(body)
    raw = bytes(body[MESSAGE.size : MESSAGE.size + length])
    return gzip.decompress(raw) if compressed else raw


def _literal(name: bytes, value: bytes) -> bytes:
    """A header as a literal without indexing; both are shorter than 127 bytes, or cut."""
    value = value[:126]
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
