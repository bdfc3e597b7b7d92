"""Frames to bytes."""

from __future__ import annotations

from proxy.formats import sse


def test_a_frame_is_id_event_data_and_an_empty_line() -> None:
    assert sse.frame(b"{}", event="token", cursor=b"7") == b"id: 7\nevent: token\ndata: {}\n\n"
    assert sse.frame(b'"x"') == b'data: "x"\n\n'


def test_retry_is_whole_milliseconds() -> None:
    assert sse.retry(2.5) == b"retry: 2500\n"
    assert sse.retry(0) == b"retry: 1\n"
