"""HTTP/2 frames and their numbers, as far as gRPC needs them: pure (RFC 9113)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from proxy.hatchet.grpc.status import Code

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME: Final = struct.Struct(">HBBBI")  # length (16 + 8 bits), type, flags, stream
MESSAGE: Final = struct.Struct(">BI")  # compressed, length
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

TOO_MANY_PINGS: Final = "too_many_pings"  # GOAWAY's debug data, as every gRPC server writes it

FRAME_BYTES: Final = 16_384  # the default; gRPC servers send no larger frames
HEADER_BYTES: Final = 64 * 1024  # of one answer's headers; C-core takes 16 KB, a proxy may add some
STREAM_WINDOW: Final = 1024 * 1024  # in flight per stream and in all: far more than a busy run sends in one
CONNECTION_WINDOW: Final = 16 * 1024 * 1024  # round trip; memory is bounded by max_message, not by this
FIRST_WINDOW: Final = 65_535
LAST_STREAM: Final = 2**31 - 1

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


class Fault(Exception):
    """The peer does not speak HTTP/2 as it should, or not at all."""


def frame(kind: int, flags: int, number: int, body: bytes) -> bytes:
    length = len(body)
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, number) + body


def settings(values: Mapping[int, int]) -> bytes:
    return b"".join(SETTING.pack(what, value) for what, value in values.items())


def window_update(number: int, by: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, number, NUMBER.pack(by))


def unpadded(flags: int, body: bytes) -> bytes:
    if not flags & PADDED:
        return body
    if body[0] >= len(body):
        raise Fault("a frame is all padding")
    return body[1 : len(body) - body[0]]
