"""One gRPC call on an HTTP/2 connection: frames' bytes to messages, headers to an outcome; pure.

`data` is the hot path: for a message that came whole in one frame it costs a struct read and a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from proxy.hatchet.grpc.frames import HTTP_CODES, MESSAGE
from proxy.hatchet.grpc.status import Code

Outcome = tuple[int, str, Exception | None]  # a gRPC code and its text, or the error that `on_message` raised


@dataclass(slots=True, eq=False)
class Call:
    """One request: each message goes to `on_message`, the one outcome to `on_end`.

    `refused` says that Hatchet has not begun with it: it can be made again.
    """

    on_message: Callable[[bytes], None]
    on_end: Callable[[int, str, Exception | None], None]
    max_message: int = 0
    number: int = 0
    open: bool = True
    answered: bool = False
    refused: bool = False
    partial: bytearray = field(default_factory=bytearray)
    owed: int = 0  # window to give back

    def data(self, data: bytes, start: int, end: int) -> Outcome | None:
        """Take in bytes of the answer; an outcome where they end the call."""
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
                return Code.INTERNAL, "compressed, though that was not offered", None
            if length > self.max_message:
                return Code.RESOURCE_EXHAUSTED, "message larger than max", None
            stop = start + MESSAGE.size + length
            if stop > end:
                break
            try:
                self.on_message(data[start + MESSAGE.size : stop])
            except Exception as error:  # the receiver's own: it ends this call, nothing else
                return Code.CANCELLED, "", error
            start = stop
        if start < end:
            self.partial += data[start:end]
        return None

    def headers(self, headers: Mapping[bytes, bytes], last: bool) -> Outcome | None:
        """Take in headers or trailers (the first can be both); an outcome where they end the call."""
        if not self.answered:
            status = headers.get(b":status", b"")
            if status.startswith(b"1"):
                return None
            self.answered = True
            grpc = headers.get(b"content-type", b"").startswith(b"application/grpc")
            if status != b"200" or not (grpc or b"grpc-status" in headers):
                code = HTTP_CODES.get(status, Code.UNKNOWN)
                return code, f"HTTP status {status.decode('ascii', 'replace')[:3]}", None
        return self._trailers(headers) if last else None

    def _trailers(self, headers: Mapping[bytes, bytes]) -> Outcome:
        status = headers.get(b"grpc-status", b"")
        code = int(status) if status.isdigit() else Code.UNKNOWN
        text = unquote(headers.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
        if code == Code.OK and self.partial:
            return Code.INTERNAL, "ended within a message", None
        return code, text, None
