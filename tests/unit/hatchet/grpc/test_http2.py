"""The client's side of one HTTP/2 connection: bytes in, bytes and outcomes out.

`test_h2_peer.py` runs the same client against a foreign implementation.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.frames import (
    ACK,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADERS,
    MESSAGE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_WINDOW,
    WINDOW_UPDATE,
    ProtocolError,
    frame,
    settings,
)
from proxy.hatchet.grpc.http2 import Http2
from proxy.hatchet.grpc.status import Code

OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
MAX_MESSAGE = 100_000


class Peer:
    """A connection after both sides' settings, with one call begun on stream 1."""

    def __init__(self, calls: int = 1) -> None:
        self.http2 = Http2(MAX_MESSAGE)
        self.encoder = Encoder()
        self.messages: list[bytes] = []
        self.ends: list[tuple[int, str, Exception | None]] = []
        self.http2.receive(frame(SETTINGS, 0, 0, b""))
        self.calls = [self.begin() for _ in range(calls)]
        self.http2.take()

    def begin(self) -> Call:
        call = Call(self.messages.append, lambda code, text, error: self.ends.append((code, text, error)))
        self.http2.begin(((":method", "POST"), ("authorization", "bearer t")), b"request", call)
        return call

    def headers(self, headers: list[tuple[str, str]], flags: int = END_HEADERS, stream: int = 1) -> bytes:
        return frame(HEADERS, flags, stream, self.encoder.encode(headers))

    def trailers(self, status: int = 0, text: str = "", stream: int = 1) -> bytes:
        fields = [("grpc-status", str(status)), ("grpc-message", text)]
        return self.headers(fields, END_HEADERS | END_STREAM, stream)

    def sent(self) -> list[tuple[int, int, int, bytes]]:
        return parsed(self.http2.take())


def parsed(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        high, low, kind, flags, number = FRAME.unpack_from(data)
        length = high << 8 | low
        found.append((kind, flags, number, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def data(body: bytes, flags: int = 0, stream: int = 1) -> bytes:
    return frame(DATA, flags, stream, body)


def message(body: bytes) -> bytes:
    return MESSAGE.pack(0, len(body)) + body


# -- beginning ------------------------------------------------------------------------------------


def test_the_client_begins_with_the_preface_its_settings_and_a_wide_window() -> None:
    greeting = Http2(MAX_MESSAGE).take()
    assert greeting.startswith(PREFACE)
    assert parsed(greeting[len(PREFACE) :]) == [
        (SETTINGS, 0, 0, settings({frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW})),
        (WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW - 65_535)),
    ]


def test_no_call_can_begin_before_the_servers_settings() -> None:
    http2 = Http2(MAX_MESSAGE)
    http2.take()
    assert not http2.can_begin(10)
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.MAX_CONCURRENT_STREAMS: 1})))
    assert http2.can_begin(10)
    assert parsed(http2.take())[-1] == (SETTINGS, ACK, 0, b"")


def test_a_request_is_one_headers_and_one_data_frame() -> None:
    http2 = Http2(MAX_MESSAGE)
    http2.receive(frame(SETTINGS, 0, 0, b""))
    http2.take()
    http2.begin(((":path", "/x/y"),), b"request", Call(lambda m: None, lambda *end: None))
    (headers, body) = parsed(http2.take())
    assert headers[:3] == (HEADERS, END_HEADERS, 1)
    assert [(str(n), str(v)) for n, v in Decoder().decode(headers[3])] == [(":path", "/x/y")]
    assert body == (DATA, END_STREAM, 1, message(b"request"))


def test_the_servers_limit_of_calls_and_its_windows_are_respected() -> None:
    peer = Peer()
    http2 = peer.http2
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.MAX_CONCURRENT_STREAMS: 1})))
    assert not http2.can_begin(1)
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.MAX_CONCURRENT_STREAMS: 9})))
    assert http2.can_begin(1)
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.INITIAL_WINDOW_SIZE: 100})))
    assert http2.can_begin(95)
    assert not http2.can_begin(96)


def test_the_connections_send_window_runs_out_and_is_refilled() -> None:
    peer = Peer(calls=0)
    while peer.http2.can_begin(4000):
        call = peer.begin()
        peer.http2.begin((), b"x" * 4000, call)
    peer.http2.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1_000_000)))
    assert peer.http2.can_begin(4000)


