"""A client's side of one HTTP/2 connection: bytes in, bytes and outcomes out; nothing hangs or guesses."""

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
    Fault,
    frame,
    settings,
)
from proxy.hatchet.grpc.http2 import Http2
from proxy.hatchet.grpc.status import Code

OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
MAX_MESSAGE = 100_000


class Scene:
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
        self.http2.begin([(":method", "POST"), ("authorization", "bearer t")], b"request", call)
        return call

    def headers(self, headers: list[tuple[str, str]], flags: int = END_HEADERS, stream: int = 1) -> bytes:
        return frame(HEADERS, flags, stream, self.encoder.encode(headers))

    def trailers(self, status: int = 0, text: str = "", stream: int = 1) -> bytes:
        told = [("grpc-status", str(status)), ("grpc-message", text)]
        return self.headers(told, END_HEADERS | END_STREAM, stream)

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


def test_the_greeting_is_the_preface_our_settings_and_a_wide_window() -> None:
    greeting = Http2(MAX_MESSAGE).take()
    assert greeting.startswith(PREFACE)
    assert parsed(greeting[len(PREFACE) :]) == [
        (SETTINGS, 0, 0, settings({frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW})),
        (WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW - 65_535)),
    ]


def test_there_is_no_room_before_the_servers_settings() -> None:
    http2 = Http2(MAX_MESSAGE)
    http2.take()
    assert not http2.has_room(10)
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.MAX_CONCURRENT_STREAMS: 1})))
    assert http2.has_room(10)
    assert parsed(http2.take())[-1] == (SETTINGS, ACK, 0, b"")


def test_a_request_is_sent_whole() -> None:
    http2 = Http2(MAX_MESSAGE)
    http2.receive(frame(SETTINGS, 0, 0, b""))
    http2.take()
    http2.begin([(":path", "/x/y")], b"request", Call(lambda m: None, lambda *end: None))
    (headers, body) = parsed(http2.take())
    assert headers[:3] == (HEADERS, END_HEADERS, 1)
    assert [(str(n), str(v)) for n, v in Decoder().decode(headers[3])] == [(":path", "/x/y")]
    assert body == (DATA, END_STREAM, 1, message(b"request"))


def test_the_servers_limit_of_calls_and_its_windows_are_kept() -> None:
    scene = Scene()
    http2 = scene.http2
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.MAX_CONCURRENT_STREAMS: 1})))
    assert not http2.has_room(1)
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.MAX_CONCURRENT_STREAMS: 9})))
    assert http2.has_room(1)
    http2.receive(frame(SETTINGS, 0, 0, settings({frames.INITIAL_WINDOW_SIZE: 100})))
    assert http2.has_room(95)
    assert not http2.has_room(96)


def test_the_connections_send_window_runs_out_and_is_given_back() -> None:
    scene = Scene(calls=0)
    while scene.http2.has_room(4000):
        call = scene.begin()
        scene.http2.begin([], b"x" * 4000, call)
    scene.http2.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1_000_000)))
    assert scene.http2.has_room(4000)


# -- messages -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_come_out_as_sent_however_frames_and_reads_cut_them(bodies: list[bytes], draw: Any) -> None:
    scene = Scene()
    stream = b"".join(message(body) for body in bodies)
    wire = scene.headers(OK_HEADERS)
    for piece in cut(stream, draw):
        padding = draw.draw(st.none() | st.integers(0, 9))
        if padding is None:
            wire += data(piece)
        else:
            wire += data(bytes([padding]) + piece + bytes(padding), PADDED)
        if draw.draw(st.booleans()):
            wire += frame(PING, 0, 0, b"pingpong") + frame(99, 1, 1, b"unknown")
    wire += scene.trailers()
    for piece in cut(wire, draw):
        scene.http2.receive(piece)
    assert scene.messages == bodies
    assert scene.ends == [(0, "", None)]
    assert not scene.http2.calls


def cut(stream: bytes, draw: Any) -> list[bytes]:
    places = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@given(st.binary(max_size=400))
def test_any_bytes_are_taken_or_a_fault_and_nothing_else(noise: bytes) -> None:
    scene = Scene()
    with contextlib.suppress(Fault):
        scene.http2.receive(scene.headers(OK_HEADERS) + noise)
    for code, _text, error in scene.ends:
        assert code != Code.OK or error is None


def test_what_was_received_is_given_back_as_window() -> None:
    scene = Scene()
    scene.http2.receive(scene.headers(OK_HEADERS))
    owed = {0: 0, 1: 0}
    for _ in range(1200):
        scene.http2.receive(data(message(b"x" * 16_000)))
        for kind, _flags, number, body in scene.sent():
            assert kind == WINDOW_UPDATE
            owed[number] += struct.unpack(">I", body)[0]
    received = 1200 * 16_005
    assert received - CONNECTION_WINDOW // 2 < owed[0] <= received
    assert received - STREAM_WINDOW // 2 < owed[1] <= received


def test_data_of_a_call_that_is_over_still_gives_its_window_back() -> None:
    scene = Scene()
    scene.http2.cancel(scene.calls[0])
    assert scene.sent() == [(RST_STREAM, 0, 1, struct.pack(">I", 8))]
    for _ in range(600):
        scene.http2.receive(data(b"x" * 16_000))
    assert (WINDOW_UPDATE, 0) in {(kind, number) for kind, _flags, number, _body in scene.sent()}
    assert (scene.messages, scene.ends) == ([], [])


