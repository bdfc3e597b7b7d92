"""Stream: one call of the lean server: the context of a `GrpcApi` method, and a subscription's listener."""

from __future__ import annotations

import asyncio
import gzip
from collections import deque
from typing import NoReturn, Protocol
from urllib.parse import quote

import grpc

from proxy.hatchet.grpc.frames import DATA, END_HEADERS, END_STREAM, FRAME_BYTES, HEADERS, MESSAGE, frame
from proxy.simulator.api.subscriptions import Subscription

OPENING = b"\x88\x0f\x10\x10application/grpc"  # :status 200 and content-type, as literals of the static table


class Abort(Exception):
    """A call that ends with a status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class Carrier(Protocol):
    """The connection, as a stream sees it."""

    first_window: int
    window: int

    def send(self, wire: bytes) -> None:
        """Write frames."""

    def ended(self, number: int) -> None:
        """The stream is over."""


class Stream:
    """One call, from its request to its status."""

    def __init__(self, connection: Carrier, number: int, headers: dict[str, str]) -> None:
        self.connection, self.number, self.headers = connection, number, headers
        self.window = connection.first_window
        self.body = bytearray()
        self.waiting: deque[bytes] = deque()  # DATA frames' bodies for which there was no room
        self.subscription: Subscription | None = None
        self.task: asyncio.Task[None] | None = None
        self._opened = False
        self._trailers = b""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return list(self.headers.items())

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        raise Abort(code, details)

    def send(self, wire: bytes) -> None:
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
        ended = _literal(b"grpc-status", str(code).encode())
        self._trailers = ended + (_literal(b"grpc-message", quote(details).encode()) if details else b"")
        self.flush()

    def flush(self) -> None:
        """Send what there is room for now, and then the end."""
        connection = self.connection
        while self.waiting and len(self.waiting[0]) <= min(self.window, connection.window):
            self._data(self.waiting.popleft())
        if self._trailers and not self.waiting:
            connection.send(frame(HEADERS, END_HEADERS | END_STREAM, self.number, self._trailers))
            connection.ended(self.number)

    def _data(self, body: bytes) -> None:
        self.window -= len(body)
        self.connection.window -= len(body)
        self.connection.send(frame(DATA, 0, self.number, body))

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self.connection.send(frame(HEADERS, END_HEADERS, self.number, OPENING))

    def request(self) -> bytes:
        """The one message of the request."""
        compressed, length = MESSAGE.unpack_from(self.body)
        raw = bytes(self.body[MESSAGE.size : MESSAGE.size + length])
        return gzip.decompress(raw) if compressed else raw


def _literal(name: bytes, value: bytes) -> bytes:
    """A header as a literal without indexing; both are shorter than 127 bytes, or cut."""
    value = value[:126]
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