# -- messages -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_arrive_as_sent_however_frames_and_reads_split_them(bodies: list[bytes], draw: Any) -> None:
    peer = Peer()
    stream = b"".join(message(body) for body in bodies)
    wire = peer.headers(OK_HEADERS)
    for piece in cut(stream, draw):
        padding = draw.draw(st.none() | st.integers(0, 9))
        if padding is None:
            wire += data(piece)
        else:
            wire += data(bytes([padding]) + piece + bytes(padding), PADDED)
        if draw.draw(st.booleans()):
            wire += frame(PING, 0, 0, b"pingpong") + frame(99, 1, 1, b"unknown")
    wire += peer.trailers()
    for piece in cut(wire, draw):
        peer.http2.receive(piece)
    assert peer.messages == bodies
    assert peer.ends == [(0, "", None)]
    assert not peer.http2.calls


def cut(stream: bytes, draw: Any) -> list[bytes]:
    places = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@given(st.binary(max_size=400))
def test_any_bytes_are_processed_or_a_protocol_error(noise: bytes) -> None:
    peer = Peer()
    with contextlib.suppress(ProtocolError):
        peer.http2.receive(peer.headers(OK_HEADERS) + noise)
    for code, _text, error in peer.ends:
        assert code != Code.OK or error is None


def test_received_bytes_are_given_back_with_window_updates() -> None:
    peer = Peer()
    peer.http2.receive(peer.headers(OK_HEADERS))
    owed = {0: 0, 1: 0}
    for _ in range(1200):
        peer.http2.receive(data(message(b"x" * 16_000)))
        for kind, _flags, number, body in peer.sent():
            assert kind == WINDOW_UPDATE
            owed[number] += struct.unpack(">I", body)[0]
    received = 1200 * 16_005
    assert received - CONNECTION_WINDOW // 2 < owed[0] <= received
    assert received - STREAM_WINDOW // 2 < owed[1] <= received


def test_data_of_an_ended_call_is_given_back_to_the_connections_window() -> None:
    peer = Peer()
    peer.http2.cancel(peer.calls[0])
    assert peer.sent() == [(RST_STREAM, 0, 1, struct.pack(">I", 8))]
    for _ in range(600):
        peer.http2.receive(data(b"x" * 16_000))
    assert (WINDOW_UPDATE, 0) in {(kind, number) for kind, _flags, number, _body in peer.sent()}
    assert (peer.messages, peer.ends) == ([], [])


def test_a_message_over_the_limit_ends_its_call_as_soon_as_its_length_is_known() -> None:
    peer = Peer(calls=2)
    peer.http2.receive(peer.headers(OK_HEADERS) + data(MESSAGE.pack(0, MAX_MESSAGE + 1)))
    assert [(code, error) for code, _text, error in peer.ends] == [(Code.RESOURCE_EXHAUSTED, None)]
    assert peer.sent() == [(RST_STREAM, 0, 1, struct.pack(">I", 8))]
    assert list(peer.http2.calls) == [3]


def test_a_compressed_message_ends_its_call() -> None:
    peer = Peer()
    peer.http2.receive(peer.headers(OK_HEADERS) + data(MESSAGE.pack(1, 3) + b"abc"))
    assert peer.ends[0][0] == Code.INTERNAL
    assert peer.messages == []


def test_an_error_of_the_receiver_ends_its_call_and_no_other() -> None:
    peer = Peer()
    trouble = LookupError("mine")

    def fails(body: bytes) -> None:
        raise trouble

    peer.calls[0].on_message = fails
    peer.http2.receive(peer.headers(OK_HEADERS) + data(message(b"a") + message(b"b")))
    assert peer.ends == [(Code.CANCELLED, "", trouble)]
    assert peer.http2.can_begin(1)


def test_a_receiver_that_cancels_its_call_receives_nothing_more() -> None:
    peer = Peer()
    call = peer.calls[0]

    def once(body: bytes) -> None:
        peer.messages.append(body)
        peer.http2.cancel(call)

    call.on_message = once
    peer.http2.receive(peer.headers(OK_HEADERS) + data(message(b"a") + message(b"b"), END_STREAM))
    assert (peer.messages, peer.ends) == ([b"a"], [])


# -- ends of calls --------------------------------------------------------------------------------------


def test_the_status_and_its_text_come_from_the_trailers() -> None:
    peer = Peer()
    peer.http2.receive(peer.headers(OK_HEADERS) + peer.trailers(5, "no%20such%20r%C3%BCn"))
    assert peer.ends == [(5, "no such rün", None)]


def test_a_response_can_be_trailers_only() -> None:
    peer = Peer()
    fields = [*OK_HEADERS, ("grpc-status", "16")]
    peer.http2.receive(peer.headers(fields, END_HEADERS | END_STREAM))
    assert peer.ends == [(16, "", None)]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("401", Code.UNAUTHENTICATED),
        ("403", Code.PERMISSION_DENIED),
        ("404", Code.UNIMPLEMENTED),
        ("429", Code.UNAVAILABLE),
        ("502", Code.UNAVAILABLE),
        ("503", Code.UNAVAILABLE),
        ("504", Code.UNAVAILABLE),
        ("301", Code.UNKNOWN),
        ("200", Code.UNKNOWN),
    ],
)
def test_a_response_that_is_not_grpc_has_the_code_of_its_http_status(status: str, code: Code) -> None:
    peer = Peer()
    peer.http2.receive(peer.headers([(":status", status), ("content-type", "text/html")]) + data(b"<html>"))
    assert [end[0] for end in peer.ends] == [code]


