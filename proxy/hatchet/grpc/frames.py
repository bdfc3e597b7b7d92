"""HTTP/2 frames, settings and error codes, as far as gRPC needs them (RFC 9113). Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from proxy.hatchet.grpc.status import Code

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME: Final = struct.Struct(">HBBBI")  # length (16 + 8 bits), type, flags, stream
MESSAGE: Final = struct.Struct(">BI")  # prefix of a gRPC message: compressed, length
NUMBER: Final = struct.Struct(">I")
SETTING: Final = struct.Struct(">HI")

DATA, HEADERS, _, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
REFUSED_STREAM: Final = 7
CANCEL: Final = 8

TOO_MANY_PINGS: Final = "too_many_pings"  # debug data of GOAWAY, the same from every gRPC server (gRFC A8)

FRAME_BYTES: Final = 16_384  # the default of SETTINGS_MAX_FRAME_SIZE, which the client does not raise
HEADER_BYTES: Final = 64 * 1024  # of one response's headers; C-core accepts 16 KB, a proxy may add some
# Bytes in flight per stream and per connection: far more than a busy run sends in one round trip. They do not
# bound memory, because messages are consumed at once; `max_message` does.
STREAM_WINDOW: Final = 1024 * 1024
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
FIRST_WINDOW: Final = 65_535  # before SETTINGS and WINDOW_UPDATE (RFC 9113, 6.9.2)
LAST_STREAM: Final = 2**31 - 1  # the highest stream number

# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md and PROTOCOL-HTTP2.md
HTTP_CODES: Final = {
    b"400": Code.INTERNAL,
    b"401": Code.UNAUTHENTICATED,
    b"403": Code.PERMISSION_DENIED,
    b"404": Code.UNIMPLEMENTED,
    b"429": Code.UNAVAILABLE,
    b"502": Code.UNAVAILABLE,
    b"503": Code.UNAVAILABLE,
    b"504": Code.UNAVAILABLE,
}
RESET_CODES: Final = {
    REFUSED_STREAM: Code.UNAVAILABLE,
    CANCEL: Code.CANCELLED,
    11: Code.RESOURCE_EXHAUSTED,
    12: Code.PERMISSION_DENIED,
}


class ProtocolError(Exception):
    """The peer violates HTTP/2, or does not speak it."""


def frame(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """A frame of type `kind` on stream `number`."""
    length = len(body)
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, number) + body


def settings(values: Mapping[int, int]) -> bytes:
    """The body of a SETTINGS frame."""
    return b"".join(SETTING.pack(what, value) for what, value in values.items())


def window_update(number: int, by: int) -> bytes:
    """A WINDOW_UPDATE frame that gives `by` bytes back to stream `number`; 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, number, NUMBER.pack(by))


def unpadded(flags: int, body: bytes) -> bytes:
    """The body of a DATA or HEADERS frame without padding. Raises ProtocolError, IndexError."""
    if not flags & PADDED:
        return body
    if body[0] >= len(body):
        raise ProtocolError("the padding is longer than the frame")
    return body[1 : len(body) - body[0]]