def test_a_message_over_the_limit_ends_its_call_as_soon_as_its_length_is_known() -> None:
    scene = Scene(calls=2)
    scene.http2.receive(scene.headers(OK_HEADERS) + data(MESSAGE.pack(0, MAX_MESSAGE + 1)))
    assert [(code, error) for code, _text, error in scene.ends] == [(Code.RESOURCE_EXHAUSTED, None)]
    assert scene.sent() == [(RST_STREAM, 0, 1, struct.pack(">I", 8))]
    assert list(scene.http2.calls) == [3]


def test_a_compressed_message_ends_its_call() -> None:
    scene = Scene()
    scene.http2.receive(scene.headers(OK_HEADERS) + data(MESSAGE.pack(1, 3) + b"abc"))
    assert scene.ends[0][0] == Code.INTERNAL
    assert scene.messages == []


def test_an_error_of_the_receiver_ends_the_call_with_it_and_leaves_the_rest() -> None:
    scene = Scene()
    trouble = LookupError("mine")

    def fails(body: bytes) -> None:
        raise trouble

    scene.calls[0].on_message = fails
    scene.http2.receive(scene.headers(OK_HEADERS) + data(message(b"a") + message(b"b")))
    assert scene.ends == [(Code.CANCELLED, "", trouble)]
    assert scene.http2.has_room(1)


def test_a_receiver_that_cancels_its_call_gets_nothing_more() -> None:
    scene = Scene()
    call = scene.calls[0]

    def once(body: bytes) -> None:
        scene.messages.append(body)
        scene.http2.cancel(call)

    call.on_message = once
    scene.http2.receive(scene.headers(OK_HEADERS) + data(message(b"a") + message(b"b"), END_STREAM))
    assert (scene.messages, scene.ends) == ([b"a"], [])


# -- endings --------------------------------------------------------------------------------------


def test_the_status_and_its_text_come_from_the_trailers() -> None:
    scene = Scene()
    scene.http2.receive(scene.headers(OK_HEADERS) + scene.trailers(5, "no%20such%20r%C3%BCn"))
    assert scene.ends == [(5, "no such rün", None)]


def test_a_refusal_can_be_headers_alone() -> None:
    scene = Scene()
    told = [*OK_HEADERS, ("grpc-status", "16")]
    scene.http2.receive(scene.headers(told, END_HEADERS | END_STREAM))
    assert scene.ends == [(16, "", None)]


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
def test_an_answer_that_is_no_grpc_is_what_its_http_status_says(status: str, code: Code) -> None:
    scene = Scene()
    scene.http2.receive(scene.headers([(":status", status), ("content-type", "text/html")]) + data(b"<html>"))
    assert [end[0] for end in scene.ends] == [code]


def test_informational_headers_are_passed_over() -> None:
    scene = Scene()
    scene.http2.receive(scene.headers([(":status", "100")]) + scene.headers(OK_HEADERS) + scene.trailers())
    assert scene.ends == [(0, "", None)]


@pytest.mark.parametrize(
    "ending",
    [
        lambda scene: data(message(b"a"), END_STREAM),
        lambda scene: data(message(b"abc")[:-1]) + scene.trailers(),
        lambda scene: data(b"", END_STREAM),
    ],
    ids=["no trailers", "half a message", "nothing"],
)
def test_an_end_without_a_status_or_within_a_message_is_no_ok(ending: Any) -> None:
    scene = Scene()
    scene.http2.receive(scene.headers(OK_HEADERS) + ending(scene))
    assert [end[0] for end in scene.ends] == [Code.INTERNAL]


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
    scene = Scene(calls=2)
    scene.http2.receive(frame(RST_STREAM, 0, 1, struct.pack(">I", why)))
    assert [end[0] for end in scene.ends] == [code]
    assert scene.calls[0].refused is refused
    assert list(scene.http2.calls) == [3]


def test_goaway_refuses_what_was_not_begun_and_lets_the_rest_finish() -> None:
    scene = Scene(calls=3)
    scene.http2.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
    assert [call.refused for call in scene.calls] == [False, True, True]
    assert [end[0] for end in scene.ends] == [Code.UNAVAILABLE] * 2
    assert not scene.http2.has_room(1)
    scene.http2.receive(scene.headers(OK_HEADERS) + data(message(b"still")) + scene.trailers())
    assert scene.messages == [b"still"]
    assert scene.ends[-1] == (0, "", None)


def test_goaway_for_too_many_pings_is_remembered() -> None:
    scene = Scene()
    scene.http2.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 11) + b"too_many_pings"))
    assert scene.http2.farewell == "too_many_pings"


def test_headers_in_pieces_are_put_together() -> None:
    scene = Scene()
    block = scene.encoder.encode([*OK_HEADERS, ("x", "y" * 500)])
    scene.http2.receive(
        frame(HEADERS, PADDED | PRIORITY, 1, b"\x03" + b"\0" * 5 + block[:10] + b"\0" * 3)
        + frame(CONTINUATION, 0, 1, block[10:20])
        + frame(CONTINUATION, END_HEADERS, 1, block[20:])
        + scene.trailers()
    )
    assert scene.ends == [(0, "", None)]


def test_pings_are_answered_and_ours_are_not() -> None:
    scene = Scene()
    scene.http2.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"stream-p"))
    assert scene.sent() == [(PING, ACK, 0, b"12345678")]


# -- peers that do not speak as they should -----------------------------------------------------------


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
def test_what_breaks_the_protocol_is_a_fault(bad: bytes) -> None:
    with pytest.raises(Fault):
        Scene().http2.receive(bad)


def test_a_peer_that_sends_no_settings_first_is_a_fault() -> None:
    with pytest.raises(Fault):
        Http2(MAX_MESSAGE).receive(frame(PING, 0, 0, b"12345678"))