def test_informational_headers_are_ignored() -> None:
    peer = Peer()
    peer.http2.receive(peer.headers([(":status", "100")]) + peer.headers(OK_HEADERS) + peer.trailers())
    assert peer.ends == [(0, "", None)]


@pytest.mark.parametrize(
    "ending",
    [
        lambda peer: data(message(b"a"), END_STREAM),
        lambda peer: data(message(b"abc")[:-1]) + peer.trailers(),
        lambda peer: data(b"", END_STREAM),
    ],
    ids=["no trailers", "half a message", "nothing"],
)
def test_an_end_without_a_status_or_within_a_message_is_an_error(ending: Any) -> None:
    peer = Peer()
    peer.http2.receive(peer.headers(OK_HEADERS) + ending(peer))
    assert [end[0] for end in peer.ends] == [Code.INTERNAL]


@pytest.mark.parametrize(
    ("why", "code", "refused"),
    [
        (0, Code.INTERNAL, False),
        (2, Code.INTERNAL, False),
        (7, Code.UNAVAILABLE, True),
        (8, Code.CANCELLED, False),
        (11, Code.RESOURCE_EXHAUSTED, False),
        (12, Code.PERMISSION_DENIED, False),
    ],
)
def test_a_reset_ends_its_call_alone(why: int, code: Code, refused: bool) -> None:
    peer = Peer(calls=2)
    peer.http2.receive(frame(RST_STREAM, 0, 1, struct.pack(">I", why)))
    assert [end[0] for end in peer.ends] == [code]
    assert peer.calls[0].refused is refused
    assert list(peer.http2.calls) == [3]


def test_goaway_refuses_later_calls_and_lets_earlier_ones_finish() -> None:
    peer = Peer(calls=3)
    peer.http2.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
    assert [call.refused for call in peer.calls] == [False, True, True]
    assert [end[0] for end in peer.ends] == [Code.UNAVAILABLE] * 2
    assert not peer.http2.can_begin(1)
    peer.http2.receive(peer.headers(OK_HEADERS) + data(message(b"still")) + peer.trailers())
    assert peer.messages == [b"still"]
    assert peer.ends[-1] == (0, "", None)


def test_goaway_for_too_many_pings_is_remembered() -> None:
    peer = Peer()
    peer.http2.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 11) + b"too_many_pings"))
    assert peer.http2.goaway_reason == "too_many_pings"


def test_headers_in_several_frames_are_joined() -> None:
    peer = Peer()
    block = peer.encoder.encode([*OK_HEADERS, ("x", "y" * 500)])
    peer.http2.receive(
        frame(HEADERS, PADDED | PRIORITY, 1, b"\x03" + b"\0" * 5 + block[:10] + b"\0" * 3)
        + frame(CONTINUATION, 0, 1, block[10:20])
        + frame(CONTINUATION, END_HEADERS, 1, block[20:])
        + peer.trailers()
    )
    assert peer.ends == [(0, "", None)]


def test_a_ping_is_answered_and_an_acknowledgement_is_not() -> None:
    peer = Peer()
    peer.http2.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"stream-p"))
    assert peer.sent() == [(PING, ACK, 0, b"12345678")]


# -- protocol violations -----------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, 0, 1, b"") + frame(DATA, 0, 1, b"x"),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 3, b""),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"x" * 16_000) * 5,
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"),
        frame(DATA, PADDED, 1, b""),
        frame(SETTINGS, 0, 0, b"123"),
        frame(RST_STREAM, 0, 1, b"1"),
        frame(GOAWAY, 0, 0, b"1"),
        frame(WINDOW_UPDATE, 0, 0, b"1"),
        FRAME.pack(0x100, 0, DATA, 0, 1),
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n",
    ],
)
def test_a_violation_of_the_protocol_is_an_error(bad: bytes) -> None:
    with pytest.raises(ProtocolError):
        Peer().http2.receive(bad)


def test_a_peer_that_does_not_begin_with_settings_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        Http2(MAX_MESSAGE).receive(frame(PING, 0, 0, b"12345678"))


def test_a_status_of_thousands_of_digits_is_an_unknown_status() -> None:
    wire = Peer()
    wire.http2.receive(wire.headers([("grpc-status", "9" * 6000)], END_HEADERS | END_STREAM))
    [(code, _, error)] = wire.ends
    assert (code, error) == (2, None)
