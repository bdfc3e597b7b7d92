"""One gRPC call on an HTTP/2 connection: turns the bytes of DATA frames into messages, headers into a status.
Pure.

`data` is the hot path. For a message that arrived whole in one frame it costs one struct read and one slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from msgspec import Struct, field

from proxy.hatchet.grpc.frames import HTTP_CODES, MESSAGE
from proxy.hatchet.grpc.status import Code

MAX_STATUS_DIGITS: Final = 3  # of the trailer `grpc-status`

Outcome = tuple[
    int, str, Exception | None
]  # gRPC code, its text, and the error that `on_message` raised, if any


class Call(Struct, eq=False):
    """One request and its response: each message goes to `on_message`, the one outcome to `on_end`.

    `refused` is true if the server did not begin to process the call (REFUSED_STREAM, or beyond the last
    stream of a GOAWAY): the call can safely be made again.
    """

    on_message: Callable[[bytes], None]
    on_end: Callable[[int, str, Exception | None], None]
    max_message: int = 0  # bytes
    number: int = 0  # the HTTP/2 stream
    open: bool = True
    headers_received: bool = False
    refused: bool = False
    partial: bytearray = field(default_factory=bytearray)  # the beginning of a message
    unacknowledged: int = 0  # bytes received for which no WINDOW_UPDATE was sent yet

    def data(self, data: bytes, start: int, end: int) -> Outcome | None:
        """Process `data[start:end]` of the response; return an outcome if that ends the call."""
        partial = self.partial
        if partial:
            partial += data[start:end]
            if len(partial) < MESSAGE.size:
                return None
            compressed, length = MESSAGE.unpack_from(partial)
            if not compressed and length <= self.max_message and len(partial) < MESSAGE.size + length:
                return None
            data, start, end = bytes(partial), 0, len(partial)
            self.partial = bytearray()
        while end - start >= MESSAGE.size and self.open:
            compressed, length = MESSAGE.unpack_from(data, start)
            if compressed:
                return Code.INTERNAL, "compressed, though the client did not offer that", None
            if length > self.max_message:
                return Code.RESOURCE_EXHAUSTED, "message larger than max", None
            stop = start + MESSAGE.size + length
            if stop > end:
                break
            try:
                self.on_message(data[start + MESSAGE.size : stop])
            except Exception as error:  # an error of the receiver ends this call alone, not the connection
                return Code.CANCELLED, "", error
            start = stop
        if start < end:
            self.partial += data[start:end]
        return None

    def headers(self, headers: Mapping[bytes, bytes], last: bool) -> Outcome | None:
        """Process headers or trailers; return an outcome if they end the call.

        `last` is the END_STREAM flag. A response can consist of trailers only (gRPC's "Trailers-Only").
        """
        if not self.headers_received:
            status = headers.get(b":status", b"")
            if status.startswith(b"1"):
                return None
            self.headers_received = True
            grpc = headers.get(b"content-type", b"").startswith(b"application/grpc")
            if status != b"200" or not (grpc or b"grpc-status" in headers):
                code = HTTP_CODES.get(status, Code.UNKNOWN)
                return code, f"HTTP status {status.decode('ascii', 'replace')[:3]}", None
        return self._trailers(headers) if last else None

    def _trailers(self, headers: Mapping[bytes, bytes]) -> Outcome:
        status = headers.get(b"grpc-status", b"")
        # A gRPC status has one or two digits; int() refuses a text of thousands with an error of its own.
        code = int(status) if status.isdigit() and len(status) <= MAX_STATUS_DIGITS else Code.UNKNOWN
        text = unquote(headers.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
        if code == Code.OK and self.partial:
            return Code.INTERNAL, "ended within a message", None
        return code, text, None
