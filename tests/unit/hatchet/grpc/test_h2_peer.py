"""The own HTTP/2 client against python-hyper's h2, which shares no code with it and validates what it gets.

`test_http2.py` and the embedded engine build their frames with `proxy.hatchet.grpc.frames` itself: an error
there would be the same on both sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    PingAckReceived,
    RemoteSettingsChanged,
    SettingsAcknowledged,
    StreamReset,
)
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from proxy.hatchet.endpoint import endpoint
from proxy.hatchet.errors import BadChunk, HatchetAway, MessageTooLarge, RunUnknown
from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.frames import ProtocolError
from proxy.hatchet.grpc.http2 import Http2
from proxy.hatchet.grpc.pool import ATTEMPTS, ConnectionPool
from proxy.hatchet.grpc.status import Code
from tests.support.h2_peer import GRPC_HEADERS, H2Peer, exchange, framed, h2_server, unframed
from tests.support.hatchet_server import config

MAX_MESSAGE = 4 * 1024 * 1024
MIB = 1024 * 1024
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "engine:7070"),
    (":path", "/Dispatcher/SubscribeToWorkflowEvents"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("authorization", "bearer " + "t" * 300),
]


class Pair:
    """A client and its peer after both sides' settings; each call has its messages and its end."""

    def __init__(
        self, settings: Mapping[SettingCodes, int] | None = None, max_message: int = MAX_MESSAGE
    ) -> None:
        self.client, self.peer = Http2(max_message), H2Peer(settings)
        self.messages: dict[int, list[bytes]] = {}
        self.ends: dict[int, tuple[int, str, Exception | None]] = {}
        self.exchange()

    def exchange(self) -> None:
        exchange(self.client, self.peer)

    def begin(self, request: bytes = b"request") -> Call:
        """Begin a call; the peer has received it and answered with headers, but with no message."""
        call = self.ask(request)
        self.exchange()
        self.peer.h2.send_headers(call.number, GRPC_HEADERS)
        self.exchange()
        return call

    def ask(self, request: bytes = b"request") -> Call:
        """Begin a call that the peer does not answer."""
        messages: list[bytes] = []
        call = Call(messages.append, lambda *end: self.ends.update({call.number: end}))
        self.client.begin(tuple(REQUEST), request, call)
        self.messages[call.number] = messages
        return call


# -- requests -------------------------------------------------------------------------------------


def test_the_peer_reads_a_request_as_it_was_sent() -> None:
    pair = Pair()
    call = pair.begin(b"a run id")
    assert pair.peer.requests[call.number] == dict(REQUEST)
    assert unframed(pair.peer.bodies[call.number]) == [b"a run id"]
    assert pair.peer.ended == [call.number]


def test_both_sides_acknowledge_the_settings_and_the_peer_knows_the_clients_windows() -> None:
    pair = Pair()
    assert pair.peer.of(SettingsAcknowledged)
    changed = pair.peer.of(RemoteSettingsChanged)
    assert pair.peer.h2.remote_settings.enable_push == 0
    assert pair.peer.h2.remote_settings.initial_window_size == frames.STREAM_WINDOW
    assert pair.peer.h2.outbound_flow_control_window == frames.CONNECTION_WINDOW
    assert len(changed) == 1


def test_requests_stop_when_the_peers_window_is_used_up_and_go_on_when_it_is_given_back() -> None:
    pair = Pair()
    sent = 0
    while pair.client.can_begin(4000):
        pair.ask(b"x" * 4000)
        sent += 1
    assert sent == 65_535 // 4005
    pair.exchange()  # h2 would raise a FlowControlError for a byte too many
    assert len(pair.peer.ended) == sent
    assert pair.client.can_begin(4000)


def test_a_hundred_requests_reuse_the_header_table() -> None:
    pair = Pair()
    for _ in range(100):
        call = pair.begin()
        pair.peer.trailers(call.number)
        pair.exchange()
    assert {tuple(headers.items()) for headers in pair.peer.requests.values()} == {tuple(REQUEST)}
    assert set(pair.ends.values()) == {(0, "", None)}


# -- responses ------------------------------------------------------------------------------------


