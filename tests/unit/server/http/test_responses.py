"""What an Accept header asks for: a stream, a document, or a short answer."""

from __future__ import annotations

import pytest

from proxy.server.http.responses import accepts_event_stream, draining, quality, wait

JSON = "application/json"


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        (None, True),
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("*/*", True),
        ("application/json, */*;q=0.1", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.000", False),
        ("*/*;q=0, application/json", False),
        ("text/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_a_client_gets_a_stream_unless_its_accept_header_excludes_it(
    accept: str | None, streams: bool
) -> None:
    assert accepts_event_stream(accept) is streams


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", 1.0),
        ("application/json;q=0.5", 0.5),
        ("application/json;q=0.2, APPLICATION/JSON; q=0.8", 0.8),
        ("application/json;q=2", 1.0),
        ("application/json;charset=utf-8", 1.0),
        ("*/*", 0.0),
        ("", 0.0),
    ],
)
def test_the_quality_of_a_type_is_the_best_that_its_name_is_given(accept: str, expected: float) -> None:
    assert quality(accept, JSON) == expected


@pytest.mark.parametrize(
    ("accept", "cause", "status"),
    [(None, "limit", 200), ("*/*", "hatchet", 200), (JSON, "hatchet", 503), (JSON, "limit", 429)],
)
def test_a_client_waits_by_a_frame_if_it_reads_streams_and_else_by_a_status(
    accept: str | None, cause: str, status: int
) -> None:
    answer = wait(cause, accept, 3.0, "why")
    assert answer.status == status
    assert (b"event: stream.wait" in answer.body) is (status == 200)
    assert (b"retry-after" in dict(answer.headers)) is (status != 200)


def test_a_request_that_a_drain_interrupts_can_be_sent_again() -> None:
    assert draining().status == 200
    assert b"event: stream.drain" in draining().body
    document = draining(document=True)
    assert (document.status, dict(document.headers)[b"retry-after"]) == (503, b"1")
