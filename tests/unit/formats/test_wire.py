"""What each format fixes: headers, frames, and the frames that a client gets at its end."""

from __future__ import annotations

import pytest

from proxy.core.events import GapCause, Reset, StepGap
from proxy.formats import sse
from proxy.formats.machine import Sent
from proxy.formats.sse import Sse
from proxy.formats.wire import NAMED, WIRES, wire_of
from tests.support.formats import chunk


def test_sse_as_a_machine_writes_the_frames_of_today() -> None:
    machine, wire = Sse(), NAMED
    gap = StepGap(GapCause.BACKLOG, "answer", 1, 2)
    blocks = machine.message(chunk("answer", "a"), Sent("token", b'"a"'))
    blocks += machine.message(chunk("answer", "a"), Sent("", b'"a"'))
    blocks += machine.control(Reset("answer", 2)) + machine.control(gap) + machine.end("completed")
    assert [wire.frame(block, b"c") for block in blocks] == [
        sse.frame(b'"a"', event="token", cursor=b"c"),
        sse.frame(b'"a"', cursor=b"c"),
        sse.control("reset", Reset("answer", 2).data, cursor=b"c"),
        sse.control("gap", gap.data, cursor=b"c"),
        sse.control("end", {"status": "completed"}, cursor=b"c"),
    ]


def test_without_control_frames_sse_sends_messages_alone() -> None:
    machine, wire = Sse(controls=False), wire_of("sse", controls=False)
    assert machine.control(Reset("answer", 2)) == []
    assert machine.end("completed") == []
    assert wire.notice("expired", {}) == b""
    assert wire.notice("drain", {}, 1.0) == b"retry: 1000\n"
    assert wire.gap({}, b"c") == b""


@pytest.mark.parametrize("name", ["ai-sdk", "ag-ui", "openai"])
def test_a_client_of_a_protocol_receives_nothing_that_the_protocol_does_not_know(name: str) -> None:
    wire = WIRES[name]
    assert wire.notice("drain", {}, 1.5) == b"retry: 1500\n"
    assert wire.notice("expired", {}) == b""
    assert wire.frame(b"data: {}", b"c") == b"id: c\ndata: {}\n\n"


def test_text_has_no_frames_no_heartbeat_and_no_reconnect_time() -> None:
    wire = WIRES["text"]
    assert (wire.heartbeat, wire.opening(3.0), wire.frame(b"a", b"c")) == (b"", b"", b"a")
    assert (b"content-type", b"text/plain; charset=utf-8") in wire.headers


def test_the_ui_message_stream_says_what_it_is() -> None:
    assert (b"x-vercel-ai-ui-message-stream", b"v1") in WIRES["ai-sdk"].headers