def test_a_large_message_in_many_frames_arrives_whole() -> None:
    pair = Pair()
    call = pair.begin()
    body = bytes(range(256)) * (3 * MIB // 256)
    pair.peer.send(call.number, framed(body))
    pair.exchange()
    assert pair.messages[call.number] == [body]
    pair.peer.trailers(call.number)
    pair.exchange()
    assert pair.ends[call.number] == (0, "", None)


def test_the_peers_window_is_never_used_up_for_good() -> None:
    pair = Pair()
    calls = [pair.begin() for _ in range(3)]
    for _ in range(40):  # 40 MiB: the connection's window twice over, each stream's thirteen times
        for call in calls:
            pair.peer.send(call.number, framed(b"x" * (MIB // 3)))
        pair.exchange()
    assert [len(pair.messages[call.number]) for call in calls] == [40] * 3


def test_padding_and_empty_frames_count_for_the_window_and_not_for_the_message() -> None:
    pair = Pair()
    call = pair.begin()
    for index in range(4 * MIB // 260):  # padding alone is more than the stream's window
        pair.peer.send(call.number, framed(b"%d" % index), pad=255)
        pair.peer.send(call.number, b"")
        pair.exchange()
    assert pair.messages[call.number] == [b"%d" % index for index in range(4 * MIB // 260)]


def test_padded_frames_are_given_back_to_the_connections_window() -> None:
    pair = Pair()
    call = pair.begin()
    for _ in range(20):  # 20 MiB: more than the connection's window
        pair.peer.send(call.number, framed(b"x" * MIB), frame=16_000, pad=255)
        pair.exchange()
    assert [len(message) for message in pair.messages[call.number]] == [MIB] * 20


def test_data_of_cancelled_calls_does_not_use_up_the_connections_window() -> None:
    pair = Pair()
    for _ in range(40):
        call = pair.begin()
        pair.peer.send(call.number, framed(b"x" * (MIB // 2)))
        response = pair.peer.flush()  # on its way while the client cancels
        pair.client.cancel(call)
        pair.client.receive(response)
        pair.exchange()
        assert pair.messages[call.number] == []
    assert pair.peer.h2.outbound_flow_control_window >= frames.CONNECTION_WINDOW // 2


@given(st.data())
def test_messages_of_interleaved_calls_arrive_in_their_order(draw: Any) -> None:
    pair = Pair()
    calls = [pair.begin() for _ in range(draw.draw(st.integers(1, 4)))]
    sent: dict[int, list[bytes]] = {call.number: [] for call in calls}
    for _ in range(draw.draw(st.integers(0, 12))):
        number = draw.draw(st.sampled_from(sorted(sent)))
        message = draw.draw(st.binary(max_size=200)) * draw.draw(st.sampled_from([1, 1, 300]))
        sent[number].append(message)
        frame = draw.draw(st.sampled_from([1, 3, 7, 1000, 16_384]))
        if len(message) > 1000:
            frame = max(frame, 1000)
        pad = draw.draw(st.none() | st.integers(0, min(255, 16_384 - frame - 1) if frame < 16_384 else 0))
        pair.peer.send(number, framed(message), frame=frame if pad is None else min(frame, 16_000), pad=pad)
        if draw.draw(st.booleans()):
            pair.peer.h2.ping(b"01234567")
        if draw.draw(st.booleans()):
            pair.exchange()
    pair.exchange()
    for call in calls:
        pair.peer.trailers(call.number)
    pair.exchange()
    assert pair.messages == sent
    assert pair.ends == dict.fromkeys(sent, (0, "", None))


def test_headers_that_continue_in_further_frames_are_joined() -> None:
    pair = Pair()
    call = pair.ask()
    pair.exchange()
    pair.peer.h2.send_headers(call.number, [*GRPC_HEADERS, *((f"x-{n}", "v" * 1000) for n in range(40))])
    wire = pair.peer.flush()
    assert wire.count(b"\x09\x04\x00\x00\x00\x01") == 1, "the headers should end in a CONTINUATION frame"
    for at in range(0, len(wire), 5000):  # frames split over several reads
        pair.client.receive(wire[at : at + 5000])
    pair.peer.trailers(call.number, 5, "no%20such%20run")
    pair.exchange()
    assert pair.ends[call.number] == (5, "no such run", None)


def test_headers_without_end_are_a_protocol_error() -> None:
    pair = Pair()
    call = pair.ask()
    pair.exchange()
    pair.peer.h2.send_headers(call.number, [*GRPC_HEADERS, *((f"x-{n}", "v" * 1000) for n in range(120))])
    with pytest.raises(ProtocolError, match="too large"):
        pair.client.receive(pair.peer.flush())


def test_a_response_of_trailers_only_has_their_status() -> None:
    pair = Pair()
    call = pair.ask()
    pair.exchange()
    pair.peer.h2.send_headers(call.number, [*GRPC_HEADERS, ("grpc-status", "16")], end_stream=True)
    pair.exchange()
    assert pair.ends == {call.number: (16, "", None)}


def test_informational_headers_come_before_the_response() -> None:
    pair = Pair()
    call = pair.ask()
    pair.exchange()
    pair.peer.h2.send_headers(call.number, [(":status", "103"), ("link", "x")])
    pair.peer.h2.send_headers(call.number, GRPC_HEADERS)
    pair.peer.send(call.number, framed(b"a"))
    pair.exchange()
    assert pair.messages[call.number] == [b"a"]
    assert pair.ends == {}


def test_a_message_over_the_limit_ends_its_call_and_resets_its_stream() -> None:
    pair = Pair(max_message=1000)
    large, small = pair.begin(), pair.begin()
    pair.peer.send(large.number, framed(b"x" * 1001), frame=500)
    pair.peer.send(small.number, framed(b"x" * 1000))
    pair.client.receive(pair.peer.flush())
    pair.exchange()
    assert pair.ends[large.number][0] == Code.RESOURCE_EXHAUSTED
    assert pair.messages[small.number] == [b"x" * 1000]
    assert [(event.stream_id, event.error_code) for event in pair.peer.of(StreamReset)] == [
        (large.number, ErrorCodes.CANCEL)
    ]


# -- resets, GOAWAY, settings, pings ---------------------------------------------------------------


def test_a_cancelled_call_is_a_reset_and_the_connection_goes_on() -> None:
    pair = Pair()
    first, second = pair.begin(), pair.begin()
    pair.client.cancel(first)
    pair.exchange()
    assert [(event.stream_id, event.error_code) for event in pair.peer.of(StreamReset)] == [
        (first.number, ErrorCodes.CANCEL)
    ]
    pair.peer.send(second.number, framed(b"still here"))
    pair.exchange()
    assert pair.messages[second.number] == [b"still here"]
    assert first.number not in pair.ends


@pytest.mark.parametrize(
    ("why", "code", "refused"),
    [
        (ErrorCodes.REFUSED_STREAM, Code.UNAVAILABLE, True),
        (ErrorCodes.CANCEL, Code.CANCELLED, False),
        (ErrorCodes.ENHANCE_YOUR_CALM, Code.RESOURCE_EXHAUSTED, False),
        (ErrorCodes.INADEQUATE_SECURITY, Code.PERMISSION_DENIED, False),
        (ErrorCodes.INTERNAL_ERROR, Code.INTERNAL, False),
    ],
)
def test_a_reset_of_the_peer_ends_its_call_alone(why: ErrorCodes, code: Code, refused: bool) -> None:
    pair = Pair()
    reset, other = pair.begin(), pair.begin()
    pair.peer.h2.reset_stream(reset.number, why)
    pair.peer.send(other.number, framed(b"a"))
    pair.exchange()
    assert pair.ends[reset.number][0] == code
    assert reset.refused is refused
    assert (pair.messages[other.number], other.open) == ([b"a"], True)


def test_goaway_ends_the_calls_after_its_last_stream_as_refused() -> None:
    pair = Pair()
    calls = [pair.ask() for _ in range(3)]
    pair.exchange()
    pair.peer.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings", calls[0].number)
    pair.client.receive(pair.peer.h2.data_to_send())
    assert [call.refused for call in calls] == [False, True, True]
    assert [call.open for call in calls] == [True, False, False]
    assert not pair.client.can_begin(1)
    assert pair.client.goaway_reason == frames.TOO_MANY_PINGS


def test_settings_that_change_later_are_acknowledged_and_respected() -> None:
    pair = Pair()
    pair.begin()
    before = len(pair.peer.of(SettingsAcknowledged))
    pair.peer.h2.update_settings(
        {SettingCodes.MAX_CONCURRENT_STREAMS: 1, SettingCodes.INITIAL_WINDOW_SIZE: 100}
    )
    pair.exchange()
    assert len(pair.peer.of(SettingsAcknowledged)) == before + 1
    assert not pair.client.can_begin(10)
    pair.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    pair.exchange()
    assert pair.client.can_begin(95)
    assert not pair.client.can_begin(96)
    pair.begin(b"x" * 95)


@pytest.mark.parametrize("size", [0, 100, 65_536])
def test_the_header_table_may_have_any_size(size: int) -> None:
    pair = Pair()
    pair.begin()
    pair.peer.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
    pair.exchange()
    for _ in range(3):
        call = pair.begin()
        assert pair.peer.requests[call.number] == dict(REQUEST)


def test_pings_of_both_sides_are_answered() -> None:
    pair = Pair()
    pair.peer.h2.ping(b"01234567")
    pair.client.ping()
    pair.exchange()
    assert [event.ping_data for event in pair.peer.of(PingAckReceived)] == [b"01234567"]


# -- the pool, over sockets -----------------------------------------------------------------------


def respond(peer: H2Peer, stream: int, *messages: bytes) -> None:
    """Send a whole response that is smaller than the client's window."""
    peer.h2.send_headers(stream, GRPC_HEADERS)
    for message in messages:
        peer.h2.send_data(stream, framed(message))
    peer.trailers(stream)


async def test_the_pool_calls_and_subscribes() -> None:
    def handler(peer: H2Peer, stream: int) -> None:
        if peer.requests[stream][":path"] == "/a/unary":
            respond(peer, stream, b"answer to " + unframed(peer.bodies[stream])[0])
        else:
            respond(peer, stream, *(b"%d" % index for index in range(1000)))

    async with h2_server(handler) as server:
        pool = ConnectionPool(endpoint(config(host_port=server.host_port), {}))
        assert await pool.unary("/a/unary", b"question", "a", 10) == b"answer to question"
        received: list[bytes] = []
        await pool.server_stream("/a/stream", b"", "a", received.append)
        assert received == [b"%d" % index for index in range(1000)]
        assert len(server.connections) == 1
        headers = server.connections[0].peer.requests[1]
        assert (headers["te"], headers["content-type"]) == ("trailers", "application/grpc")
        assert headers["authorization"].startswith("bearer ey")
        assert headers["grpc-timeout"] == "10000m"
        assert "grpc-timeout" not in server.connections[0].peer.requests[3]
        await pool.close()


async def test_calls_beyond_the_peers_limit_go_over_further_connections() -> None:
    arrived: list[tuple[H2Peer, int]] = []
    all_arrived = asyncio.Event()

    def handler(peer: H2Peer, stream: int) -> None:
        arrived.append((peer, stream))
        if len(arrived) == 5:
            all_arrived.set()

    async with h2_server(handler, {SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as server:
        pool = ConnectionPool(endpoint(config(host_port=server.host_port), {}))
        calls = [asyncio.create_task(pool.server_stream("/a/b", b"", "a", lambda _: None)) for _ in range(5)]
        await all_arrived.wait()
        assert sorted(len(one.peer.requests) for one in server.connections) == [1, 2, 2]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await pool.close()


async def test_a_refused_stream_is_tried_again_and_no_more_than_the_limit() -> None:
    refusals = [1]

    def handler(peer: H2Peer, stream: int) -> None:
        if refusals[0]:
            refusals[0] -= 1
            peer.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        else:
            respond(peer, stream, b"ok")

    async with h2_server(handler) as server:
        pool = ConnectionPool(endpoint(config(host_port=server.host_port), {}))
        assert await pool.unary("/a/b", b"", "a", 10) == b"ok"
        refusals[0] = ATTEMPTS
        with pytest.raises(HatchetAway):
            await pool.unary("/a/b", b"", "a", 10)
        assert refusals[0] == 0
        await pool.close()


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (5, "workflow run not found", RunUnknown),
        (13, "grpc: error while marshaling: string field contains invalid UTF-8", BadChunk),
        (14, "", HatchetAway),
    ],
)
async def test_trailers_only_are_the_error_of_their_status(
    status: int, text: str, error: type[Exception]
) -> None:
    def handler(peer: H2Peer, stream: int) -> None:
        fields = [*GRPC_HEADERS, ("grpc-status", str(status)), ("grpc-message", text)]
        peer.h2.send_headers(stream, fields, end_stream=True)

    async with h2_server(handler) as server:
        pool = ConnectionPool(endpoint(config(host_port=server.host_port), {}))
        with pytest.raises(error):
            await pool.unary("/a/b", b"", "a", 10)
        await pool.close()


async def test_after_goaway_the_next_call_uses_a_new_connection() -> None:
    def handler(peer: H2Peer, stream: int) -> None:
        if len(server.connections) == 1:
            peer.h2.close_connection(last_stream_id=0)
        else:
            respond(peer, stream, b"ok")

    async with h2_server(handler) as server:
        pool = ConnectionPool(endpoint(config(host_port=server.host_port), {}))
        assert await pool.unary("/a/b", b"", "a", 10) == b"ok"
        assert len(server.connections) == 2
        await pool.close()


async def test_a_message_over_the_limit_is_its_calls_error_and_the_connection_is_used_again() -> None:
    def handler(peer: H2Peer, stream: int) -> None:
        respond(peer, stream, b"x" * (2000 if stream == 1 else 10))

    async with h2_server(handler) as server:
        at = endpoint(config(host_port=server.host_port, max_message=1000), {})
        pool = ConnectionPool(at)
        with pytest.raises(MessageTooLarge):
            await pool.unary("/a/b", b"", "a", 10)
        assert await pool.unary("/a/b", b"", "a", 10) == b"x" * 10
        assert len(server.connections) == 1
        await pool.close()
